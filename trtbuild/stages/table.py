"""The stages by name: where each runs, what enters its key beside settings and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from trtbuild.digest import Json, digest_bytes, digest_value

Layer = Literal["inline", "torch", "tensorrt", "gpu"]


@dataclass(frozen=True, slots=True)
class StageKind:
    """A kind of stage.

    `module` has `run(job) -> details`. `layer` is what the process has imported before: `inline` stages touch no
    native code and run in trtbuild's own process. `tools` names the toolchain that enters the key; `sources` the
    files of the stage's own code, which do too. `discovers`: what the stage reads is part of its key; an inline one
    tells its `reads` itself, among its details. `leaf`: no other stage reads its outputs, or by their bytes alone.
    """

    name: str
    module: str
    layer: Layer
    tools: tuple[str, ...]
    sources: tuple[str, ...]
    discovers: bool = False
    leaf: bool = False


_DIGESTS = ("digests/program.py", "digests/engine.py", "digests/archive.py", "digests/__init__.py")
_PROCESS = ("worker/environment.py", "files.py")
_TORCH_TENSORRT = ("python", "torch", "torch-tensorrt-rtx", "torch-tensorrt", "tensorrt-rtx", "tensorrt")

_KINDS = {
    kind.name: kind
    for kind in (
        StageKind(
            "trace",
            "trtbuild.stages.trace",
            "torch",
            ("python", "torch"),
            (
                "stages/trace.py",
                "stages/model.py",
                "stages/weights.py",
                "stages/inputs.py",
                "stages/user_code.py",
                *_PROCESS,
                *_DIGESTS,
            ),
            discovers=True,
        ),
        StageKind(
            "onnx",
            "trtbuild.stages.onnx",
            "tensorrt",
            ("python", "torch", "onnx", "onnxscript", "onnx-ir"),
            ("stages/onnx.py", "stages/inputs.py", "digests/onnx.py", *_PROCESS, *_DIGESTS),
        ),
        StageKind(
            "compile",
            "trtbuild.stages.compile",
            "tensorrt",
            (*_TORCH_TENSORRT, "onnx"),
            (
                "stages/compile.py",
                "stages/compile_torch_tensorrt.py",
                "stages/compile_onnx.py",
                "stages/gpuless.py",
                "stages/engine_facts.py",
                "stages/partitions.py",
                "stages/bounds.py",
                "stages/placeholders.py",
                "stages/sizes.py",
                "stages/inputs.py",
                *_PROCESS,
                *_DIGESTS,
            ),
        ),
        StageKind(
            "export", "trtbuild.stages.export", "inline", (), ("stages/export.py", "stages/whole_engine.py"), leaf=True
        ),
        StageKind(
            "cross-compile",
            "trtbuild.stages.cross_compile",
            "inline",
            (),
            ("stages/cross_compile.py", "stages/whole_engine.py", "stages/placeholders.py", "digests/archive.py"),
            leaf=True,
        ),
        StageKind(
            "null-trace",
            "trtbuild.stages.null_trace",
            "inline",
            (),
            ("stages/null_trace.py",),
            discovers=True,
            leaf=True,
        ),
        StageKind("null", "trtbuild.stages.null", "inline", (), ("stages/null.py",), leaf=True),
    )
}


def layer_of(name: str, settings: Mapping[str, Json]) -> Layer:
    """What must be imported before a stage with these settings can run."""
    # Standard TensorRT builds on the GPU that the engine is for.
    if name == "compile" and settings.get("runtime") == "tensorrt":
        return "gpu"
    # Torch-TensorRT's own decompositions are applied while tracing.
    return "tensorrt" if name == "trace" and settings["decompositions"] == "tensorrt" else stage_kind(name).layer


def tools_of(name: str, settings: Mapping[str, Json]) -> tuple[str, ...]:
    """The toolchain that enters the key of a stage with these settings."""
    tools = stage_kind(name).tools
    return (
        (*tools, "torch-tensorrt-rtx", "torch-tensorrt")
        if name == "trace" and layer_of(name, settings) == "tensorrt"
        else tools
    )


def stage_kind(name: str) -> StageKind:
    """The kind of a name; KeyError where there is none."""
    return _KINDS[name]


@cache
def code_of(name: str) -> str:
    """The version of a stage's own code: the digest of its source files."""
    package = Path(__file__).parents[1]
    return digest_value([digest_bytes((package / source).read_bytes()) for source in stage_kind(name).sources])
