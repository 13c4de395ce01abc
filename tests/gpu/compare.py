"""Built artifacts against their source model on a GPU: every engine and Windows program of a workspace's dist/.

    python -m tests.gpu.compare WORKSPACE [--json FILE]

Prints a line per artifact and size, exits with 1 where one is beyond its tolerance. The source model runs eagerly in
float32 without TF32; the tolerance is of the largest error relative to the largest value.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch

from tests.gpu.loading import load_engine, load_windows_program
from trtbuild.stages.inputs import example
from trtbuild.stages.model import build_model

# fp32 as tf32: on a GPU that NVIDIA does not list for RTX the builder's flag against TF32 was seen to change nothing.
TOLERANCES = {"fp32": 5e-3, "tf32": 5e-3, "fp16": 2e-2, "bf16": 1e-1, "fp16-mixed": 2e-2, "bf16-mixed": 1e-1}


def compare_all(workspace: Path) -> Iterator[dict[str, Any]]:
    """One result per artifact and size of its dims."""
    for path in sorted((workspace / "dist").rglob("manifest.json")):
        manifest = json.loads(path.read_bytes())
        for file in manifest["files"]:
            artifact = path.parent / file["path"]
            if artifact.name in ("model.engine", "model.pt2"):
                try:
                    yield from compare(workspace, artifact, manifest)
                except Exception as error:
                    yield {"artifact": str(artifact), "at": {}, "errors": [], "good": False, "failed": repr(error)}


def compare(workspace: Path, artifact: Path, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Compare one artifact with its source at min, opt and max of every dim."""
    settings = next(stage["key_inputs"]["settings"] for stage in manifest["stages"] if stage["kind"] == "trace")
    source = build_model({**settings, "cast": "fp32"}, workspace, None).cuda()
    loaded = load_engine(artifact, manifest) if artifact.suffix == ".engine" else load_windows_program(artifact)
    dtypes = {found["name"]: getattr(torch, found["dtype"]) for found in manifest["inputs"]}
    for bound in ("min", "opt", "max"):
        dims = {name: dict.fromkeys(("min", "opt", "max"), dim[bound]) for name, dim in settings["dims"].items()}
        args, kwargs = example(settings["inputs"], dims, seed=7)
        args, kwargs = _on_gpu(args), _on_gpu(kwargs)
        with torch.no_grad():
            expected = torch.utils._pytree.tree_leaves(source(*args, **kwargs))
            low_args, low_kwargs = _cast(args, kwargs, list(dtypes.values()))
            if artifact.suffix == ".engine":
                found = loaded(*torch.utils._pytree.tree_leaves((low_args, low_kwargs)))
            else:
                found = torch.utils._pytree.tree_leaves(loaded(*low_args, **low_kwargs))
        assert len(found) == len(expected)
        errors = [_error(one, other) for one, other in zip(found, expected, strict=True)]
        yield {
            "artifact": artifact.relative_to(workspace / "dist").as_posix(),
            "built_by": manifest["toolchain"],
            "digest": next(f["digest"] for f in manifest["files"] if f["path"] == artifact.name),
            "at": {name: dim["opt"] for name, dim in dims.items()},
            "errors": errors,
            "tolerance": TOLERANCES[manifest["precision"]],
            # A NaN compares as false: it never passes.
            "good": all(error <= TOLERANCES[manifest["precision"]] for error in errors),
        }


def _on_gpu(tree: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda tensor: tensor.cuda(), tree)


def _cast(args: Any, kwargs: Any, dtypes: list[torch.dtype]) -> tuple[Any, Any]:
    leaves, spec = torch.utils._pytree.tree_flatten((args, kwargs))
    return torch.utils._pytree.tree_unflatten(
        [leaf.to(dtype) for leaf, dtype in zip(leaves, dtypes, strict=True)], spec
    )


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.double().cpu(), expected.double().cpu()
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-6))


def _host() -> dict[str, Any]:
    from importlib.metadata import version

    packages = ("torch", "torch-tensorrt-rtx", "tensorrt-rtx-cu13-bindings")
    return {
        "date": date.today().isoformat(),
        "gpu": torch.cuda.get_device_name(),
        "compute_capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "versions": {name: version(name) for name in packages},
    }


def main() -> int:
    """Compare all, print, and write the results with what they were made by."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    results = []
    for result in compare_all(options.workspace.resolve()):
        results.append(result)
        errors = [f"{error:.1e}" for error in result["errors"]]
        print(
            "good" if result["good"] else "BAD ",
            result["artifact"],
            result["at"],
            *errors,
            result.get("failed", ""),
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({**_host(), "results": results}, indent=1) + "\n")
    return 0 if results and all(result["good"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
