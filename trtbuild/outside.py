"""Jobs about artifacts in dist/, in processes of their own: `verify`, `bench` and `inspect` outside any run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trtbuild.errors import StageError, TrtbuildError, UsageError
from trtbuild.executor import LocalExecutor
from trtbuild.failures import Crashed, crashed, reported
from trtbuild.files import read_json, saying_what, write_json, write_whole
from trtbuild.manifest import summed_up
from trtbuild.publish import lock_of
from trtbuild.sandbox import Level
from trtbuild.stages.table import on_cpu
from trtbuild.store.local import LocalStore
from trtbuild.subjects import Subject, check_sources, program_of, subjects
from trtbuild.verification.behind import steps_behind
from trtbuild.workspace import find_workspace

if TYPE_CHECKING:
    from trtbuild.stages.table import Layer
    from trtbuild.worker.outcome import Outcome

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Work:
    """A job about an artifact."""

    subject: Subject
    settings: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def layer(self) -> Layer:
        return "fresh" if on_cpu(self.settings) else "gpu"


def perform(
    stage: str, works: Sequence[Work], *, jobs: int = 1, cache: PathLike | None = None
) -> Iterator[tuple[Subject, dict[str, Any] | StageError]]:
    """Run jobs, `jobs` at once, each in a process of its own; give what each came to as it ends.

    That is the details of the job, or the StageError that it ended with.
    """
    if not works:
        return
    store = _store_for(works[0].subject, cache)
    left = list(works)
    running: dict[Path, Work] = {}
    layers = list(dict.fromkeys(work.layer for work in works))
    with store.session() as session, contextlib.closing(LocalExecutor(layers, store.log("workers"))) as executor:
        while left or running:
            while left and len(running) < jobs:
                work = left.pop(0)
                folder = session / f"{stage}~{len(left)}"
                _write_job(stage, work, store, folder)
                running[folder] = work
                executor.submit(work.layer, folder)
            for outcome in executor.next_done(None):
                work = running.pop(outcome.folder)
                yield work.subject, _came_to(stage, work.subject, outcome, store)
                shutil.rmtree(outcome.folder, ignore_errors=True)


def _store_for(subject: Subject, cache: PathLike | None) -> LocalStore:
    return LocalStore(find_workspace([subject.source / "recipe"], Path(cache) if cache else None).cache)


def _write_job(stage: str, work: Work, store: LocalStore, folder: Path) -> None:
    subject = work.subject
    folder.mkdir()
    write_json(
        folder / "job.json",
        {
            "stage": stage,
            "settings": work.settings,
            "inputs": {"artifact": subject.files(), "program": program_of(subject, store, folder.parent)},
            "details": subject.details(),
            "files": subject.weights(),
            "workspace": str(subject.source),
            "sandbox": Level.OFF,
            "options": work.options,
        },
    )


def _came_to(stage: str, subject: Subject, outcome: Outcome, store: LocalStore) -> dict[str, Any] | StageError:
    manifest, name = subject.manifest, f"{stage} {subject.path.name}"
    log = store.log(
        f"{stage}/{manifest['recipe']}/{manifest['target']['name']}/{manifest['precision']}/{subject.path.name}"
    )
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        (outcome.folder / "log").replace(log)
    if outcome.result is None:
        return crashed(name, outcome.status, log)
    if "error" in outcome.result:
        return reported(name, outcome.result["error"], log)
    details: dict[str, Any] = outcome.result["details"]
    return details


class Compared(NamedTuple):
    """An artifact with the verification record that was written into its manifest, or the error in its way."""

    subject: Subject
    record: dict[str, Any] | None
    error: TrtbuildError | None = None


def verify(
    artifacts: Sequence[PathLike],
    *,
    other_gpu: bool = False,
    locate: bool = False,
    jobs: int = 1,
    source: PathLike | None = None,
    cache: PathLike | None = None,
) -> list[Compared]:
    """Compare artifacts with their source models on this machine, and write the results into their manifests.

    What cannot be compared here (for want of a GPU, of its source, of a process that ends by itself) has an error in
    place of a record, and keeps no other from being compared; a process that crashed is a comparison that failed.
    UsageError where a path names no artifact.
    """
    found = subjects([Path(path) for path in artifacts], Path(source).resolve() if source else None)
    compared: dict[Path, Compared] = {}
    works = []
    for subject in found:
        try:
            check_sources(subject)
            _check_here(subject, other_gpu)
        except UsageError as error:
            compared[subject.path] = Compared(subject, None, error)
            continue
        behind = steps_behind(subject.manifest["stages"], subject.file["format"]) if locate else []
        options = {"other_gpu": other_gpu, "locate": locate, "report": True, "behind": behind}
        works.append(Work(subject, subject.settings, options))
    for subject, result in perform("verify", works, jobs=jobs, cache=cache):
        compared[subject.path] = _written(subject, result, cache)
    return [compared[subject.path] for subject in found]


def _written(subject: Subject, result: dict[str, Any] | StageError, cache: PathLike | None) -> Compared:
    if isinstance(result, StageError) and not isinstance(result, Crashed):
        return Compared(subject, None, result)
    record = _of_crash(result) if isinstance(result, StageError) else result
    try:
        write_verification(subject, record, cache=cache)
    except TrtbuildError as error:
        return Compared(subject, None, error)
    return Compared(subject, record)


def _of_crash(error: StageError) -> dict[str, Any]:
    # The log is on this machine, and the manifest goes to others.
    facts = [list(fact) for fact in error.facts if fact[0] != "log"]
    return {"status": "failed", "date": date.today().isoformat(), "reason": error.sentence, "facts": facts}


def _check_here(subject: Subject, other_gpu: bool) -> None:
    from trtbuild.verification.here import why_not_here

    if why := why_not_here(subject.settings, other_gpu=other_gpu):
        hint = "--other-gpu compares on the GPU that is here." if "compute capability" in why else ""
        raise UsageError(
            "This machine cannot compare the artifact with its source model",
            [("artifact", str(subject.path)), ("reason", why)],
            hint,
        )


def write_verification(subject: Subject, record: Mapping[str, Any], *, cache: PathLike | None = None) -> None:
    """Put a verification record into the manifest beside the artifact, if it still describes the same file.

    Under the lock of those who publish there, and of others who verify: each writes what the others have written too.
    """
    path, manifest = subject.path.parent / "manifest.json", subject.manifest
    lock = lock_of(manifest["recipe"], manifest["target"]["name"], manifest["precision"])
    with saying_what("write a manifest", path), _store_for(subject, cache).lock(lock):
        _put_verification(path, subject, record)


def _put_verification(path: Path, subject: Subject, record: Mapping[str, Any]) -> None:
    manifest = read_json(path)
    files = manifest["files"] if isinstance(manifest, dict) else []
    for file in files:
        if file["path"] == subject.path.name and file["digest"] == subject.file["digest"]:
            file["verification"] = {**record, "key": subject.stage["key"]}
            for stage in manifest["stages"]:
                if stage["id"] == subject.stage["id"]:
                    stage.pop("status", None)
            manifest["verification"] = summed_up(files)
            write_whole(path, (json.dumps(manifest, indent=2) + "\n").encode())
            return
    raise UsageError(
        "The manifest changed while the artifact was compared",
        [("file", str(path))],
        "Another run has built it anew meanwhile: compare again.",
    )


def bench(
    artifacts: Sequence[PathLike],
    *,
    points: Sequence[Mapping[str, int]] | None = None,
    seconds: float = 1.0,
    warmup: float = 0.5,
    rounds: int = 3,
    peers: Sequence[str] | None = None,
    cuda_graph: bool = True,
    other_gpu: bool = False,
    source: PathLike | None = None,
    cache: PathLike | None = None,
) -> list[tuple[Subject, dict[str, Any]]]:
    """Measure artifacts beside their source model on this machine, and give each with its record (`stages.bench`)."""
    from trtbuild.benching.contestants import PEERS, check_peers
    from trtbuild.benching.points import checked_points

    check_peers(peers or ())
    found = subjects([Path(path) for path in artifacts], Path(source).resolve() if source else None)
    for subject in found:
        check_sources(subject)
        _check_here(subject, other_gpu)
        checked_points(points or (), subject.settings["dims"])
    works = []
    for subject in found:
        compiled = subject.stage_of("compile")
        how = compiled["key_inputs"]["settings"] if compiled else None
        settings = {
            **subject.settings,
            "bench": {
                "points": [dict(point) for point in points] if points else None,
                "seconds": seconds,
                "warmup": warmup,
                "rounds": rounds,
                "peers": list(PEERS if peers is None else peers),
                "cuda_graph": cuda_graph,
                "compile": how if how and how["converter"] == "torch-tensorrt" else None,
                "artifact": _told(subject),
            },
        }
        works.append(Work(subject, settings, {"other_gpu": other_gpu}))
    # One after the other: they would disturb each other.
    return [(subject, _details(result)) for subject, result in perform("bench", works, cache=cache)]


def _details(result: dict[str, Any] | StageError) -> dict[str, Any]:
    if isinstance(result, StageError):
        raise result
    return result


def _told(subject: Subject) -> dict[str, Any]:
    manifest = subject.manifest
    return {
        "recipe": manifest["recipe"],
        "target": manifest["target"]["name"],
        "precision": manifest["precision"],
        "format": subject.file["format"],
        "digest": subject.file["digest"],
    }


def layers(artifact: PathLike, *, other_gpu: bool = True, cache: PathLike | None = None) -> dict[str, Any]:
    """What the engines of an artifact say of themselves on this machine's GPU (`stages.inspect_engine`)."""
    subject = subjects([Path(artifact)])[0]
    _check_here(subject, other_gpu)
    work = Work(subject, subject.settings, {"other_gpu": other_gpu})
    ((_, result),) = perform("inspect", [work], cache=cache)
    return _details(result)
