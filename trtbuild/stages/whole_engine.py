"""The one engine that is the whole program, where there is one."""

from __future__ import annotations

from typing import Any

from trtbuild.errors import StageError
from trtbuild.files import read_json
from trtbuild.worker.job import Job

_SHOWN = 12


def take_whole_engine(job: Job) -> dict[str, Any]:
    """`model.engine` as a copy of the compiled engine. StageError lists the ops in the way of its being one."""
    compiled = job.inputs["compiled"]
    report = read_json(compiled["report.json"])
    whole = report["whole"]
    if whole is None:
        raise _several(report)
    engine = next(engine for engine in report["engines"] if engine["name"] == whole["engine"])
    return {"copies": {"model.engine": ("compiled", engine["file"])}, "engine": whole}


def _several(report: dict[str, Any]) -> StageError:
    left = [f"{part['op']} x {part['count']}: {part['reason']}" for part in report["partitions"]["pytorch"]]
    shown = left[:_SHOWN] + ([f"... and {len(left) - _SHOWN} more"] if len(left) > _SHOWN else [])
    facts = [("engines", str(len(report["engines"])))]
    if left:
        facts.append(("ops in PyTorch", "\n".join(shown)))
    hint = "`exported_program` holds both parts; it is written for Windows targets."
    if any("min_block_size" in line for line in left):
        hint += "\n`min_block_size = 1` in [compile] converts every op that can be converted."
    if not left:
        facts.append(("reason", "an output of the model is one of its inputs, or a constant"))
    return StageError("The model cannot be one engine", facts, hint)
