"""What a builder without a GPU made, carried to a GPU machine: each engine once, the artifacts put together there.

    python -m tests.gpu.carry pack WORKSPACE FOLDER     the manifests of dist/, portable programs and engines
    python -m tests.gpu.carry unpack FOLDER WORKSPACE   dist/ again, each file held against its digest

An engine is in the raw engine and, as text, in the programs for Linux and Windows: carrying what these are made from
takes a quarter of the bytes. What comes out is byte for byte what the builder published, or an error.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_file
from trtbuild.stages.cross_compile import write_windows_program
from trtbuild.stages.linux_program import write_linux_program
from trtbuild.store.local import LocalStore

# The weights in them are those of the engines once more, and they are compared on any machine.
LEFT_OUT = ("onnx",)


def pack(workspace: Path, folder: Path) -> None:
    """Write manifests, and what each compile step gave, below a folder."""
    store = LocalStore(workspace / "cache")
    with store.session() as session:
        for path in sorted((workspace / "dist").rglob("manifest.json")):
            manifest = json.loads(path.read_bytes())
            beside = folder / "dist" / path.parent.relative_to(workspace / "dist")
            beside.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, beside)
            key = _compiled(manifest)
            if key is None or (folder / key).exists():
                continue
            entry = store.get(key)
            assert entry is not None, f"the store lost {key}"
            for name, output in entry.outputs.items():
                source = store.path_of(output, session)
                assert source is not None, f"{name} is damaged"
                (folder / key / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / key / name)


def unpack(folder: Path, workspace: Path) -> None:
    """Put the artifacts together below `dist/` of a workspace. AssertionError where one is not what was published."""
    for path in sorted((folder / "dist").rglob("manifest.json")):
        manifest = json.loads(path.read_bytes())
        beside = workspace / "dist" / path.parent.relative_to(folder / "dist")
        beside.mkdir(parents=True, exist_ok=True)
        key = _compiled(manifest)
        kept = []
        for file in manifest["files"]:
            if file["format"] in LEFT_OUT or key is None:
                continue
            _put_together(manifest, file["format"], folder / key, beside / file["path"])
            assert f"sha256:{digest_file(beside / file['path'])}" == file["digest"], f"{beside / file['path']} differs"
            kept.append(file)
        manifest["files"] = kept
        (beside / "manifest.json").write_text(json.dumps(manifest))


def _put_together(manifest: dict[str, Any], form: str, made: Path, target: Path) -> None:
    engines = {engine["name"]: made / engine["file"] for engine in manifest["engines"]}
    if form == "engine":
        shutil.copy(engines[manifest["whole_engine"]["engine"]], target)
    elif manifest["target"]["platform"].startswith("windows"):
        write_windows_program(made / "program.pt2", engines, target)
    else:
        write_linux_program(made / "program.pt2", engines, {}, target)


def _compiled(manifest: dict[str, Any]) -> str | None:
    return next((stage["key"] for stage in manifest["stages"] if stage["kind"] == "compile"), None)


if __name__ == "__main__":
    what, one, other = sys.argv[1:]
    {"pack": pack, "unpack": unpack}[what](Path(one), Path(other))
