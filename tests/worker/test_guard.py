"""The levels of the sandbox: what enforce refuses and how it says so, and what happens where a kernel cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MODELS
from tests.project import Project
from tests.worker.watched import watch, watch_one
from trtbuild import sandbox
from trtbuild.errors import MachineError, UsageError
from trtbuild.sandbox import Level, level_of, require, still_good
from trtbuild.worker.landlock import version

enforced = pytest.mark.skipif(
    bool(sandbox.cannot_observe() or sandbox.cannot_restrict()), reason="not enforceable on this machine"
)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.bin"
    path.write_bytes(bytes(16))
    return path


def models(tmp_path: Path, **code: str) -> list[str]:
    for name, text in code.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(f"{text}\n")
    return list(code)


@enforced
def test_enforce_refuses_and_names_what_was_not_given(tmp_path: Path, secret: Path) -> None:
    cases = {
        "python": f"open({str(secret)!r})",
        "python_ignored": f"try: open({str(secret)!r})\nexcept OSError: pass",
        "program": f"import subprocess\nsubprocess.run(['cat', {str(secret)!r}])",
        "thread": f"import threading\nread = threading.Thread(target=open, args=({str(secret)!r},))\nread.start()",
        "writes": f"open({str(secret)!r}, 'w')",
        "linked": f"import os\nlink = os.environ['TMPDIR'] + '/link'\nos.symlink({str(secret)!r}, link)\nopen(link)",
    }
    found = watch(tmp_path, models(tmp_path, **cases), "enforce")
    for name in cases:
        kind, sentence, facts, hint = found[name]["error"]
        assert (kind, sentence) == ("StageError", "The sandbox refused files that the stage opened"), name
        named = str(tmp_path / ".jobs/linked/link") if name == "linked" else str(secret)
        assert facts[0] == ["refused", named], name
        assert "workspace" in hint and "--sandbox audit" in hint
    assert secret.read_bytes() == bytes(16)


@enforced
def test_enforce_lets_a_stage_read_its_workspace_and_write_its_own_files(tmp_path: Path) -> None:
    code = (
        "import os, tempfile, subprocess, json\n"
        "open('d').read()\n"
        "open(os.environ['TMPDIR'] + '/own', 'w').write('x')\n"
        "subprocess.run(['cat', 'd'], stdout=subprocess.DEVNULL, check=True)\n"
        "open('/dev/null', 'w')\n"
        "assert not os.path.exists('/nowhere')\n"
    )
    (name,) = models(tmp_path, good=code)
    (tmp_path / name / "d").write_text("1")
    found = watch_one(tmp_path / name, "enforce")
    assert set(found["seen"]["reads"]) == {"net.py", "d"} and found["seen"]["by"] == "kernel"


@enforced
def test_enforce_refuses_the_network(tmp_path: Path) -> None:
    if version() < 4:
        pytest.skip("the kernel's Landlock has no rules for TCP")
    (name,) = models(tmp_path, network="import socket\nsocket.create_connection(('127.0.0.1', 9))")
    _, sentence, facts, _ = watch_one(tmp_path / name, "enforce")["error"]
    assert sentence == "The entry point `net.py:x` does not import" and "PermissionError" in facts[0][1]


def test_off_sees_what_python_opens_and_no_more(tmp_path: Path) -> None:
    code = "import subprocess\nopen('python')\nsubprocess.run(['cat', 'native'], stdout=subprocess.DEVNULL)"
    (name,) = models(tmp_path, off=code)
    (tmp_path / name / "python").touch()
    (tmp_path / name / "native").touch()
    found = watch_one(tmp_path / name, "off")["seen"]
    assert set(found["reads"]) == {"net.py", "python"} and found["by"] == "python"


# Loaded by Python at its start, in the process and in what it starts.
_REFUSING = """
import errno
from trtbuild.worker import observe
def refused():
    raise OSError(errno.EPERM, "Operation not permitted")
observe.install = refused
"""


@pytest.fixture
def refusing(tmp_path: Path) -> dict[str, str]:
    """An environment in which the kernel refuses to report."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(_REFUSING)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(MODELS.parents[1])])}


def test_audit_falls_back_to_what_python_sees_and_says_so(tmp_path: Path, refusing: dict[str, str]) -> None:
    (name,) = models(tmp_path, fallback="open('d')")
    (tmp_path / name / "d").touch()
    found = watch_one(tmp_path / name, "audit", **refusing)
    assert set(found["seen"]["reads"]) == {"net.py", "d"} and found["seen"]["by"] == "python"
    assert "native code" in found["warning"] and "Operation not permitted" in found["warning"]


def test_enforce_is_never_silently_less(tmp_path: Path, refusing: dict[str, str]) -> None:
    (name,) = models(tmp_path, refused="")
    kind, sentence, *_ = watch_one(tmp_path / name, "enforce", **refusing)["error"]
    assert (kind, sentence) == ("MachineError", "The sandbox cannot be kept")


def test_enforce_needs_a_machine_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "cannot_observe", lambda: "no notifications")
    monkeypatch.setattr(sandbox, "cannot_restrict", lambda: "")
    with pytest.raises(MachineError) as caught:
        require(Level.ENFORCE)
    assert ("missing", "no notifications") in caught.value.facts
    require(Level.AUDIT)


def test_a_level_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTBUILD_SANDBOX", "enforced")
    with pytest.raises(UsageError, match="no sandbox level `enforced`") as caught:
        level_of()
    assert caught.value.hint == "Did you mean `enforce`?"
    assert level_of("off") is Level.OFF


def test_what_python_alone_saw_serves_only_runs_that_see_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "cannot_observe", lambda: "")
    assert still_good("kernel", Level.AUDIT) and still_good("python", Level.OFF)
    assert not still_good("python", Level.AUDIT) and not still_good("python", Level.ENFORCE)
    monkeypatch.setattr(sandbox, "cannot_observe", lambda: "refused")
    assert still_good("python", Level.AUDIT)


_NATIVE = "\nfrom safetensors.torch import load_file\nSCALE = load_file('scale.safetensors')\n"


@pytest.fixture
def native(tmp_path: Path) -> Project:
    """A project whose model reads a file by native code alone."""
    save_file = pytest.importorskip("safetensors.numpy").save_file
    numpy = pytest.importorskip("numpy")
    project = Project(tmp_path / "project")
    project.model.write_text(project.model.read_text() + _NATIVE)
    save_file({"x": numpy.zeros(4, dtype="float32")}, project.root / "scale.safetensors")
    return project


def trace(ran: Any) -> str:
    assert ran.code == 0, ran.err
    return str(ran.statuses()["net/trace/fp32"])


def test_levels_in_a_build(native: Project) -> None:
    if sandbox.cannot_observe():
        pytest.skip(sandbox.cannot_observe())
    pytest.importorskip("tensorrt_rtx")
    assert trace(native.run("--sandbox", "off")) == "ran"
    assert trace(native.run("--sandbox", "off")) == "cached"
    # Seen without the kernel, so it does not count for a run that sees more; the output is the same one.
    assert native.run().ran() == ["net/trace/fp32"]
    assert trace(native.run()) == "cached" and trace(native.run("--sandbox", "off")) == "cached"
    weights = native.root / "scale.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert trace(native.run(TRTBUILD_SANDBOX="enforce")) == "ran"
