"""Latency of loaded artifacts beside Torch-TensorRT called by hand, for every artifact of a workspace's dist/.

python -m tests.bench.latency WORKSPACE [--at batch=8]... [--seconds S] [--rounds N] [--peer P]... [--json FILE]

Needs a GPU. Prints the tables of `trtbuild bench`, then for each artifact that Torch-TensorRT made its median divided
by that of the same program compiled and called by hand in the same run, with and without CUDA graphs. The goal is
1.02 at most; the exit code is 1 where an artifact is beyond it, or where one was not measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import trtbuild.outside
from tests.bench.machine import machine
from trtbuild.benching.contestants import PEERS
from trtbuild.errors import TrtbuildError
from trtbuild.views.bench import render_bench

GOAL = 1.02


def measured(path: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The records of a file, or of all artifacts of a folder; one that fails is a record with the reason."""
    try:
        done = trtbuild.outside.bench(
            [path],
            points=options.at or None,
            seconds=options.seconds,
            rounds=options.rounds,
            peers=options.peer or PEERS,
            other_gpu=True,
        )
    except TrtbuildError as error:
        print(error.render(), file=sys.stderr)
        yield {"artifact": {"path": path.name}, "failed": error.sentence, "points": []}
        return
    yield from (record for _, record in done)


def ratios(record: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, int], bool, float | None]]:
    """(sizes, with CUDA graphs, artifact / by hand) of each point; None where one of the two failed."""
    for point in record["points"]:
        rows = {(row["what"], row["cuda_graph"]): row for row in point["rows"]}
        for graph in (False, True):
            own, by_hand = rows.get(("artifact", graph)), rows.get(("torch-tensorrt", graph))
            if own and by_hand:
                failed = "failed" in own or "failed" in by_hand
                yield point["at"], graph, None if failed else own["median_ms"] / by_hand["median_ms"]


def report(records: Sequence[Mapping[str, Any]]) -> bool:
    """Print the ratios; whether all that were measured are within the goal, and there are some."""
    found = []
    for record in records:
        about = record["artifact"]
        name = "/".join(str(about[key]) for key in ("recipe", "target", "precision", "format", "path") if key in about)
        if "failed" in record:
            print(f"{name}: {record['failed']}")
            found.append(False)
        for at, graph, ratio in ratios(record):
            sizes = ", ".join(f"{dim} {size}" for dim, size in at.items())
            verdict = "" if ratio is not None and ratio <= GOAL else "  BEYOND THE GOAL"
            told = f"{ratio:.3f}" if ratio is not None else "failed"
            print(f"{name} {sizes}{', CUDA graph' if graph else ''}: {told}{verdict}")
            found.append(not verdict)
    return bool(found) and all(found)


def main() -> int:
    """Measure, print, and write the records with what they were measured on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--at", action="append", type=_point, default=[])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    manifests = sorted((options.workspace / "dist").rglob("manifest.json"))
    files = [manifest.parent / file["path"] for manifest in manifests for file in _files(manifest)]
    records = []
    for path in files:
        for record in measured(path, options):
            records.append(record)
            if record["points"]:
                print(render_bench(record), flush=True)
    good = report(records)
    if options.json:
        told = {"date": date.today().isoformat(), "machine": machine(), "goal": GOAL, "records": records}
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0 if good else 1


def _files(manifest: Path) -> list[dict[str, Any]]:
    """The artifacts that run on a GPU."""
    told = json.loads(manifest.read_bytes())
    if told["target"].get("device") == "cpu":
        return []
    return [file for file in told["files"] if file["format"] != "onnx" and "verification" in file]


def _point(text: str) -> dict[str, int]:
    return {name: int(size) for name, size in (part.split("=") for part in text.split(","))}


if __name__ == "__main__":
    sys.exit(main())
