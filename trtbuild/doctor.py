"""What this machine is, what it can build and run, and what to install for the rest.

What stages would find wrong is asked where they would ask: `buildable.why_not` for the matrix, a short process of its
own for what only an import can tell. This process imports neither torch nor TensorRT.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trtbuild import host, sandbox
from trtbuild.buildable import Obstacle, Question, why_not
from trtbuild.errors import TrtbuildError
from trtbuild.gpus import Gpu, gpus, read
from trtbuild.stages.gpuless import TRIED
from trtbuild.toolchain import distributions, toolchain
from trtbuild.workspace import find_workspace

PACKAGES = (
    "torch",
    "torch-tensorrt-rtx",
    "torch-tensorrt",
    "tensorrt-rtx",
    "tensorrt",
    "torchvision",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "safetensors",
    "pydantic",
    "networkx",
    "rich",
)

# Importing torch on a cold disk takes most of a minute.
_PROBE_SECONDS = 120

_INSTALL = "pip install 'trtbuild[rtx]'"
_AGAIN = "pip install --force-reinstall 'trtbuild[rtx]'"

_PROBES = {
    "torch": "import torch; answer = torch.cuda.is_available()",
    "tensorrt-rtx": "import tensorrt_rtx as trt; answer = bool(trt.Builder(trt.Logger(trt.Logger.ERROR)))",
    "torch-tensorrt-rtx": "from trtbuild.stages.gpuless import import_torch_tensorrt as load; load(); answer = True",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and its Python. Sizes in bytes; `memory` and `disk_free` are None where they cannot be told."""

    python: str
    system: str
    cpu: str
    cores: int
    instructions: tuple[str, ...]
    memory: int | None
    cache: str
    disk_free: int | None
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class Torch:
    """The installed torch, from its files. `cuda` is empty where it was built for CPUs only."""

    version: str
    cuda: str

    @property
    def cpu_only(self) -> bool:
        return not self.cuda


@dataclass(frozen=True, slots=True)
class Probe:
    """What an import in a process of its own came to; `problem` is empty where it went well."""

    name: str
    problem: str = ""
    answer: bool | None = None


