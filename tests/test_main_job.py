"""The main job with real engines: what runs again after which change, and what `explain` says of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.project import RECIPE, STATIC, Project, kill_when
from trtbuild.store.local import LocalStore

TRACE, COMPILE, EXPORT = "net/trace/fp32", "net/compile/linux/fp32", "net/export/linux/fp32/engine"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project built once; tests that change it copy it."""
    project = Project(tmp_path_factory.mktemp("built") / "net")
    done = project.run()
    assert done.code == 0, done.err
    assert done.ran() == [TRACE, COMPILE, EXPORT]
    return project


@pytest.fixture
def copied(built: Project, tmp_path: Path) -> Project:
    """A copy of the built project with its cache, in another folder."""
    import shutil

    shutil.copytree(built.root, tmp_path / "copy")
    return Project(tmp_path / "copy")


def test_a_second_run_does_nothing_and_touches_nothing(built: Project) -> None:
    before = built.artifacts()
    done = built.run(PYTHONPROFILEIMPORTTIME="1")
    assert done.code == 0 and done.ran() == []
    assert built.artifacts() == before
    imported = {
        line.split("|")[-1].strip().partition(".")[0]
        for line in done.err.splitlines()
        if line.startswith("import time:")
    }
    assert "trtbuild" in imported
    assert imported.isdisjoint(
        {"torch", "tensorrt", "tensorrt_rtx", "torch_tensorrt", "networkx", "pydantic", "rich", "numpy"}
    )


def test_the_engine_is_one_and_the_manifest_describes_it(built: Project) -> None:
    manifest = json.loads((built.root / "dist/net/linux/fp32/manifest.json").read_bytes())
    engine = (built.root / "dist/net/linux/fp32/model.engine").read_bytes()
    assert engine[:4] == b"vtrt"
    (file,) = manifest["files"]
    assert file.pop("verification")["status"] == "pending"
    assert file == {
        "format": "engine",
        "path": "model.engine",
        "digest": f"sha256:{hashlib.sha256(engine).hexdigest()}",
        "bytes": len(engine),
    }
    assert manifest["signature"] == {"inputs": [{"name": "x", "keyword": False, "tree": 0}], "outputs": 0}
    assert manifest["realised_precision"]["compute"] == {"float32": 2}
    assert manifest["inputs"][0]["shape"] == ["batch", 3, 16, 16]
    assert manifest["inputs"][0]["ranges"] == {"batch": {"min": 1, "opt": 4, "max": 8}}
    assert manifest["engines"][0]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 3, 16, 16]}]
    assert manifest["engines"][0]["outputs"][0]["shape"] == [-1, 4]
    assert manifest["engines"][0]["layer_types"]["CONVOLUTION float32"] == 1
    assert manifest["partitions"]["pytorch"] == []
    assert manifest["target"]["compute_capability"] == ["8.9"]
    assert manifest["verification"]["status"] == "pending"
    assert [stage["kind"] for stage in manifest["stages"]] == ["trace", "compile", "export", "verify"]
    assert "models/nets.py" in manifest["sources"]


def test_a_copy_in_another_folder_is_cached(copied: Project) -> None:
    assert copied.run().ran() == []


def one_constant(project: Project) -> None:
    project.edit(project.model, "slope: float = 0.1", "slope: float = 0.30000001")


def test_another_precision_adds_its_own_stages_only(copied: Project) -> None:
    copied.edit(copied.recipe, 'precision = ["fp32"]', 'precision = ["fp32", "tf32", "fp16"]')
    done = copied.run()
    assert done.code == 0, done.err
    assert sorted(done.ran()) == sorted(
        [
            "net/trace/fp16",
            "net/compile/linux/tf32",
            "net/export/linux/tf32/engine",
            "net/compile/linux/fp16",
            "net/export/linux/fp16/engine",
        ]
    )
    manifest = json.loads((copied.root / "dist/net/linux/fp16/manifest.json").read_bytes())
    assert manifest["engines"][0]["inputs"][0]["dtype"] == "float16"
    assert "CONVOLUTION float16" in manifest["engines"][0]["layer_types"]


