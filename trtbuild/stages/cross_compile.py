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
from trtbuild.files import read_json
from trtbuild.stages.placeholders import PLATFORM, WINDOWS, reference
from trtbuild.stages.portable import CONSTANTS, MODEL, WEIGHTS, engine_places, moved, on_gpu, without_source_lines
from trtbuild.stages.whole_engine import take_whole_engine
from trtbuild.worker.job import Job


def run(job: Job) -> dict[str, Any]:
    """Write `model.engine` or `model.pt2`, by the format asked."""
    if job.settings["format"] == "engine":
        return take_whole_engine(job)
    compiled = job.inputs["compiled"]
    report = read_json(compiled["report.json"])
    engines = {engine["name"]: compiled[engine["file"]] for engine in report["engines"]}
    write_windows_program(compiled["program.pt2"], engines, job.out / "model.pt2")
    return {"engines": sorted(engines), "engine": report["whole"], "calls": "structured"}


def write_windows_program(program: Path, engines: dict[str, Path], target: Path) -> None:
    """Put the engines into a portable program and address it to a GPU on Windows."""
    rewrite(program, target, {MODEL: lambda data: _windows_model(data, engines), WEIGHTS: on_gpu, CONSTANTS: on_gpu})


def _windows_model(data: bytes, engines: dict[str, Path]) -> bytes:
    model = without_source_lines(moved(json.loads(data)))
    for node in engine_places(model, engines).values():
        for item in node["inputs"]:
            if item["name"] == "serialized_target_platform" and item["arg"] == {"as_string": PLATFORM}:
                item["arg"] = {"as_string": WINDOWS}
    text = json.dumps(model).encode()
    for name, path in engines.items():
        # Replaced in the text: an engine may be gigabytes, and a JSON encoder would copy it several times.
        text = text.replace(json.dumps(reference(name)).encode(), b'"' + base64.b64encode(path.read_bytes()) + b'"')
    return text
