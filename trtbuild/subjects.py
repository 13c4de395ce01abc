"""Artifacts in dist/ as the subject of a job: what is to be compared, measured or looked into, outside any run.

A manifest tells all that the job needs: the settings of the artifact's `verify` step, and the digests of the sources
that must still be as they were, for the source model is built from them anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_file
from trtbuild.errors import UsageError
from trtbuild.inspection import manifest_at
from trtbuild.manifest import SCHEMA
from trtbuild.places import root_of
from trtbuild.store.local import LocalStore
from trtbuild.structure import in_order

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Subject:
    """An artifact with its manifest; `stage` is its `verify` stage as the manifest has it, `source` the workspace."""

    path: Path
    manifest: Mapping[str, Any]
    file: Mapping[str, Any]
    stage: Mapping[str, Any]
    source: Path

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the verify step."""
        return dict(self.stage["key_inputs"]["settings"])

    def stage_of(self, kind: str) -> Mapping[str, Any] | None:
        """The stage of a kind behind this artifact, as the manifest has it."""
        found = [stage for stage in self.manifest["stages"] if stage["kind"] == kind]
        return found[0] if found else None

    def files(self) -> dict[str, str]:
        """The artifact's files by name, absolute."""
        return {
            file["path"]: str(self.path.parent.absolute() / file["path"])
            for file in self.manifest["files"]
            if file["format"] == self.file["format"]
        }

    def details(self) -> dict[str, Any]:
        """What the steps before told of the artifact and of the program, as a job gets it."""
        signature = {
            "inputs": [{**found, "ranges": {}} for found in self.manifest["inputs"]],
            "outputs": self.manifest["outputs"],
            "structure": in_order(self.manifest["signature"]["outputs"]),
        }
        facts = {name: self.file[name] for name in ("calls",) if name in self.file}
        artifact = {"engine": self.manifest["whole_engine"], "engines": self.manifest["engines"], **facts}
        return {"artifact": artifact, "program": {"signature": signature, "state": self.manifest.get("state")}}

    def weights(self) -> dict[str, str]:
        """The declared input files of the source model, absolute, by slot."""
        trace = self.stage_of("trace")
        declared = trace["key_inputs"]["files"] if trace else {}
        by_digest = {digest: path for path, digest in self.manifest["sources"].items()}
        return {slot: str(self.source / by_digest[f"sha256:{digest}"]) for slot, digest in declared.items()}


def subjects(paths: Sequence[Path], source: Path | None = None) -> list[Subject]:
    """The artifacts that files, folders or manifests name. UsageError where one is not what its manifest says."""
    return [subject for path in paths for subject in _subjects(path, source)]


def _subjects(path: Path, source: Path | None) -> Iterator[Subject]:
    if path.is_dir() and not (path / "manifest.json").is_file():
        inside = sorted(path.rglob("manifest.json"))
        if not inside:
            raise UsageError("The folder holds no artifacts", [("folder", str(path))], "`trtbuild run` makes some.")
        for one in inside:
            yield from _subjects(one, source)
        return
    manifest = manifest_at(path)
    folder = path if path.is_dir() else path.parent
    if manifest.get("schema") != SCHEMA:
        raise UsageError(
            "The manifest was written by another version of trtbuild",
            [("file", str(folder / "manifest.json")), ("schema", f"{manifest.get('schema')}, and here is {SCHEMA}")],
            "Build the artifact again: what did not change comes from the cache.",
        )
    alone = path.is_file() and path.name != "manifest.json"
    for file in manifest["files"]:
        if (alone and file["path"] != path.name) or "verification" not in file:
            continue
        artifact = folder / file["path"]
        # What lies beside an artifact, the weights of an ONNX model, is a part of it.
        for name in (other["path"] for other in manifest["files"] if other["format"] == file["format"]):
            if folder / name != path:
                manifest_at(folder / name)
        yield Subject(artifact, manifest, file, _verify_stage(manifest, file, artifact), source or _root(artifact))


def _root(artifact: Path) -> Path:
    return Path(root_of(str(artifact.resolve().parent)))


def _verify_stage(manifest: Mapping[str, Any], file: Mapping[str, Any], artifact: Path) -> Mapping[str, Any]:
    key = file["verification"].get("key")
    for stage in manifest["stages"]:
        if stage["kind"] == "verify" and stage["key"] == key:
            found: Mapping[str, Any] = stage
            return found
    raise UsageError(
        "The manifest does not say how the artifact is to be compared",
        [("file", str(artifact)), ("reason", str(file["verification"].get("reason", "")))],
        "Finish the build with `trtbuild run`. An artifact of a null target has nothing to compare.",
    )


def check_sources(subject: Subject) -> None:
    """UsageError where the source model is not the one that the artifact was made from."""
    changed = []
    for path, digest in subject.manifest["sources"].items():
        file = subject.source / path
        if digest is None or Path(path).is_absolute():
            continue
        if not file.is_file():
            changed.append((path, "is not there"))
        elif f"sha256:{digest_file(file)}" != digest:
            changed.append((path, "has another content"))
    if changed:
        more = [("...", f"and {len(changed) - _SHOWN} more")] if len(changed) > _SHOWN else []
        raise UsageError(
            "The source model here is not the one that the artifact was made from",
            [("artifact", str(subject.path)), ("looked in", str(subject.source)), *changed[:_SHOWN], *more],
            "Check out what it was built from, name another folder with --source, or build the artifact again.",
        )


def program_of(subject: Subject, store: LocalStore, folder: Path) -> dict[str, str]:
    """The trace behind an artifact, from the store: its files by name; nothing where it is not there."""
    trace = subject.stage_of("trace")
    entry = store.get(trace["key"]) if trace else None
    if entry is None:
        return {}
    found = {name: store.path_of(output, folder) for name, output in entry.outputs.items()}
    return {name: str(path) for name, path in found.items() if path is not None}
