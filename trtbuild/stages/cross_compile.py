"""Cross-compile: Windows artifacts from the portable compiled program, on Linux, without a GPU.

An RTX engine for given GPUs is one for Windows and Linux (NVIDIA, TensorRT-RTX documentation, "CPU-Only AOT"), so the
Windows engine is the Linux one. The Windows program is the portable program with its engines put in and its platform
changed, in the format that torch_tensorrt.load_cross_compiled_exported_program reads.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from trtbuild.digests.archive import rewrite
from trtbuild.errors import StageError
from trtbuild.files import read_json
from trtbuild.stages.placeholders import PLATFORM, WINDOWS, reference
from trtbuild.stages.whole_engine import take_whole_engine
from trtbuild.worker.job import Job

_PLACEHOLDER = "torch.ops.tensorrt.no_op_placeholder_for_execute_engine.default"


def run(job: Job) -> dict[str, Any]:
    """Write `model.engine` or `model.pt2`, by the format asked."""
    if job.settings["format"] == "engine":
        return take_whole_engine(job)
    compiled = job.inputs["compiled"]
    report = read_json(compiled["report.json"])
    engines = {engine["name"]: compiled[engine["file"]] for engine in report["engines"]}
    write_windows_program(compiled["program.pt2"], engines, job.out / "model.pt2")
    return {"engines": sorted(engines)}


def write_windows_program(program: Path, engines: dict[str, Path], target: Path) -> None:
    """Put the engines into a portable program and address it to a GPU on Windows.

    Traced on a CPU, the program's tensors and factory ops name the CPU; where it will run they belong on the GPU.
    """
    rewrite(
        program,
        target,
        {
            "models/model.json": lambda data: _windows_model(data, engines),
            "data/weights/model_weights_config.json": _on_gpu,
            "data/constants/model_constants_config.json": _on_gpu,
        },
    )


def _windows_model(data: bytes, engines: dict[str, Path]) -> bytes:
    model = json.loads(data)
    nodes = [node for node in model["graph_module"]["graph"]["nodes"] if node["target"] == _PLACEHOLDER]
    if len(nodes) != len(engines):
        raise StageError(
            "The compiled program does not hold its engines",
            [("engines", str(len(engines))), ("places", str(len(nodes)))],
        )
    for node in nodes:
        for item in node["inputs"]:
            if item["name"] == "serialized_target_platform" and item["arg"] == {"as_string": PLATFORM}:
                item["arg"] = {"as_string": WINDOWS}
    text = json.dumps(_moved(model)).encode()
    for name, path in engines.items():
        # Replaced in the text: an engine may be gigabytes, and a JSON encoder would copy it several times.
        text = text.replace(json.dumps(reference(name)).encode(), b'"' + base64.b64encode(path.read_bytes()) + b'"')
    return text


def _on_gpu(data: bytes) -> bytes:
    return json.dumps(_moved(json.loads(data))).encode()


def _moved(value: Any) -> Any:
    """A JSON value with every device that is the CPU replaced by the first GPU."""
    if isinstance(value, dict):
        if value.get("type") == "cpu" and set(value) == {"type", "index"}:
            return {"type": "cuda", "index": 0}
        return {key: _moved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item) for item in value]
    return value
