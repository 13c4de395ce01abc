"""Locate: the first value inside of an artifact that is not what the traced program computes.

The traced program runs op by op in PyTorch, in the artifact's precision, beside the artifact with values inside of it
as outputs more. An ONNX model is given those outputs as it is. Other artifacts do not let themselves be looked into:
they are built again from the program with more outputs, by the same steps under the same settings, which
job.options["behind"] tells (see `verification.behind`). That changes how
layers are fused, so that what is off in the artifact may be right in the one that is looked into; the result says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtbuild.errors import TrtbuildError
from trtbuild.stages.table import on_cpu
from trtbuild.stages.user_code import first_lines
from trtbuild.verification.cases import Case
from trtbuild.verification.compare import Comparison, compare
from trtbuild.verification.examples import arguments
from trtbuild.verification.marks import Found, first_off
from trtbuild.verification.opening import open_artifact
from trtbuild.verification.program_values import load_program, place_of, value_names, values, with_values
from trtbuild.verification.rebuild import PROGRAM, rebuild, trace
from trtbuild.verification.tolerances import Tolerance, default_rtol
from trtbuild.worker.job import Job

_NOTHING = "Every value inside that was looked at is within tolerance"


def locate(job: Job, case: Case) -> dict[str, Any]:
    """Where an artifact parts from the traced program, at a case.

    {"op", "name", "module"?, "source"?, "partition"?, "before"?, "after", "rounds", "at", "note"?}: the op and its
    name in the program, the line of the user's code behind it, the engine or node that holds it, the errors of the
    last value that is right and of the first that is not. Where nothing was found, or nothing can be looked into,
    `note` alone says why.
    """
    try:
        found = _in_onnx(job, case) if job.settings["format"] == "onnx" else _in_program(job, case)
    except TrtbuildError as error:
        found = {"note": "\n".join([error.sentence, *(f"{name}: {value}" for name, value in error.facts)])}
    except Exception as error:
        # The comparison that failed is worth more than where it did: it must not be lost with an error here.
        found = {"note": f"The artifact cannot be looked into: {first_lines(error, 3)}"}
    return {**found, "at": {**case.at, "seed": case.seed}}


def _in_onnx(job: Job, case: Case) -> dict[str, Any]:
    from trtbuild.verification.onnx_values import OnnxValues

    inside = OnnxValues(job.inputs["artifact"], _traced(job))
    names = inside.names()
    taken, _ = arguments(job.settings, case, "cpu")
    flat = _flat(taken)
    expected = values(inside.program, flat, names, "cpu")
    tolerance = _tolerance(job.settings)

    def measure(some: Sequence[str]) -> Mapping[str, Comparison]:
        given = inside.values(flat, some)
        return {name: _compared(value, expected[name], tolerance) for name, value in given.items()}

    return _told(inside.program, first_off(names, measure), inside.holders(names), "the ONNX model")


def _in_program(job: Job, case: Case) -> dict[str, Any]:
    steps = job.options.get("behind")
    if not steps:
        return {"note": "The steps behind the artifact are not known, so it cannot be built again with more outputs"}
    path = _traced(job)
    program = load_program(path)
    names = value_names(program)
    device = "cpu" if on_cpu(job.settings) else "cuda"
    taken, _ = arguments(job.settings, case, device)
    measured = _Rebuilt(job, path, steps, taken)
    expected = _Expected(path, _flat(taken), device)
    tolerance = _tolerance(job.settings)

    def measure(some: Sequence[str]) -> Mapping[str, Comparison]:
        given = measured(some)
        wanted = expected(list(given))
        return {name: _compared(value, wanted[name], tolerance) for name, value in given.items()}

    return _told(program, first_off(names, measure), measured.holders, "the artifact, built again with more outputs")


def _traced(job: Job) -> Path:
    """The traced program: as it is in the store, else traced again."""
    if path := job.inputs["program"].get(PROGRAM):
        return path
    return trace(job.options.get("behind") or (), job.files, job.workspace)


class _Expected:
    """Values of the traced program in PyTorch; on the CPU where the program cannot be moved to the GPU."""

    def __init__(self, path: Path, flat: list[Any], device: str) -> None:
        self._path, self._flat, self._device = path, flat, device

    def __call__(self, names: Sequence[str]) -> dict[str, Any]:
        try:
            return values(load_program(self._path), self._flat, names, self._device)
        except Exception:
            if self._device == "cpu":
                raise
        self._device = "cpu"
        return values(load_program(self._path), self._flat, names, "cpu")


class _Rebuilt:
    """Values inside of an artifact that is built again to hand them out; `holders` tells which engine holds each."""

    def __init__(self, job: Job, program: Path, steps: Sequence[Mapping[str, Any]], taken: Any) -> None:
        self._job, self._program, self._steps, self._taken = job, program, steps, taken
        self.holders: dict[str, str] = {}

    def __call__(self, names: Sequence[str]) -> dict[str, Any]:
        import torch

        from trtbuild.verification.holders import holders_of

        path = Path(tempfile.mkdtemp()) / "program.pt2"
        torch.export.save(with_values(load_program(self._program), names), path)
        made = rebuild(path, self._steps, self._job.workspace)
        self.holders |= holders_of(made, names)
        leaf = made.leaf
        artifact = open_artifact(
            self._job.settings,
            {**self._job.options, "other_gpu": True},
            made.outputs[leaf],
            made.details["trace"]["signature"],
            made.details[leaf],
        )
        with torch.no_grad():
            result = artifact(*self._taken[0], **self._taken[1])
        return dict(zip(names, result[1], strict=True))


def _told(program: Any, found: Found | None, holders: Mapping[str, str], where: str) -> dict[str, Any]:
    if found is None:
        return {"note": f"{_NOTHING} in {where}"}
    told: dict[str, Any] = {**place_of(program, found.name), "after": _error(found.after), "rounds": found.rounds}
    if holder := holders.get(found.name):
        told["partition"] = holder
    if found.before is not None:
        told["before"] = _error(found.before)
        told["last_good"] = found.last_good
    if found.note:
        told["note"] = found.note
    return told


def _compared(found: Any, expected: Any, tolerance: Tolerance) -> Comparison:
    return compare(found.to(expected.device).reshape(expected.shape), expected, tolerance)


def _error(found: Comparison) -> dict[str, Any]:
    from trtbuild.verification.results import finite

    return {
        "max_abs": found.max_abs,
        "cosine": found.cosine,
        "nan": found.nan,
        "inf": found.inf,
        "rtol": found.rtol,
        "atol": found.atol,
        "of_tolerance": finite(found.of_tolerance),
    }


def _tolerance(settings: Mapping[str, Any]) -> Tolerance:
    given = settings["verify"].get("rtol")
    usual = default_rtol(settings["precision"], settings["runtime"], settings["device"])
    return Tolerance(usual if given is None else given)


def _flat(taken: Any) -> list[Any]:
    import torch

    leaves: list[Any] = torch.utils._pytree.tree_leaves(taken)
    return leaves
