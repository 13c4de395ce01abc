"""Bench: a loaded artifact beside its source model in eager PyTorch, torch.compile, and Torch-TensorRT called by hand.

Settings and slots are those of a verify step, and `bench`:

    {"points": [{dim: size}] or None for the default ones, "seconds": per row, "warmup": seconds at least,
     "rounds": turns per row, "peers": of `benching.contestants.PEERS`, "cuda_graph": a raw engine and its peers also
     with CUDA graphs, "compile": the settings of the compile step where Torch-TensorRT made the artifact, else None,
     "artifact": whatever else shall be told of it}

Details: the record,

    {"artifact": {...}, "date",
     "on": {"device", "compute_capability"?, "driver"?, "versions", "clocks": {"before", "after"}},
     "settings": {"seconds", "warmup", "rounds"}, "engine_memory": {engine: bytes},
     "points": [{"at": {dim: size}, "items": per call, "rows": [
         {"what": "artifact" | "eager" | "torch.compile" | "torch-tensorrt", "cuda_graph", "precision"?,
          "median_ms", "p90_ms", "p99_ms", "host_median_ms", "host_p99_ms", "throughput_per_s": items, "samples",
          "peak_bytes": by torch's allocator during calls, "device_bytes": of the GPU since it was opened,
          "warmup": {"calls", "seconds", "stable"}}
         or {"what", "cuda_graph", "failed": reason}]}]}

Rows that run the same module (eager and torch.compile, with and without CUDA graphs) share its memory, which counts for
the first of them.

The peers run in the precision of the artifact: cast as its trace was, by autocast where it is a mixed one, and float32
with TF32 only where the artifact is `tf32`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from typing import Any

from trtbuild.benching import contestants
from trtbuild.benching.machine import clocks, measured_on
from trtbuild.benching.points import Point, checked_points, default_points
from trtbuild.benching.session import Arguments, Plan, batch_dim, measure
from trtbuild.errors import StageError
from trtbuild.host import cores
from trtbuild.stages.inputs import cast_inputs, example
from trtbuild.stages.model import build_model
from trtbuild.stages.table import on_cpu
from trtbuild.verification.opening import open_artifact
from trtbuild.worker.job import Job


def run(job: Job) -> dict[str, Any]:
    """Measure. StageError where the artifact cannot be opened, or runs at no point; a peer's fault is in its rows."""
    import torch

    settings, asked = job.settings, job.settings["bench"]
    dims, device = settings["dims"], "cpu" if on_cpu(settings) else "cuda"
    points = checked_points(asked["points"], dims) if asked.get("points") else default_points(dims)
    contestants.check_peers(asked["peers"])
    _set_tf32(settings["precision"] == "tf32")
    if device == "cpu":
        # Stages have one thread, so that they give the same everywhere; whoever runs the model has all of them.
        torch.set_num_threads(cores())
    opened = _opener(job)
    before = clocks(device)
    plan = Plan(points, asked["seconds"], asked["warmup"], asked["rounds"], batch_dim(settings["inputs"], dims))
    entries = list(_entries(job, device, opened, len(points)))
    with torch.no_grad():
        measured = measure(entries, lambda point: _arguments(job, device, point), plan, device)
    _check_ran(measured)
    return {
        "artifact": {
            **{key: settings[key] for key in ("format", "platform", "runtime", "device", "precision")},
            **(asked.get("artifact") or {}),
        },
        "date": date.today().isoformat(),
        "on": {**measured_on(device), "clocks": {"before": before, "after": clocks(device)}},
        "settings": {key: asked[key] for key in ("seconds", "warmup", "rounds")},
        "engine_memory": _engine_memory(opened(False)),
        "points": measured,
    }


def _set_tf32(allowed: bool) -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def _opener(job: Job) -> Callable[[bool], Any]:
    """The artifact by whether it shall run in CUDA graphs; each is opened once."""
    signature, made = job.details["program"]["signature"], job.details["artifact"]

    @cache
    def opened(cuda_graph: bool) -> Any:
        return open_artifact(job.settings, job.options, job.inputs["artifact"], signature, made, cuda_graph)

    return opened


def _entries(job: Job, device: str, opened: Callable[[bool], Any], points: int) -> Iterator[contestants.Entry]:
    settings, asked = job.settings, job.settings["bench"]
    precision, peers = settings["precision"], asked["peers"]
    # Of the formats only raw engines are loaded as CUDA graphs.
    with_graphs = asked["cuda_graph"] and device == "cuda" and settings["format"] == "engine"
    graphs = (False, True) if with_graphs else (False,)

    @cache
    def model() -> Any:
        cast = {**settings, "cast": contestants.cast_of(precision)}
        return build_model(cast, job.workspace, job.files.get("weights")).to(device)

    yield from (contestants.artifact(opened, graph) for graph in graphs)
    if "eager" in peers:
        yield contestants.eager(model, precision, device)
    if "torch.compile" in peers:
        yield from (contestants.compiled(model, precision, device, points, graph) for graph in graphs)
    by_torch_tensorrt = asked.get("compile") or {}
    if "torch-tensorrt" in peers and device == "cuda" and by_torch_tensorrt.get("converter") == "torch-tensorrt":
        program = job.inputs["program"].get("program.pt2")
        yield from contestants.torch_tensorrt(program, by_torch_tensorrt, graphs)


def _arguments(job: Job, device: str, point: Point) -> Arguments:
    """The inputs at a point, in the dtypes that the artifact takes, on its device."""
    import torch

    settings = job.settings
    inputs = cast_inputs(settings["inputs"], contestants.cast_of(settings["precision"]))
    dims = {name: {"min": size, "opt": size, "max": size} for name, size in point.items()}
    drawn = example(inputs, dims, settings["seed"])
    moved: Arguments = torch.utils._pytree.tree_map(lambda tensor: tensor.to(device), drawn)
    return moved


def _check_ran(measured: list[dict[str, Any]]) -> None:
    rows = [(point["at"], row) for point in measured for row in point["rows"]]
    own = [(at, row) for at, row in rows if row["what"] == "artifact" and not row["cuda_graph"]]
    if all("failed" in row for _, row in own):
        facts = [(", ".join(f"{name} {size}" for name, size in at.items()), row["failed"]) for at, row in own]
        raise StageError("The artifact runs at no point", facts)


def _engine_memory(artifact: Any) -> dict[str, int]:
    """What each engine says that it needs while it runs, without its weights, in bytes."""
    engines = getattr(artifact, "engines", None) or {}
    return {name: int(engine.device_memory_size_v2) for name, engine in engines.items()}
