"""Whether an artifact may be opened on this machine: all that can be said before native code sees the file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtbuild.runtime import machine
from trtbuild.runtime.archive_check import check_archive
from trtbuild.runtime.archive_zip import UnsafeArchive
from trtbuild.runtime.description import Description
from trtbuild.runtime.problems import LoadError

if TYPE_CHECKING:
    import torch

# The GPUs that NVIDIA lists for TensorRT-RTX are named in the recipe's targets; others may well run the engines.
_OTHER_GPU = "Build it for this GPU too, or pass other_gpu=True to try it here all the same."


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the caller has said: that the file is trusted, is only to be verified, may run on a GPU not built for."""

    trusted: bool = False
    for_verification: bool = False
    other_gpu: bool = False


def check_digest(path: Path, description: Description) -> None:
    """LoadError where the file, or one that it reads beside it, is not the one that the manifest tells of."""
    _check_digest(path, description.digest)
    for name, digest in description.beside.items():
        _check_digest(path.parent / name, digest)


def _check_digest(path: Path, digest: str | None) -> None:
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest() if digest is not None else None
    except OSError as error:
        facts = [("file", str(path)), ("reason", error.strerror or "")]
        raise LoadError("The artifact cannot be read", facts) from error
    if found != digest:
        raise LoadError(
            "The file is not the one that its manifest tells of",
            [("file", str(path)), ("sha256", str(found)), ("manifest", str(digest))],
            "It was changed, cut, or copied without its manifest; `trtbuild run` puts both in place again.",
        )


def check_platform(description: Description, may: Permissions) -> None:
    """LoadError where the artifact is for another platform."""
    built, here = description.target.platform, machine.this_platform()
    if not built or built == here or _portable(description):
        return
    facts = [("built for", built), ("this machine", here)]
    if description.format == "aot_inductor":
        raise LoadError("The artifact is native code for another platform", facts, "Build it for this platform.")
    if description.format == "torchscript":
        raise LoadError(
            "The artifact's engines are for another platform",
            facts,
            "TorchScript keeps the platform inside; build an engine or an exported program for this one.",
        )
    if description.format == "engine":
        raise LoadError("The engine is for another platform", facts, "Only TensorRT-RTX engines run on several.")
    if not may.for_verification:
        raise LoadError(
            "The program is for another platform",
            facts,
            "It can be loaded here only to verify its numbers: for_verification=True rewrites its platform in memory. "
            "That it runs there as it does here is not proven by that.",
        )


def _portable(description: Description) -> bool:
    if description.format == "onnx":
        return True
    if description.target.runtime == "torch":
        return description.format in ("exported_program", "torchscript")
    # NVIDIA, TensorRT-RTX documentation, "CPU-Only AOT": one engine is for Windows and Linux.
    return description.format == "engine" and description.target.runtime == "tensorrt-rtx"


def check_torch(description: Description) -> None:
    """LoadError where torch is absent, or too old or too different for what it has to read."""
    built = description.toolchain.get("torch")
    machine.require_torch(built)
    if built is None or description.format in ("engine", "onnx"):
        return
    here = machine.torch_version()
    if description.format == "aot_inductor" and _minor(here) != _minor(built):
        raise LoadError(
            "The package was compiled against another torch, whose native code it calls",
            [("built with", built), ("installed", here)],
            f"pip install torch=={built.partition('+')[0]}",
        )
    if _minor(here) < _minor(built):
        raise LoadError(
            "The program was saved by a newer torch than is installed",
            [("built with", built), ("installed", here)],
            "torch reads programs of its own version and of older ones: "
            f"pip install torch>={'.'.join(map(str, _minor(built)))}",
        )


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("+")[0].split(".")[:2] if part.isdigit())


def device_for(description: Description, asked: Any) -> torch.device:
    """The device that the artifact goes to. LoadError where it is not made for the one that was asked."""
    import torch

    try:
        wanted = None if asked is None else torch.device(asked)
    except (RuntimeError, TypeError) as error:
        raise LoadError("There is no such device", [("asked", str(asked))]) from error
    if description.format == "onnx":
        if wanted is None or wanted.type == "cpu":
            return torch.device("cpu")
        return machine.cuda_device(wanted)
    made_for = "cuda" if description.has_engines else description.target.device
    if wanted is not None and wanted.type != made_for:
        raise LoadError(
            f"The artifact runs on {'a GPU' if made_for == 'cuda' else 'the CPU'} only",
            [("asked", str(wanted)), ("built for", made_for)],
            "" if description.has_engines else '`device` of the target says where its tensors lie: "cuda" or "cpu".',
        )
    return torch.device("cpu") if made_for == "cpu" else machine.cuda_device(wanted)


def check_gpu(description: Description, device: torch.device, may: Permissions) -> None:
    """LoadError where the GPU is none of those that the engines were built for."""
    built = description.target.compute_capability
    if device.type != "cuda" or not built or not description.has_engines or may.other_gpu:
        return
    here = machine.capability(device)
    if here not in built:
        raise LoadError(
            "The artifact was not built for this GPU",
            [
                ("GPU", f"{machine.gpu_name(device)}, compute capability {here}"),
                ("built for", f"compute capability {', '.join(built)}"),
            ],
            _OTHER_GPU,
        )


def tensorrt_for(description: Description) -> Any:
    """The TensorRT that the artifact needs. LoadError where it is absent or of another version."""
    runtime = description.target.runtime
    built = description.toolchain.get(runtime)
    trt = machine.import_tensorrt(runtime, built)
    here = str(trt.__version__)
    if built is not None and here != built:
        raise LoadError(
            f"The artifact was built with another version of {runtime}, which reads engines of its own version alone",
            [("built with", built), ("installed", here)],
            f"pip install {runtime}=={built}, or build the artifact with {here}.",
        )
    return trt


def check_trust(path: Path, description: Description, may: Permissions) -> None:
    """LoadError where opening the file could run code that nobody said is trusted."""
    if may.trusted:
        return
    if description.format == "aot_inductor":
        raise LoadError(
            "An AOTInductor package is native code, and runs as soon as it is opened",
            [("file", str(path))],
            "Pass trusted=True if you built it, or trust who did as you trust a program that you install.",
        )
    try:
        if description.format == "exported_program":
            check_archive(path)
        elif description.format == "torchscript":
            from trtbuild.runtime.torchscript import check_torchscript

            check_torchscript(path)
    except UnsafeArchive as error:
        raise LoadError(
            "The file holds what could run code as it is opened",
            [("file", str(path)), ("found", str(error))],
            "No artifact of trtbuild holds that. trusted=True opens it all the same.",
        ) from error
