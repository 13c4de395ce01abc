"""From a file to an Artifact: read the manifest, check, open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtbuild.runtime import admission
from trtbuild.runtime.admission import Permissions
from trtbuild.runtime.description import Description
from trtbuild.runtime.problems import LoadError

if TYPE_CHECKING:
    import os

    import torch

    from trtbuild.runtime.artifact import Artifact
    from trtbuild.runtime.backends import Backend

MANIFEST = "manifest.json"


def load(
    path: str | os.PathLike[str],
    *,
    device: Any = None,
    cuda_graph: bool = False,
    trusted: bool = False,
    for_verification: bool = False,
    other_gpu: bool = False,
) -> Artifact:
    """Open an artifact by the manifest beside it; the result is called as the model that it was built from.

    device: "cuda", "cuda:1", "cpu" or a torch.device; left out, the one that the artifact was built for.
    cuda_graph: launch a raw engine as a CUDA graph, one per set of shapes, from and to buffers of its own.
    trusted: the file may run code as it is opened; AOTInductor packages do.
    for_verification: a program for Windows may be opened on Linux (or the reverse) to compare its numbers.
    other_gpu: engines may run on a GPU that they were not built for.

    LoadError says what does not fit, InputError at a call what the artifact does not take.
    """
    file = Path(path)
    description = Description.from_manifest(_manifest(file), file.name)
    if description.digest is None:
        raise LoadError(
            "The manifest has no digest of the file",
            [("file", str(file))],
            "`trtbuild run` writes it; a file that nobody vouches for is not opened.",
        )
    return open_artifact(
        file,
        description,
        device=device,
        cuda_graph=cuda_graph,
        trusted=trusted,
        for_verification=for_verification,
        other_gpu=other_gpu,
    )


def open_artifact(
    path: str | os.PathLike[str],
    description: Description,
    *,
    device: Any = None,
    cuda_graph: bool = False,
    trusted: bool = False,
    for_verification: bool = False,
    other_gpu: bool = False,
) -> Artifact:
    """`load` of a file whose description is already known."""
    file, may = Path(path), Permissions(trusted, for_verification, other_gpu)
    if cuda_graph and description.format != "engine":
        raise LoadError(
            "Only raw engines are run as CUDA graphs",
            [("format", description.format)],
            "Capture the artifact's call yourself with torch.cuda.graph, or build the format `engine`.",
        )
    admission.check_digest(file, description)
    admission.check_platform(description, may)
    admission.check_torch(description)
    where = admission.device_for(description, device)
    admission.check_gpu(description, where, may)
    trt = admission.tensorrt_for(description) if description.has_engines else None
    admission.check_trust(file, description, may)

    from trtbuild.runtime.artifact import Artifact

    return Artifact(description, where, _backend(file, description, where, trt, cuda_graph, may))


def _manifest(file: Path) -> Any:
    if not file.is_file():
        raise LoadError("There is no such file", [("file", str(file))])
    beside = file.parent / MANIFEST
    try:
        manifest = json.loads(beside.read_bytes())
    except FileNotFoundError:
        raise LoadError(
            "There is no manifest beside the artifact",
            [("file", str(file)), ("looked for", str(beside))],
            "`trtbuild run` writes both; copy the whole folder.",
        ) from None
    except (OSError, ValueError) as error:
        raise LoadError("The manifest cannot be read", [("file", str(beside)), ("reason", str(error))]) from error
    if not isinstance(manifest, dict):
        raise LoadError("The manifest cannot be read", [("file", str(beside)), ("reason", "it is no JSON object")])
    return manifest


def _backend(
    file: Path, description: Description, device: torch.device, trt: Any, cuda_graph: bool, may: Permissions
) -> Backend:
    from trtbuild.runtime.backends import EngineBackend, FunctionBackend

    if description.format == "engine":
        return EngineBackend(trt, file, description, device, cuda_graph)
    if description.format == "onnx":
        from trtbuild.runtime.onnx_session import Session, require_onnxruntime

        return FunctionBackend(Session(require_onnxruntime(device), file, description, device), description)
    if description.format == "exported_program":
        from trtbuild.runtime.exported import open_exported

        return open_exported(file, description, device, trt, trusted=may.trusted)
    if description.has_engines:
        _require_torch_tensorrt(description)
    if description.format == "torchscript":
        from trtbuild.runtime.torchscript import Script

        return FunctionBackend(Script(file, description, device), description)
    from trtbuild.runtime.aot_inductor import Package

    return FunctionBackend(Package(file, description, device), description)


def _require_torch_tensorrt(description: Description) -> None:
    from trtbuild.runtime.partition import torch_tensorrt

    runtime = description.target.runtime
    if not torch_tensorrt(runtime):
        package = "torch-tensorrt-rtx" if runtime == "tensorrt-rtx" else "torch-tensorrt"
        version = description.toolchain.get(package)
        raise LoadError(
            f"The artifact's engines are run by Torch-TensorRT's C++ runtime, which is not here: {description.format}",
            [("needs", f"{package} {version or ''}".strip())],
            f"pip install {package}{'==' + version if version else ''}; "
            "`exported_program` and `engine` run without it, by TensorRT's Python runtime.",
        )
