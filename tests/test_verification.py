"""Artifacts compared with their source models in runs and by `verify`: passed, failed, pending, and taken over."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.project import RECIPE, Project
from trtbuild.digest import digest_file
from trtbuild.errors import UsageError
from trtbuild.files import left_aside
from trtbuild.outside import write_verification
from trtbuild.publish import lock_of
from trtbuild.store.local import LocalStore
from trtbuild.subjects import subjects

# What a machine without a GPU can compare by itself.
ON_CPU = RECIPE.replace('compute_capability = ["8.9"]', 'runtime = "torch"\ndevice = "cpu"').replace(
    '["engine"]', '["exported_program"]'
)
PROGRAM = "dist/net/linux/fp32/model.pt2"
VERIFY = "net/verify/linux/fp32/exported_program"

# Gives something else when it is exported, as a fault of a compiler would.
TWO_FACED = """\
import torch

class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layer = torch.nn.Linear(16, classes)

    def forward(self, x):
        y = self.layer(x.mean((1, 2)))
        return {"good": y, "bad": y * FACTOR if torch.compiler.is_compiling() else y}
"""


def manifest(project: Project, folder: str = "linux/fp32") -> Any:
    return json.loads((project.root / "dist/net" / folder / "manifest.json").read_bytes())


def of_file(project: Project, name: str, folder: str = "linux/fp32") -> Any:
    return next(file["verification"] for file in manifest(project, folder)["files"] if file["path"] == name)


def without_gpu(project: Project, *arguments: str) -> Any:
    return project.trtbuild(*arguments, CUDA_VISIBLE_DEVICES="")


@pytest.fixture
def on_cpu(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", ON_CPU)


def test_a_run_compares_what_it_can_and_says_so_everywhere(on_cpu: Project) -> None:
    done = on_cpu.run()
    assert done.code == 0, done.err
    assert VERIFY in done.ran() and done.json["artifacts"][0]["verification"] == "passed"
    found = of_file(on_cpu, "model.pt2")
    assert found["status"] == "passed" and found["on"]["device"].startswith("CPU")
    assert [one["name"] for one in found["outputs"]] == ["output0"]
    assert found["outputs"][0]["max_abs"] <= 1e-4 and found["cases"] >= 3
    assert manifest(on_cpu)["verification"] == {"status": "passed"}
    before = on_cpu.artifacts()
    again = on_cpu.run()
    assert again.ran() == [] and on_cpu.artifacts() == before
    assert again.json["artifacts"][0]["verification"] == "passed"


def test_other_tolerances_compare_again_and_build_nothing(on_cpu: Project) -> None:
    assert on_cpu.run().code == 0
    on_cpu.edit(on_cpu.recipe, "[targets.linux]", "[verify]\nrtol = 1e-3\nsamples = 1\n\n[targets.linux]")
    done = on_cpu.run()
    assert done.ran() == [VERIFY], done.err
    assert of_file(on_cpu, "model.pt2")["outputs"][0]["rtol"] == 1e-3


def test_an_artifact_with_wrong_numbers_fails_the_build_and_is_not_published(on_cpu: Project) -> None:
    on_cpu.model.write_text(TWO_FACED.replace("FACTOR", "1.5"))
    done = on_cpu.run()
    assert done.code == 1 and "Traceback" not in done.err
    assert done.statuses()[VERIFY] == "failed" and done.json["artifacts"] == []
    assert not (on_cpu.root / PROGRAM).exists()
    (error,) = done.json["errors"]
    assert "bad" in str(error["facts"]) and error["hint"]
    # What was right stays, and is right again once the fault is mended.
    on_cpu.model.write_text(TWO_FACED.replace("FACTOR", "1.0"))
    assert on_cpu.run().code == 0 and (on_cpu.root / PROGRAM).exists()
    good = on_cpu.artifacts()
    on_cpu.model.write_text(TWO_FACED.replace("FACTOR", "float('nan')"))
    assert on_cpu.run().code == 1 and on_cpu.artifacts() == good


def test_verify_compares_an_artifact_anew_and_writes_it_down(on_cpu: Project) -> None:
    assert on_cpu.run().code == 0
    path = on_cpu.root / "dist/net/linux/fp32/manifest.json"
    made = json.loads(path.read_bytes())
    for file in made["files"]:
        file["verification"] = {"status": "pending", "reason": "", "key": file["verification"]["key"]}
    path.write_text(json.dumps(made))
    done = on_cpu.trtbuild("verify", "dist", "--json")
    assert done.code == 0, done.err
    assert done.json[0]["verification"]["status"] == "passed"
    assert of_file(on_cpu, "model.pt2")["status"] == "passed"
    assert on_cpu.run().ran() == []


def test_verify_refuses_what_is_not_what_it_seems(on_cpu: Project) -> None:
    assert on_cpu.run().code == 0
    program = on_cpu.root / PROGRAM
    kept = program.read_bytes()
    program.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    done = on_cpu.trtbuild("verify", PROGRAM)
    assert done.code == 2 and "not the one that the manifest describes" in done.err
    program.write_bytes(kept)
    on_cpu.edit(on_cpu.model, "import torch", "import torch  # changed")
    done = on_cpu.trtbuild("verify", PROGRAM)
    assert done.code == 2 and "models/nets.py" in done.err and "--source" in done.err
    assert on_cpu.trtbuild("verify", "dist/nothing").code == 2


def test_verify_waits_for_who_writes_the_manifest_and_tells_what_it_cannot_write(on_cpu: Project) -> None:
    assert on_cpu.run().code == 0
    (subject,) = subjects([on_cpu.root / PROGRAM])
    folder = on_cpu.root / "dist/net/linux/fp32"
    record = {"status": "failed", "reason": "somebody's", "facts": []}
    with LocalStore(on_cpu.root / "cache").lock(lock_of("net", "linux", "fp32")):
        writer = threading.Thread(target=write_verification, args=(subject, record))
        writer.start()
        writer.join(0.5)
        assert writer.is_alive() and of_file(on_cpu, "model.pt2")["status"] == "passed"
    writer.join()
    assert of_file(on_cpu, "model.pt2")["reason"] == "somebody's" and not left_aside(folder)
    made = manifest(on_cpu)
    made["files"][0]["digest"] = "sha256:0"
    (folder / "manifest.json").write_text(json.dumps(made))
    with pytest.raises(UsageError, match="changed while"):
        write_verification(subject, record)


@pytest.mark.parametrize(("signal", "status"), [("SIGKILL", "passed"), ("SIGSEGV", "failed")])
def test_a_crash_is_the_artifacts_fault_and_a_kill_is_not(on_cpu: Project, signal: str, status: str) -> None:
    assert on_cpu.run().code == 0
    # The source model ends the process of the comparison, as native code or the system would.
    ending = f"import os, signal\n\nos.kill(os.getpid(), signal.{signal})\n"
    source = on_cpu.root / "elsewhere"
    (source / "models").mkdir(parents=True)
    text = on_cpu.model.read_text()
    made = manifest(on_cpu)
    path = "models/nets.py"
    assert path in made["sources"]
    (source / path).write_text(text + ending)
    made["sources"][path] = f"sha256:{digest_file(source / path)}"
    (on_cpu.root / "dist/net/linux/fp32/manifest.json").write_text(json.dumps(made))
    done = on_cpu.trtbuild("verify", PROGRAM, "--source", str(source))
    assert done.code == 1 and signal in done.out + done.err
    found = of_file(on_cpu, "model.pt2")
    assert found["status"] == status and "log" not in dict(found.get("facts", []))


def test_without_a_gpu_a_verification_is_pending_and_the_run_is_done(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    done = without_gpu(project, "run", "net.toml", "--json")
    assert done.code == 0, done.err
    stage = next(stage for stage in done.json["stages"] if stage["kind"] == "verify")
    assert stage["status"] == "pending" and "needs a GPU" in stage["reason"] and len(stage["key"]) == 64
    assert of_file(project, "model.engine")["status"] == "pending"
    assert manifest(project)["verification"]["status"] == "pending"
    # Nothing to do, and still pending; in no way is it taken for done.
    again = without_gpu(project, "run", "net.toml", "--json")
    assert again.ran() == [] and stage in again.json["stages"]
    assert "1 pending" in without_gpu(project, "run", "net.toml").err
    assert "pending  net/verify" in without_gpu(project, "plan", "net.toml").out
    refused = without_gpu(project, "verify", "dist")
    assert refused.code == 2 and "needs a GPU" in refused.err


def test_what_another_machine_found_counts_here(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    assert without_gpu(project, "run", "net.toml").code == 0
    path = project.root / "dist/net/linux/fp32/manifest.json"

    def found_elsewhere(status: str) -> None:
        made = json.loads(path.read_bytes())
        (file,) = made["files"]
        outputs = [{"name": "output0", "max_abs": 3.5, "passed": status == "passed"}]
        on = {"device": "NVIDIA H200"}
        file["verification"] = {
            "status": status, "on": on, "date": "2026-01-02", "outputs": outputs, "key": file["verification"]["key"]
        }  # fmt: skip
        path.write_text(json.dumps(made))

    found_elsewhere("failed")
    done = without_gpu(project, "run", "net.toml", "--json")
    assert done.code == 1 and "NVIDIA H200" in done.err and "2026-01-02" in done.err
    assert of_file(project, "model.engine")["status"] == "failed"

    found_elsewhere("passed")
    assert "verified on another machine" in without_gpu(project, "plan", "net.toml").out
    done = without_gpu(project, "run", "net.toml", "--json")
    assert done.code == 0 and done.statuses()["net/verify/linux/fp32/engine"] == "cached"
    assert done.json["artifacts"][0]["verification"] == "passed"
    # It is known from now on, whatever becomes of dist/.
    path.unlink()
    done = without_gpu(project, "run", "net.toml", "--json")
    assert done.code == 0 and of_file(project, "model.engine")["on"] == {"device": "NVIDIA H200"}
    # Of another artifact it says nothing.
    project.edit(project.recipe, "opt = 4", "opt = 5")
    assert without_gpu(project, "run", "net.toml", "--json").json["artifacts"][0]["verification"] == "pending"


def test_an_onnx_model_is_compared_through_onnxruntime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    project = Project(tmp_path / "project", RECIPE.replace('["engine"]', '["onnx"]'))
    done = without_gpu(project, "run", "net.toml", "--json")
    assert done.code == 0, done.err
    assert done.json["artifacts"][0]["verification"] == "passed"
    assert of_file(project, "model.onnx")["outputs"][0]["max_abs"] < 1e-4


def test_onnxruntime_leaves_nothing_in_the_home_folder_and_is_kept_within_the_sandbox(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    project = Project(tmp_path / "project", RECIPE.replace('["engine"]', '["onnx"]'))
    home = tmp_path / "home"
    home.mkdir()
    done = project.trtbuild("run", "net.toml", "--json", "--sandbox", "enforce", HOME=str(home))
    assert done.code == 0, done.err
    assert done.json["artifacts"][0]["verification"] == "passed"
    assert not [path for path in home.rglob("*") if "onnxruntime" in path.name]


def test_a_source_with_other_weights_than_were_traced_is_refused(on_cpu: Project) -> None:
    # Drawn anew each time, whatever the seed: as by another version of torch.
    on_cpu.edit(on_cpu.model, "import torch\n", "import os\n\nimport torch\n")
    on_cpu.edit(
        on_cpu.model,
        "        super().__init__()\n",
        "        super().__init__()\n        torch.manual_seed(int.from_bytes(os.urandom(4)))\n",
    )
    done = on_cpu.run()
    assert done.code == 1 and done.statuses()[VERIFY] == "failed"
    (error,) = done.json["errors"]
    assert "other weights" in error["error"] and "checkpoint" in error["hint"]


def test_what_cannot_be_compared_here_keeps_nothing_else_from_being_compared(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    project = Project(tmp_path / "project", RECIPE.replace('["engine"]', '["engine", "onnx"]'))
    assert without_gpu(project, "run", "net.toml").code == 0
    path = project.root / "dist/net/linux/fp32/manifest.json"
    made = json.loads(path.read_bytes())
    for file in made["files"]:
        file["verification"] = {"status": "pending", "reason": "", "key": file["verification"]["key"]}
    path.write_text(json.dumps(made))
    done = without_gpu(project, "verify", "dist", "--json")
    found = {Path(one["path"]).name: one for one in done.json}
    assert done.code == 2 and found["model.onnx"]["verification"]["status"] == "passed"
    assert found["model.engine"]["verification"] is None and "needs a GPU" in str(found["model.engine"]["error"])
    assert of_file(project, "model.onnx")["status"] == "passed"
    assert of_file(project, "model.engine")["status"] == "pending"
