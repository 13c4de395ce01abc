"""Jobs about artifacts in dist/, in processes of their own: `verify`, `bench` and `inspect` outside any run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtbuild.errors import UsageError
from trtbuild.executor import LocalExecutor
from trtbuild.failures import Crashed, crashed, reported
from trtbuild.files import read_json, write_json, write_whole
from trtbuild.manifest import summed_up
from trtbuild.sandbox import Level
from trtbuild.stages.table import on_cpu
from trtbuild.store.local import LocalStore
from trtbuild.subjects import Subject, check_sources, program_of, subjects
from trtbuild.verification.behind import steps_behind
from trtbuild.workspace import find_workspace

if TYPE_CHECKING:
    from trtbuild.stages.table import Layer

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def _bench_of_jobs(source: Path, cache: PathLike | None) -> Iterator[tuple[LocalStore, Path]]:
    """The store of the artifacts' workspace, and a folder for jobs."""
    workspace = find_workspace([source / "recipe"], Path(cache) if cache else None)
    store = LocalStore(workspace.cache)
    with store.session() as folder:
        yield store, folder


def perform(
    stage: str,
    subject: Subject,
    *,
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    cache: PathLike | None = None,
) -> dict[str, Any]:
    """Run one job about an artifact, and return its details. StageError where it fails, or its process dies."""
    name = f"{stage} {subject.path.name}"
    with _bench_of_jobs(subject.source, cache) as (store, session):
        folder = session / f"{stage}~{os.getpid()}~{subject.file['digest'][-12:]}"
        folder.mkdir()
        write_json(
            folder / "job.json",
            {
                "stage": stage,
                "settings": settings,
                "inputs": {"artifact": subject.files(), "program": program_of(subject, store, session)},
                "details": subject.details(),
                "files": subject.weights(),
                "workspace": str(subject.source),
                "sandbox": Level.OFF,
                "options": options,
            },
        )
        layer: Layer = "fresh" if on_cpu(settings) else "gpu"
        with contextlib.closing(LocalExecutor([layer], store.log("workers"))) as executor:
            executor.submit(layer, folder)
            outcome = executor.next_done(None)[0]
        log = store.log(f"{stage}/{subject.manifest['recipe']}/{subject.path.name}")
        with contextlib.suppress(OSError):
            log.parent.mkdir(parents=True, exist_ok=True)
            (folder / "log").replace(log)
        if outcome.result is None:
            raise crashed(name, outcome.status, log)
        if "error" in outcome.result:
            raise reported(name, outcome.result["error"], log)
        details: dict[str, Any] = outcome.result["details"]
        return details


def verify(
    artifacts: Sequence[PathLike],
    *,
    other_gpu: bool = False,
    locate: bool = False,
    source: PathLike | None = None,
    cache: PathLike | None = None,
) -> list[tuple[Subject, dict[str, Any]]]:
    """Compare artifacts with their source models on this machine, and write the result into their manifests.

    Gives each with its verification record. A comparison that this machine cannot make is a UsageError; one whose
    process died is recorded as failed.
    """
    found = subjects([Path(path) for path in artifacts], Path(source).resolve() if source else None)
    for subject in found:
        check_sources(subject)
        _check_here(subject, other_gpu)
    done = []
    for subject in found:
        behind = steps_behind(subject.manifest["stages"], subject.file["format"]) if locate else []
        options = {"other_gpu": other_gpu, "locate": locate, "report": True, "behind": behind}
        try:
            record = perform("verify", subject, settings=subject.settings, options=options, cache=cache)
        except Crashed as error:
            record = {"status": "failed", "reason": error.sentence, "facts": [list(fact) for fact in error.facts]}
        write_verification(subject, record)
        done.append((subject, record))
    return done


def _check_here(subject: Subject, other_gpu: bool) -> None:
    from trtbuild.verification.here import why_not_here

    if why := why_not_here(subject.settings, other_gpu=other_gpu):
        hint = "--other-gpu compares on the GPU that is here." if "compute capability" in why else ""
        raise UsageError(
            "This machine cannot compare the artifact with its source model",
            [("artifact", str(subject.path)), ("reason", why)],
            hint,
        )


def write_verification(subject: Subject, record: Mapping[str, Any]) -> None:
    """Put a verification record into the manifest beside the artifact, if it still describes the same file."""
    import json

    path = subject.path.parent / "manifest.json"
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
    from trtbuild.benching.contestants import PEERS

    found = subjects([Path(path) for path in artifacts], Path(source).resolve() if source else None)
    for subject in found:
        check_sources(subject)
        _check_here(subject, other_gpu)
    done = []
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
        done.append(
            (subject, perform("bench", subject, settings=settings, options={"other_gpu": other_gpu}, cache=cache))
        )
    return done


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
    return perform("inspect", subject, settings=subject.settings, options={"other_gpu": other_gpu}, cache=cache)
