"""What can be done on machines of all kinds, and how to mend what cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from trtbuild import sandbox
from trtbuild.buildable import Obstacle, Question
from trtbuild.doctor import (
    PACKAGES,
    Capability,
    Gpu,
    Machine,
    Probe,
    Report,
    Torch,
    VersionSet,
    capabilities_of,
    sandbox_capabilities,
    version_set_of,
)
from trtbuild.views.doctor import render_report

NEWEST = {"torch": "2.14.1", "torch-tensorrt-rtx": "2.14.0", "tensorrt-rtx": "1.6.1.120"}
OLDER = {"torch": "2.11.0", "torch-tensorrt-rtx": "2.11.0", "tensorrt-rtx": "1.4.0.76"}
TORCH = Torch("2.14.1+cu130", "13.0")
TRIED = VersionSet(True, "tried")
GPU = Gpu("NVIDIA L4", "8.9", "580.1")


def machine(*gpus: Gpu) -> Machine:
    return Machine(
        "CPython 3.11.7", "Debian 12", "a CPU", 8, ("AVX2",), 16_000_000_000, "/w/cache", 50_000_000_000, gpus
    )


def nothing_in_the_way(question: Question) -> None:
    """A machine on which everything can be built."""


def found(
    name: str, where: Machine, torch: Torch | None = TORCH, versions: VersionSet = TRIED, probes: Sequence[Probe] = ()
) -> Capability:
    return next(one for one in capabilities_of(where, torch, versions, probes, nothing_in_the_way) if one.name == name)


@pytest.mark.parametrize("packages", [NEWEST, OLDER])
def test_tried_sets_fit(packages: dict[str, str]) -> None:
    found = version_set_of(packages, TORCH)
    assert found.fits and found.sentence.endswith("are a tried set") and not found.command


def test_nothing_installed() -> None:
    assert version_set_of(dict.fromkeys(PACKAGES), None) == VersionSet(
        False,
        "torch, torch-tensorrt-rtx and tensorrt-rtx are not installed",
        "pip install 'torch==2.14.*' 'torch-tensorrt-rtx==2.14.*' 'tensorrt-rtx==1.6.*'",
    )


def test_torch_and_torch_tensorrt_of_different_minor_versions() -> None:
    assert version_set_of({**NEWEST, "torch": "2.13.0"}, Torch("2.13.0", "13.0")) == VersionSet(
        False,
        "torch 2.13.0, torch-tensorrt-rtx 2.14.0 and tensorrt-rtx 1.6.1.120 do not belong together: "
        "the first two must be of one minor version",
        "pip install 'torch==2.14.*' 'torch-tensorrt-rtx==2.14.*' 'tensorrt-rtx==1.6.*'",
    )


def test_another_tensorrt_rtx_than_was_tried() -> None:
    found = version_set_of({**OLDER, "tensorrt-rtx": "1.6.1.120"}, TORCH)
    assert not found.fits and found.command == "pip install 'tensorrt-rtx==1.4.*'"


def test_a_torch_for_cpus_only() -> None:
    found = version_set_of(NEWEST, Torch("2.14.1+cpu", ""))
    assert found.sentence == "torch 2.14.1+cpu was built for CPUs only: Torch-TensorRT's runtime cannot load beside it"
    assert found.command == "pip install --force-reinstall 'torch==2.14.1'"


def test_everything_can_be_done_where_nothing_is_in_the_way() -> None:
    assert all(one.available for one in capabilities_of(machine(GPU), TORCH, TRIED, [], nothing_in_the_way))


def test_the_reason_and_the_hint_are_those_of_the_planner() -> None:
    def no_windows(question: Question) -> Obstacle | None:
        return Obstacle("no Windows", "mend it") if question.platform == "windows-x86_64" else None

    found = [one for one in capabilities_of(machine(GPU), TORCH, TRIED, [], no_windows) if not one.available]
    assert found == [Capability("Windows artifacts", False, "no Windows", "mend it")]


def test_what_does_not_load_cannot_be_used() -> None:
    versions = VersionSet(False, "wrong", "pip install 'torch==2.14.*'")
    probes = [
        Probe("torch", answer=True),
        Probe("torch-tensorrt-rtx", "torch-tensorrt-rtx does not load: OSError: libtorch_cuda.so"),
    ]
    engines = found("TensorRT-RTX engines", machine(), versions=versions, probes=probes)
    assert engines == Capability("TensorRT-RTX engines", False, probes[1].problem, "pip install 'torch==2.14.*'")
    assert found("ONNX", machine(), versions=versions, probes=probes).available


@pytest.mark.parametrize(
    ("where", "torch", "probes", "why"),
    [
        (machine(), TORCH, [], "there is no NVIDIA GPU here"),
        (machine(GPU), None, [], "torch is not installed"),
        (machine(GPU), Torch("2.14.1+cpu", ""), [], "torch 2.14.1+cpu was built for CPUs only"),
        (machine(GPU), TORCH, [Probe("torch", "torch does not load: OSError")], "torch does not load: OSError"),
        (
            machine(GPU),
            TORCH,
            [Probe("torch", answer=False)],
            "torch cannot use the GPU: its driver is too old for CUDA 13.0, or CUDA_VISIBLE_DEVICES hides it",
        ),
    ],
)
def test_why_no_artifact_can_run(where: Machine, torch: Torch | None, probes: list[Probe], why: str) -> None:
    one = found("running artifacts", where, torch, probes=probes)
    assert not one.available and one.why == why and one.mend


def test_the_report_reads() -> None:
    report = Report(
        machine(GPU),
        {"torch": "2.14.1", "tensorrt": None},
        TORCH,
        VersionSet(False, "they do not belong together", "pip install 'torch==2.14.*'"),
        (Probe("torch", "torch does not load: OSError"),),
        (Capability("ONNX", True), Capability("TorchScript", False, "it needs a GPU", "Build it on a GPU machine.")),
    )
    assert render_report(report) == (
        "this machine\n"
        "  python           CPython 3.11.7\n"
        "  system           Debian 12\n"
        "  cpu              a CPU, 8 cores with AVX2\n"
        "  memory           16.0 GB\n"
        "  cache            /w/cache, 50.0 GB free\n"
        "  gpu              NVIDIA L4, compute capability 8.9, driver 580.1\n"
        "  torch built for  CUDA 13.0\n"
        "\n"
        "packages\n"
        "  torch     2.14.1\n"
        "  tensorrt  not installed\n"
        "\n"
        "versions\n"
        "  they do not belong together\n"
        "  pip install 'torch==2.14.*'\n"
        "\n"
        "what does not load\n"
        "  torch does not load: OSError\n"
        "\n"
        "what can be built and run\n"
        "  yes  ONNX\n"
        "  no   TorchScript  it needs a GPU\n"
        "                    Build it on a GPU machine."
    )
    assert json.loads(json.dumps(report.as_json()))["machine"]["gpus"] == [
        {"name": "NVIDIA L4", "compute_capability": "8.9", "driver": "580.1"}
    ]


def test_this_machine_is_examined_without_importing_what_it_examines() -> None:
    code = (
        "import json, sys\n"
        "from trtbuild.doctor import examine\n"
        "from trtbuild.views.doctor import render_report\n"
        "report = examine()\n"
        "assert render_report(report) and json.dumps(report.as_json())\n"
        "examined = {'torch', 'tensorrt', 'tensorrt_rtx', 'torch_tensorrt'}\n"
        "print(len(report.capabilities), sorted(examined & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "10 []\n"


def test_what_the_kernel_does_not_tell_is_said_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "cannot_observe", lambda: "the kernel refuses to report file accesses: no")
    monkeypatch.setattr(sandbox, "cannot_restrict", lambda: "")
    seen, enforced = sandbox_capabilities()
    assert not seen.available and "refuses to report" in seen.why and "seccomp" in seen.mend
    assert not enforced.available and enforced.why == seen.why


def test_a_library_that_crashes_is_reported_as_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from trtbuild import doctor

    monkeypatch.setattr(
        doctor,
        "_PROBES",
        {
            "raises": "raise ImportError('no such library')",
            "dies": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "hangs": "import time; time.sleep(60)",
            "talks": "print('hello'); answer = True",
        },
    )
    monkeypatch.setattr(doctor, "_PROBE_SECONDS", 3)
    assert doctor._probe("raises").problem == "raises does not load: ImportError: no such library"
    assert doctor._probe("dies").problem == "dies does not load: its process was killed by signal 11"
    assert doctor._probe("hangs").problem == "hangs does not load within 3 seconds"
    assert doctor._probe("talks") == Probe("talks", answer=True)
