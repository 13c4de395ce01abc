"""The stages by name: where each runs, what enters its key beside settings and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from trtbuild.digest import Json, digest_bytes, digest_value

Layer = Literal["inline", "torch", "tensorrt", "fresh", "gpu"]


@dataclass(frozen=True, slots=True)
class StageKind:
    """A kind of stage.

    `module` has `run(job) -> details`. `layer` is what the process has imported before: `inline` stages touch no
    native code and run in trtbuild's own process; `fresh` and `gpu` are processes that were not forked from a warm
    one, `gpu` alone sees a GPU. `tools` names the toolchain that enters the key; `sources` the
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


_DIGESTS = ("digests/program.py", "digests/engine.py", "digests/archive.py", "digests/__init__.py", "structure.py")
_PROCESS = ("worker/environment.py", "files.py")
_TORCH_TENSORRT = ("python", "torch", "torch-tensorrt-rtx", "torch-tensorrt", "tensorrt-rtx", "tensorrt")

_EXPORT = (
    "stages/export.py",
    "stages/whole_engine.py",
    "stages/placeholders.py",
    "stages/portable.py",
    "stages/engine_object.py",
    "stages/linux_program.py",
    "stages/stock_export.py",
    "stages/torchscript.py",
    "stages/aot_inductor.py",
    "stages/inputs.py",
    "stages/sizes.py",
    "digests/archive.py",
)
# How numbers are compared; how an artifact is opened changes no number that passes.
_VERIFY = (
    "stages/verify.py",
    "stages/model.py",
    "stages/state.py",
    "stages/weights.py",
    "stages/inputs.py",
    "verification/cases.py",
    "verification/examples.py",
    "verification/source.py",
    "verification/structure.py",
    "verification/compare.py",
    "verification/tolerances.py",
    "verification/realised.py",
    "verification/results.py",
    "stages/engine_facts.py",
    "structure.py",
)

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
                "stages/state.py",
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
                "stages/compile_torchscript.py",
                "stages/torchscript.py",
                "stages/linux_program.py",
                "stages/portable.py",
                "stages/engine_object.py",
                "stages/compile_onnx.py",
                "stages/gpuless.py",
                "stages/standard.py",
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
        StageKind("export", "trtbuild.stages.export", "inline", (), (*_EXPORT, *_PROCESS), leaf=True),
        StageKind(
            "cross-compile",
            "trtbuild.stages.cross_compile",
            "inline",
            (),
            (
                "stages/cross_compile.py",
                "stages/whole_engine.py",
                "stages/portable.py",
                "stages/placeholders.py",
                "digests/archive.py",
            ),
            leaf=True,
        ),
        # What was compared is what its inputs are; with which versions, the result says.
        StageKind("verify", "trtbuild.stages.verify", "fresh", (), _VERIFY, leaf=True),
        # Jobs about artifacts outside any run: no plan holds them, and nothing of them is stored.
        StageKind("bench", "trtbuild.stages.bench", "fresh", (), (), leaf=True),
        StageKind("inspect", "trtbuild.stages.inspect_engine", "fresh", (), (), leaf=True),
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
    if name == "compile" and (settings.get("runtime") == "tensorrt" or settings.get("ir") == "ts"):
        # Standard TensorRT, and the TorchScript frontend, build on the GPU that the engine is for.
        return "gpu"
    if name == "verify":
        return "fresh" if on_cpu(settings) else "gpu"
    if name == "export" and writes_live(settings):
        return "fresh" if on_cpu(settings) else "gpu"
    # Torch-TensorRT's own decompositions are applied while tracing.
    return "tensorrt" if name == "trace" and settings["decompositions"] == "tensorrt" else stage_kind(name).layer


def on_cpu(settings: Mapping[str, Json]) -> bool:
    """Whether an artifact is loaded on a CPU; an ONNX model is, wherever it will run."""
    return settings.get("device") == "cpu" or settings.get("format") == "onnx"


def writes_live(settings: Mapping[str, Json]) -> bool:
    """Whether an export runs the program to write it, rather than put it together from files."""
    export = settings.get("export")
    retrace = isinstance(export, Mapping) and export.get("retrace") is True
    return settings["format"] in ("torchscript", "aot_inductor") or (settings["format"] != "engine" and retrace)


def tools_of(name: str, settings: Mapping[str, Json]) -> tuple[str, ...]:
    """The toolchain that enters the key of a stage with these settings."""
    tools = stage_kind(name).tools
    if name == "trace" and layer_of(name, settings) == "tensorrt":
        return (*tools, "torch-tensorrt-rtx", "torch-tensorrt")
    if name == "verify" and settings["format"] == "onnx":
        # Another onnxruntime may compute otherwise, and the artifact is bound to none.
        return ("onnxruntime",)
    if name == "export" and writes_live(settings):
        return ("python", "torch") if settings["runtime"] == "torch" else _TORCH_TENSORRT
    return tools


def stage_kind(name: str) -> StageKind:
    """The kind of a name; KeyError where there is none."""
    return _KINDS[name]


@cache
def code_of(name: str) -> str:
    """The version of a stage's own code: the digest of its source files."""
    package = Path(__file__).parents[1]
    return digest_value([digest_bytes((package / source).read_bytes()) for source in stage_kind(name).sources])