@dataclass(frozen=True, slots=True)
class VersionSet:
    """Whether the installed versions belong together."""

    fits: bool
    sentence: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that can or cannot be done here, why not, and the command or the step that would mend it."""

    name: str
    available: bool
    why: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found."""

    machine: Machine
    packages: Mapping[str, str | None]
    torch: Torch | None
    versions: VersionSet
    probes: tuple[Probe, ...]
    capabilities: tuple[Capability, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as `--json` shows it."""
        return asdict(self)


def examine() -> Report:
    """Look at this machine. Takes as long as importing torch where it is installed."""
    packages = _packages()
    torch = _torch()
    wanted = [name for name in _PROBES if packages[name]]
    with ThreadPoolExecutor(max_workers=len(_PROBES)) as pool:
        running = [pool.submit(_probe, name) for name in wanted]
        machine = _machine()
        probes = tuple(one.result() for one in running)
    versions = version_set_of(packages, torch)
    capabilities = (*capabilities_of(machine, torch, versions, probes), *sandbox_capabilities())
    return Report(machine, packages, torch, versions, probes, capabilities)


# what can be done


def version_set_of(packages: Mapping[str, str | None], torch: Torch | None) -> VersionSet:
    """Whether torch, Torch-TensorRT and TensorRT-RTX belong together, and what to install where they do not."""
    newest = TRIED[0]
    command = "pip install " + " ".join(f"'{name}=={version}.*'" for name, version in newest.items())
    missing = [name for name in newest if not packages.get(name)]
    if missing:
        return VersionSet(False, f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} not installed", command)
    installed = {name: _minor(packages[name]) for name in newest}
    named = _listed([f"{name} {packages[name]}" for name in newest])
    if torch is not None and torch.cpu_only:
        again = f"pip install --force-reinstall 'torch=={_public(torch.version)}'"
        sentence = f"torch {torch.version} was built for CPUs only: Torch-TensorRT's runtime cannot load beside it"
        return VersionSet(False, sentence, again)
    if installed["torch"] != installed["torch-tensorrt-rtx"]:
        return VersionSet(False, f"{named} do not belong together: the first two must be of one minor version", command)
    if installed in TRIED:
        return VersionSet(True, f"{named} are a tried set")
    for tried in TRIED:
        if tried["torch"] == installed["torch"]:
            sentence = f"torch {tried['torch']} was tried with tensorrt-rtx {tried['tensorrt-rtx']}"
            better = f"pip install 'tensorrt-rtx=={tried['tensorrt-rtx']}.*'"
            return VersionSet(False, f"{named} are not a tried set: {sentence}", better)
    return VersionSet(False, f"{named} are not a tried set", command)


def capabilities_of(
    machine: Machine,
    torch: Torch | None,
    versions: VersionSet,
    probes: Sequence[Probe],
    obstacle: Callable[[Question], Obstacle | None] = why_not,
) -> tuple[Capability, ...]:
    """What can be built and run here. `obstacle` is what the planner asks too."""
    problems = {probe.name: probe.problem for probe in probes}

    def capability(name: str, question: Question, *imports: str) -> Capability:
        if found := obstacle(question):
            return Capability(name, False, found.reason, found.hint)
        for package in imports:
            if problems.get(package):
                return Capability(name, False, problems[package], versions.command or _AGAIN)
        return Capability(name, True)

    rtx = ("torch", "tensorrt-rtx", "torch-tensorrt-rtx")
    return (
        capability("TensorRT-RTX engines", _cell("engine"), *rtx),
        capability("Windows artifacts", _cell("exported_program", platform="windows-x86_64"), *rtx),
        capability("ONNX", _cell("onnx"), "torch"),
        capability("exported program for Linux", _cell("exported_program"), *rtx),
        capability("TorchScript", _cell("torchscript"), *rtx),
        capability("AOTInductor", _cell("aot_inductor"), *rtx),
        capability("standard TensorRT", _cell("engine", runtime="tensorrt"), "torch"),
        _running(machine, torch, next((probe for probe in probes if probe.name == "torch"), None)),
    )


def sandbox_capabilities() -> tuple[Capability, ...]:
    """What the kernel tells of stages' reads, and whether it can refuse them (see `sandbox`)."""
    unseen, free = sandbox.cannot_observe(), sandbox.cannot_restrict()
    allow = "Allow the container seccomp user notification, for example with --security-opt seccomp=unconfined."
    return (
        Capability("seeing what native code reads", not unseen, unseen, allow if unseen else ""),
        Capability("run --sandbox enforce", not (unseen or free), unseen or free, allow if unseen else ""),
    )


def _cell(format: str, platform: str = "linux-x86_64", runtime: str = "tensorrt-rtx") -> Question:
    return Question(
        platform=platform,
        runtime=runtime,
        precision="fp32",
        format=format,
        converter="torch-tensorrt",
        options={},
        profiles=0,
    )


def _running(machine: Machine, torch: Torch | None, probe: Probe | None) -> Capability:
    name = "running artifacts"
    elsewhere = "Run them on a machine with an NVIDIA GPU."
    if not machine.gpus:
        return Capability(name, False, "there is no NVIDIA GPU here", elsewhere)
    if torch is None:
        return Capability(name, False, "torch is not installed", _INSTALL)
    if torch.cpu_only:
        command = f"pip install --force-reinstall 'torch=={_public(torch.version)}'"
        return Capability(name, False, f"torch {torch.version} was built for CPUs only", command)
    if probe is not None and probe.problem:
        return Capability(name, False, probe.problem, _AGAIN)
    if probe is not None and probe.answer is False:
        why = f"torch cannot use the GPU: its driver is too old for CUDA {torch.cuda}, or CUDA_VISIBLE_DEVICES hides it"
        return Capability(name, False, why, "nvidia-smi")
    return Capability(name, True)


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _minor(version: str | None) -> str:
    return ".".join((version or "").split(".")[:2])


def _public(version: str) -> str:
    """A version without the local part that says for what it was built (PEP 440)."""
    return version.partition("+")[0]


# what there is


def _packages() -> dict[str, str | None]:
    tools = toolchain()
    # These two come as wheels named by CUDA generation, which the toolchain knows.
    known = {"tensorrt-rtx": tools.tensorrt_rtx, "tensorrt": tools.tensorrt}
    return {name: known.get(name) or distributions().get(name) for name in PACKAGES}


def _torch() -> Torch | None:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    text = read(folder / "version.py")
    version = re.search(r"^__version__ = '(.+?)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b.*= '(.+?)'", text, re.MULTILINE)
    libraries = [*folder.glob("lib/libtorch_cuda.*"), *folder.glob("lib/torch_cuda.dll")]
    return Torch(
        version=version[1] if version else distributions().get("torch", "unknown"),
        cuda=cuda[1] if cuda and libraries else "",
    )


def _machine() -> Machine:
    cpu = read(Path("/proc/cpuinfo"))
    model = re.search(r"^model name\s*:\s*(.+)$", cpu, re.MULTILINE)
    flags = set(found[1].split()) if (found := re.search(r"^flags\s*:\s*(.+)$", cpu, re.MULTILINE)) else set()
    memory = re.search(r"^MemTotal:\s*(\d+) kB", read(Path("/proc/meminfo")), re.MULTILINE)
    cache = _cache()
    return Machine(
        python=f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        system=f"{_system()}, {host.platform()}",
        cpu=model[1] if model else platform.processor() or platform.machine(),
        cores=host.cores(),
        instructions=tuple(name for name, flag in (("AVX2", "avx2"), ("AVX-512", "avx512f")) if flag in flags),
        memory=int(memory[1]) * 1024 if memory else None,
        cache=str(cache),
        disk_free=_disk_free(cache),
        gpus=gpus(),
    )


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _cache() -> Path:
    try:
        return find_workspace([]).cache
    except (TrtbuildError, OSError):
        return Path("cache").absolute()


def _disk_free(folder: Path) -> int | None:
    for existing in (folder, *folder.parents):
        try:
            return shutil.disk_usage(existing).free
        except OSError:
            continue
    return None


def _probe(name: str) -> Probe:
    # The process must find the same trtbuild, installed or not.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-c", f"{_PROBES[name]}; print('answer:', answer)"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        return Probe(name, f"{name} does not load within {_PROBE_SECONDS} seconds")
    except OSError as error:
        return Probe(name, f"{name} cannot be tried: {error.strerror}")
    if done.returncode == 0:
        # Libraries print too.
        return Probe(name, answer="answer: True" in done.stdout.splitlines())
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode < 0:
        return Probe(name, f"{name} does not load: its process was killed by signal {-done.returncode}")
    return Probe(name, f"{name} does not load: {said[-1] if said else f'exit code {done.returncode}'}")
