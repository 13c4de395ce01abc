"""The peer of `tests.bench.cold_build`: artifacts made by hand, with the calls that a user's own script would make.

python tests/bench/by_hand.py MODEL FOLDER ARTIFACT...

An artifact is TARGET-PRECISION-FORMAT, and so is the file it goes to; by exported_program the one for Windows is meant.
With several, each precision is traced once and compiled once, as a careful script for all of them would.

Of trtbuild it takes the patches that a machine without a GPU needs, and nothing else. The numbers are those of
recipes/resnet.toml.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

SEED = 0
CAPABILITIES = ["8.0", "8.6", "8.9", "12.0"]
BATCH = {"min": 1, "opt": 8, "max": 32}
IMAGE = (3, 224, 224)


def main(model: str, folder: str, *artifacts: str) -> None:
    wanted = [artifact.split("-") for artifact in artifacts]
    if any(format != "onnx" for _, _, format in wanted):
        # As such a script begins: with its imports. The program that it traces is the same.
        _import_torch_tensorrt()
    for precision in dict.fromkeys(precision for _, precision, _ in wanted):
        formats = [
            (format, f"{folder}/{target}-{precision}-{format}") for target, p, format in wanted if p == precision
        ]
        _make(model, precision, formats)


def _make(model: str, precision: str, wanted: list[tuple[str, str]]) -> None:
    import torch

    dtype = torch.float16 if precision == "fp16" else torch.float32
    program = _trace(model, dtype)
    for format, output in wanted:
        if format == "onnx":
            torch.onnx.export(program, (), output, dynamo=True, external_data=False, verbose=False)
    if all(format == "onnx" for format, _ in wanted):
        return
    module = _compile(program, dtype)
    for format, output in wanted:
        if format == "engine":
            (engine,) = [child.serialized_engine for _, child in module.named_children()]
            Path(output).write_bytes(engine)
        elif format == "exported_program":
            _save_windows_program(module, output)


def _import_torch_tensorrt() -> None:
    import trtbuild.digest
    from trtbuild.stages import gpuless

    # The patches also note the layers of every network and the digest of every engine: no part of such a script.
    vars(gpuless)["network_facts"] = lambda *_: {}
    vars(trtbuild.digest)["digest_bytes"] = lambda _: ""
    gpuless.import_torch_tensorrt()


def _trace(model_name: str, dtype: Any) -> Any:
    import torch
    import torchvision

    torch.manual_seed(SEED)
    model = getattr(torchvision.models, model_name)().eval().to(dtype)
    batch = torch.export.Dim("batch", min=BATCH["min"], max=BATCH["max"])
    with torch.no_grad():
        return torch.export.export(
            model, (torch.rand(BATCH["opt"], *IMAGE).to(dtype),), dynamic_shapes={"x": {0: batch}}
        )


def _compile(program: Any, dtype: Any) -> Any:
    import torch
    import torch_tensorrt

    from trtbuild.stages.bounds import bounds_of
    from trtbuild.stages.gpuless import answer_for

    shapes = {f"{bound}_shape": (size, *IMAGE) for bound, size in BATCH.items()}
    described = {"inputs": [{"shape": ["batch", *IMAGE]}], "dims": {"batch": BATCH}, "profiles": []}
    answer_for(CAPABILITIES, bounds_of(program, described))
    with torch.no_grad():
        return torch_tensorrt.dynamo.compile(
            program, arg_inputs=[torch_tensorrt.Input(**shapes, dtype=dtype)], disable_tf32=True
        )


def _save_windows_program(module: Any, output: str) -> None:
    import torch
    from torch_tensorrt.dynamo import _exporter

    program = _exporter.export(module, cross_compile_module=True, use_legacy_exporter=True)
    torch.export.save(program, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
