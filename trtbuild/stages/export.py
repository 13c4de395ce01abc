"""Export: an artifact for this platform from the portable compiled program, or from the trace where nothing of it is
to run in TensorRT.

What is put together from files, engines and programs that are not exported once more, touches no native code; the
other formats are written by running the program where it will run. Details: `engine`, the one engine that is the whole
program, if there is one; `calls`: "structured" where the artifact is called as the model, "flat" where it takes the
model's tensors one after the other, as torch flattens its arguments, and gives back its own likewise.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

from trtbuild.files import read_json
from trtbuild.stages.linux_program import write_linux_program, write_torch_program
from trtbuild.stages.portable import extra_texts
from trtbuild.stages.whole_engine import take_whole_engine
from trtbuild.worker.job import Job

_EXTRA = "extra:"


def run(job: Job) -> dict[str, Any]:
    """Write `model.engine`, `model.pt2`, `model.ts` or `model.aoti.pt2`, by the format asked."""
    form = job.settings["format"]
    if form == "engine":
        return take_whole_engine(job)
    compiled = job.inputs.get("compiled")
    report = read_json(compiled["report.json"]) if compiled else {"engines": [], "whole": None}
    if report.get("script"):
        # The TorchScript frontend gives one file, for the GPU that it was compiled on.
        return {**_take_script(job, report["script"]), "engine": None, "calls": "flat"}
    details = {
        "engines": sorted(engine["name"] for engine in report["engines"]),
        "engine": report["whole"],
        "calls": "flat" if form == "torchscript" else "structured",
    }
    if form == "exported_program" and not _retraces(job):
        _write_program(job, report)
    else:
        _write_live(job)
    return details


def _take_script(job: Job, script: str) -> dict[str, Any]:
    if not (texts := extra_texts(_extra_files(job))):
        return {"copies": {"model.ts": ("compiled", script)}}
    target = job.out / "model.ts"
    shutil.copyfile(job.inputs["compiled"][script], target)
    with zipfile.ZipFile(target, "a") as archive:
        root = archive.namelist()[0].split("/", 1)[0]
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(f"{root}/extra/{name}"), text)
    return {}


def _write_program(job: Job, report: dict[str, Any]) -> None:
    target, extra = job.out / "model.pt2", _extra_files(job)
    if "compiled" not in job.inputs:
        write_torch_program(job.inputs["program"]["program.pt2"], job.settings["device"], extra, target)
        return
    compiled = job.inputs["compiled"]
    engines = {engine["name"]: compiled[engine["file"]] for engine in report["engines"]}
    write_linux_program(compiled["program.pt2"], engines, extra, target)


def _write_live(job: Job) -> None:
    from trtbuild.stages.stock_export import load_program, retraced, save_program

    program = load_program(job)
    if _retraces(job):
        program = retraced(program, job.settings)
    if job.settings["format"] == "torchscript":
        from trtbuild.stages.torchscript import write_torchscript

        write_torchscript(program, _extra_files(job), job.out / "model.ts")
    elif job.settings["format"] == "aot_inductor":
        from trtbuild.stages.aot_inductor import write_package

        write_package(program, job.out / "model.aoti.pt2")
    else:
        save_program(program, job.settings, _extra_files(job), job.out / "model.pt2")


def _retraces(job: Job) -> bool:
    return bool(job.settings.get("export", {}).get("retrace"))


def _extra_files(job: Job) -> dict[str, Path]:
    return {slot.removeprefix(_EXTRA): path for slot, path in job.files.items() if slot.startswith(_EXTRA)}
