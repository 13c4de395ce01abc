"""Verify: a loaded artifact against its source model in eager PyTorch, output by output.

Details: the verification record,

    {"status": "passed" | "failed", "date", "on": {"device", "compute_capability"?, "driver"?, "versions"}, "reference",
     "cases", "outputs": [see `verification.results`], "precision"?, "located"?}

or, where an artifact cannot be compared by numbers, "reason" and "facts" in place of the outputs. A failed comparison
is a failed stage, unless job.options has "report". "locate" looks for the first layer that is
off, "other_gpu" opens artifacts on GPUs that they were not built for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from trtbuild.errors import StageError, did_you_mean
from trtbuild.host import cores
from trtbuild.stages.table import on_cpu
from trtbuild.stages.user_code import first_lines
from trtbuild.structure import plain
from trtbuild.verification.cases import Case, cases
from trtbuild.verification.compare import compare
from trtbuild.verification.examples import Arguments, arguments
from trtbuild.verification.opening import open_artifact
from trtbuild.verification.place import this_place
from trtbuild.verification.realised import check_engines
from trtbuild.verification.results import Differs, Output, failure
from trtbuild.verification.source import Source, exact_arithmetic
from trtbuild.verification.structure import flatten, places, structure_text
from trtbuild.verification.tolerances import tolerance_of
from trtbuild.worker.job import Job


def run(job: Job) -> dict[str, Any]:
    """Compare at every case. StageError where an output is off, or the artifact cannot be opened or run."""
    settings = job.settings
    outputs = _outputs(job)
    exact_arithmetic()
    _use_all_cores()
    device = "cpu" if on_cpu(settings) else "cuda"
    signature, made = job.details["program"]["signature"], job.details["artifact"]
    artifact = open_artifact(settings, job.options, job.inputs["artifact"], signature, made)
    record: dict[str, Any] = {
        "status": "failed",
        "date": date.today().isoformat(),
        "on": this_place(device),
        "reference": settings["verify"]["reference"],
    }
    try:
        if engines := getattr(artifact, "engines", None):
            dtypes = {tensor["dtype"] for tensor in (*signature["inputs"], *signature["outputs"])}
            record["precision"] = check_engines(engines, settings["precision"], dtypes)
        record["cases"] = _compare_all(job, artifact, outputs, device)
    except Differs as error:
        if not job.options.get("report"):
            raise
        return {**record, "reason": error.sentence, "facts": [list(fact) for fact in error.facts]}
    record["outputs"] = [output.record() for output in outputs.values()]
    if all(output.passed for output in outputs.values()):
        return {**record, "status": "passed"}
    if job.options.get("locate"):
        from trtbuild.stages.locate import locate

        record["located"] = locate(job, _furthest_off(outputs))
    if not job.options.get("report"):
        raise failure(record)
    return record


def _compare_all(job: Job, artifact: Any, outputs: Mapping[int, Output], device: str) -> int:
    """Compare at every case; gives how many there are."""
    settings = job.settings
    source = Source(settings, job.workspace, job.files.get("weights"), device, job.details["program"].get("state"))
    chosen = cases(settings["dims"], settings["profiles"], settings["verify"]["samples"], settings["seed"])
    for case in chosen:
        taken, given = arguments(settings, case, device)
        expected = source(*given)
        _compare(settings, job.details["program"]["signature"], outputs, case, _run(artifact, taken, case), expected)
    return len(chosen)


def _use_all_cores() -> None:
    """Stages compute on one thread so that what they write is the same everywhere; here nothing is written."""
    import torch

    torch.set_num_threads(cores())


def _outputs(job: Job) -> dict[int, Output]:
    """The outputs by their place. StageError where [verify.outputs] names one that the model does not give."""
    signature = job.details["program"]["signature"]
    # A constant that the program gives back is no output to compare.
    found = {place: Output(signature["outputs"][place]["name"]) for place in places(plain(signature["structure"]))}
    if not found:
        raise StageError(
            "The model gives no tensors: there is nothing to compare",
            [("gives", structure_text(plain(signature["structure"])))],
            "An artifact of constants alone needs no verification; return what the model computes.",
        )
    names = [output.name for output in found.values()]
    for name in job.settings["verify"].get("outputs", {}):
        if name not in names:
            raise StageError(
                f"[verify.outputs] names an output that the model does not give: {name}",
                [("outputs", ", ".join(names))],
                did_you_mean(name, names),
            )
    return found


def _run(artifact: Any, taken: Arguments, case: Case) -> Any:
    import torch

    try:
        with torch.no_grad():
            result = artifact(*taken[0], **taken[1])
        if torch.cuda.is_initialized():
            # What a kernel did wrong is told when it has run.
            torch.cuda.synchronize()
    except Exception as error:
        raise Differs(
            "The artifact failed while it ran", [("at", str(case)), ("raised", first_lines(error))]
        ) from error
    return result


def _compare(
    settings: Mapping[str, Any],
    signature: Mapping[str, Any],
    outputs: Mapping[int, Output],
    case: Case,
    result: Any,
    expected: Any,
) -> None:
    found, structure = flatten(result)
    reference, wanted = flatten(expected)
    if structure != wanted:
        raise Differs(
            "The artifact's result is built otherwise than the source model's",
            [("source model", structure_text(wanted)), ("artifact", structure_text(structure)), ("at", str(case))],
        )
    for place, output in outputs.items():
        if place not in found:
            raise Differs(
                f"The output `{output.name}` is missing",
                [("program", structure_text(plain(signature["structure"]))), ("artifact", structure_text(structure))],
            )
        _check_kind(output.name, signature["outputs"][place]["dtype"], found[place], reference[place], case)
        tensor = reference[place].to(found[place].device)
        output.add(case, compare(found[place], tensor, tolerance_of(output.name, settings)))


def _check_kind(name: str, dtype: str, found: Any, reference: Any, case: Case) -> None:
    """Differs where an output has another shape than the source model's, or another dtype than the program's."""
    if tuple(found.shape) != tuple(reference.shape):
        raise Differs(
            f"The output `{name}` has another shape than the source model's",
            [("source model", str(list(reference.shape))), ("artifact", str(list(found.shape))), ("at", str(case))],
        )
    if str(found.dtype) != f"torch.{dtype}":
        raise Differs(
            f"The output `{name}` has another dtype than the program's",
            [("program", dtype), ("artifact", str(found.dtype).removeprefix("torch.")), ("at", str(case))],
        )


def _furthest_off(outputs: Mapping[int, Output]) -> Case:
    bad = [output for output in outputs.values() if not output.passed]
    case = max(bad, key=lambda output: output.worst.of_tolerance if output.worst else 0.0).at
    assert case is not None
    return case