def test_another_version_in_the_toolchain_runs_what_uses_it(copied: Project, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    (newer / "torch_tensorrt_rtx-99.0.dist-info").mkdir(parents=True)
    # Only the metadata is of another version: the key must change although nothing else does.
    done = copied.run(first_on_path=str(newer))
    assert done.code == 0, done.err
    assert TRACE not in done.ran() and COMPILE in done.ran()
    explained = copied.trtbuild("explain", "net.toml", "compile/linux/fp32", first_on_path=str(newer)).out
    assert "torch-tensorrt-rtx " in explained and "99.0" in explained


def weights_of(project: Project, path: Path) -> None:
    code = """
import sys, torch
from safetensors.torch import save_file
sys.path.insert(0, "models")
import nets
torch.manual_seed(3)
save_file(nets.Net().state_dict(), sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=project.root, check=True)


def test_one_weight_bit_runs_all_and_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path / "net", model='weights = "w.safetensors"')
    weights = project.root / "w.safetensors"
    weights_of(project, weights)
    assert project.run().ran() == [TRACE, COMPILE, EXPORT]
    first = (project.root / "dist/net/linux/fp32/model.engine").read_bytes()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    done = project.run()
    assert done.ran() == [TRACE, COMPILE, EXPORT]
    assert "w.safetensors: " in project.explain("trace/fp32")
    assert "program.pt2: weights " in project.explain("compile/linux/fp32")
    second = (project.root / "dist/net/linux/fp32/model.engine").read_bytes()
    assert len(first) == len(second) and first != second
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert project.run().ran() == []
    assert (project.root / "dist/net/linux/fp32/model.engine").read_bytes() == first


def test_two_clones_have_equal_keys_and_equal_static_engines(tmp_path: Path) -> None:
    one, other = Project(tmp_path / "a/one", STATIC), Project(tmp_path / "b/deeper/other", STATIC)
    results = [project.run() for project in (one, other)]
    assert all(done.code == 0 for done in results), results[0].err
    keys = [{stage["id"]: stage["key"] for stage in done.json["stages"]} for done in results]
    assert keys[0] == keys[1]
    path = "dist/net/linux/fp32/model.engine"
    assert (one.root / path).read_bytes() == (other.root / path).read_bytes()


def test_two_clones_have_equal_keys_and_canonical_digests_with_a_dynamic_batch(built: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "clone")
    mine, theirs = built.run().json["stages"], other.run().json["stages"]
    assert [stage["key"] for stage in mine] == [stage["key"] for stage in theirs]

    def meanings(project: Project) -> dict[str, str]:
        store = LocalStore(project.root / "cache")
        found = [store.entry(path.stem) for path in (store.root / "entries-v2").glob("*/*.json")]
        return {
            f"{entry.key} {name}": output.canonical
            for entry in found
            if entry is not None
            for name, output in entry.outputs.items()
        }

    assert meanings(other).items() <= meanings(built).items()


def test_the_environment_outside_the_key_changes_nothing(built: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "clone")
    done = other.run(
        "-j",
        "1",
        PYTHONHASHSEED="123",
        LANG="de_DE.UTF-8",
        TZ="Asia/Tokyo",
        OMP_NUM_THREADS="2",
        ATEN_CPU_CAPABILITY="default",
        MY_OWN="1",
    )
    assert done.code == 0, done.err
    assert [stage["key"] for stage in done.json["stages"]] == [stage["key"] for stage in built.run().json["stages"]]


def test_a_killed_trtbuild_leaves_no_worker_behind(tmp_path: Path) -> None:
    project = Project(tmp_path / "net")
    process = project.start("run", "net.toml")
    kill_when(process, lambda: any((project.root / "cache/tmp").glob("*/net~trace~fp32/log")))

    def alive() -> list[str]:
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    where = os.readlink(folder / "cwd")
                    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if where.startswith(str(project.root)) and state != "Z":
                    found.append(folder.name)
        return found

    deadline = time.monotonic() + 15
    while alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive() == []


def test_interrupting_says_so_and_keeps_what_was_finished(tmp_path: Path) -> None:
    # A machine under load may finish the run before this looks: then another is interrupted.
    for attempt in range(5):
        project = Project(tmp_path / f"net{attempt}")
        process = project.start("run", "net.toml")
        deadline = time.monotonic() + 60
        while not any((project.root / "cache/entries-v2").glob("*/*.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.poll() is None and not (project.root / "dist/net").exists():
            break
        process.communicate(timeout=30)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
    done = project.run()
    assert done.code == 0 and TRACE not in done.ran()


def test_force_runs_everything_and_changes_no_byte_of_the_artifacts(copied: Project) -> None:
    before = copied.artifacts()
    assert copied.run("--force").ran() == [TRACE, COMPILE, EXPORT]
    after = copied.artifacts()
    assert after["dist/net/linux/fp32/model.engine"] == before["dist/net/linux/fp32/model.engine"]


def test_a_damaged_blob_is_rebuilt_and_said(copied: Project) -> None:
    engine = copied.root / "dist/net/linux/fp32/model.engine"
    size = engine.stat().st_size
    whole = engine.read_bytes()
    held = [path for path in (copied.root / "cache/blobs-v1").glob("*/*") if path.read_bytes() in whole]
    blob = max(held, key=lambda path: path.stat().st_size)
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    engine.unlink()
    done = copied.run()
    assert done.code == 0, done.err
    assert COMPILE in done.ran() and TRACE not in done.ran()
    assert engine.read_bytes()[:4] == b"vtrt" and engine.stat().st_size == size


def test_a_changed_artifact_is_put_right_without_building(copied: Project) -> None:
    engine = copied.root / "dist/net/linux/fp32/model.engine"
    before = engine.read_bytes()
    engine.write_bytes(b"not this")
    assert copied.trtbuild("inspect", str(engine)).code == 2
    done = copied.run()
    assert done.ran() == [] and engine.read_bytes() == before


def test_a_manifest_tells_of_every_format_in_its_folder_and_of_none_that_is_stale(copied: Project) -> None:
    copied.edit(copied.recipe, 'formats = ["engine"]', 'formats = ["engine", "onnx"]')
    path = copied.root / "dist/net/linux/fp32/manifest.json"
    assert copied.run("--format", "onnx").code == 0
    both = json.loads(path.read_bytes())
    assert [file["path"] for file in both["files"]] == ["model.engine", "model.onnx"]
    assert both["engines"] and both["target"]["compute_capability"] == ["8.9"]
    assert {stage["kind"] for stage in both["stages"]} == {"trace", "onnx", "compile", "export", "verify"}
    one_constant(copied)
    assert copied.run("--format", "onnx").code == 0
    assert [file["path"] for file in json.loads(path.read_bytes())["files"]] == ["model.onnx"]


def test_one_target_can_be_built_by_itself_under_the_same_keys(tmp_path: Path) -> None:
    text = (
        RECIPE
        + '\n[targets.windows]\nplatform = "windows-x86_64"\ncompute_capability = ["8.9"]\n'
        + 'formats = ["engine", "exported_program"]\n'
    )
    project = Project(tmp_path / "net", text)
    alone = project.run("--target", "windows")
    assert alone.code == 0, alone.err
    assert {artifact["format"] for artifact in alone.json["artifacts"]} == {"engine", "exported_program"}
    whole = project.run()
    # The Linux engine is the Windows engine: one compile serves both.
    assert whole.ran() == [EXPORT]
    linux, windows = (project.root / f"dist/net/{name}/fp32/model.engine" for name in ("linux", "windows"))
    assert linux.read_bytes() == windows.read_bytes()


def test_where_a_driver_is_loaded_stages_start_from_nothing_and_give_the_same(tmp_path: Path) -> None:
    forked, fresh = Project(tmp_path / "forked", STATIC), Project(tmp_path / "fresh", STATIC)
    assert forked.run().code == 0
    code = """
import sys
import trtbuild.worker.pool as pool
from trtbuild.cli import main
pool.has_driver = lambda: True
sys.exit(main(["run", "net.toml"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=fresh.root, env=fresh.environment(), check=False)
    assert done.returncode == 0
    path = "dist/net/linux/fp32/model.engine"
    assert (forked.root / path).read_bytes() == (fresh.root / path).read_bytes()
