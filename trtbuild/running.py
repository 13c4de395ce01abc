"""One run: what has nothing to do is told, the rest is planned, built and published."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtbuild import host
from trtbuild.build import Build, Options, StepState
from trtbuild.errors import TrtbuildError, UsageError
from trtbuild.events import Event, Listener, Status, Warned
from trtbuild.executor import EarlyExecutor
from trtbuild.places import Place
from trtbuild.plans import Cell, Plan
from trtbuild.proofs import Proofs
from trtbuild.publish import Artifact, Damaged, check_writable, publish
from trtbuild.results import BuildResult, StageResult, joined, settled_result
from trtbuild.sandbox import Level, level_of, require
from trtbuild.session import PathLike, Session, paths_of, session_of
from trtbuild.settled import Standing, take
from trtbuild.store.entry import Entry
from trtbuild.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    from trtbuild.reproduce import Check


def run(
    recipes: Sequence[PathLike] | PathLike,
    *,
    targets: Sequence[str] = (),
    formats: Sequence[str] = (),
    jobs: int | None = None,
    keep_going: bool = False,
    force: bool = False,
    skip_unbuildable: bool = False,
    rebuild_check: bool = False,
    sandbox: str | None = None,
    other_gpu: bool = False,
    cache: PathLike | None = None,
    dist: PathLike | None = None,
    listener: Listener | None = None,
) -> BuildResult:
    """Build recipes, and compare what they make with the source models where this machine can.

    Errors of stages are in the result; RecipeError, UsageError and MachineError are raised. Cells that this machine
    cannot build are an error before anything runs, unless `skip_unbuildable`. With `rebuild_check` every stage is then
    run a second time beside the cache, and compared; one that means something else the second time is an error.
    With `other_gpu` artifacts are verified on this machine's GPU although their target does not name its kind.
    """
    level = level_of(sandbox)
    paths = paths_of(recipes)
    standing = _standing(recipes, paths, (targets, formats), cache, dist)
    workspace = Workspace(*map(Path, (standing.place.root, standing.place.cache, standing.place.dist)))
    again = (
        force or rebuild_check or (not skip_unbuildable and any(line["left_out"] for line in standing.lines.values()))
    )
    # What is pending for want of the right GPU need not be so now.
    again = again or (other_gpu and any(len(stage) > 3 for line in standing.lines.values() for stage in line["stages"]))
    # A part of the matrix is a part of all recipes: whether there is such a part, they tell together.
    again = again or bool(standing.left and (targets or formats))
    to_do = set(standing.left)
    left = [path for path, full in zip(paths, standing.recipes, strict=True) if again or full in to_do]
    settled = settled_result([] if again else list(standing.lines.values()))
    if not left:
        return settled
    require(level)
    options = Options(jobs=jobs or default_jobs(), keep_going=keep_going, force=force)
    with closing(EarlyExecutor()) as workers:
        session = session_of(
            left, workspace, targets, formats, level, planning=lambda store: workers.start(store.log("workers"))
        )
        left_out = [cell for cell in session.plan.cells if cell.reason]
        if left_out and not skip_unbuildable:
            raise unbuildable(left_out)
        check_writable(workspace)
        proofs = Proofs(session.plan, workspace.dist, other_gpu=other_gpu)
        build = Build(session.plan, session.resolver, options, listener or _silent, workers, proofs)
        artifacts = _built(session, build, standing)
        errors = [state.error for state in build.states.values() if state.error is not None]
        checks = _rebuilt(session, build, options) if rebuild_check and not errors else []
    built = BuildResult(_stages(build), artifacts, left_out, [*errors, *_not_reproduced(checks)], checks)
    return joined(settled, built, paths)


def _built(session: Session, build: Build, standing: Standing) -> list[Artifact]:
    """Build and publish; what then has nothing left to do is written down."""
    try:
        # From the first entry that is asked for to the last output that is copied: `cache gc` removes none of it.
        with session.store.in_use():
            build.run()
            artifacts = _publish(session, build)
            # What was seen without the kernel must not answer for runs that see with it.
            if session.sandbox is not Level.OFF:
                _settle(session, build, standing)
    finally:
        session.digests.save()
    return artifacts


def _rebuilt(session: Session, build: Build, options: Options) -> list[Check]:
    """How a second build compares, once the store is seen to hold the whole first one."""
    from trtbuild.reproduce import rebuild

    store = session.store
    with store.in_use():
        entries = _entries_of(build)
        damaged = [id for id, entry in entries.items() if not all(map(store.intact, entry.outputs.values()))]
        if damaged:
            build.rerun(dict.fromkeys(damaged, "its output is damaged or gone"))
        return rebuild(session.plan, session.resolver, options, build.listener)


def _not_reproduced(checks: Sequence[Check]) -> list[TrtbuildError]:
    if not checks:
        return []
    from trtbuild.reproduce import errors_of

    return errors_of(checks)


def _standing(
    given: Sequence[PathLike] | PathLike,
    paths: Sequence[Path],
    selection: Sequence[Sequence[str]],
    cache: PathLike | None,
    dist: PathLike | None,
) -> Standing:
    """How the recipes stand, as the front door found it or found here."""
    found = take()
    if found is not None and found.given == given and not any(selection):
        return found
    workspace = find_workspace(paths, Path(cache) if cache else None, Path(dist) if dist else None)
    place = Place(str(workspace.root), str(workspace.cache), str(workspace.dist))
    return Standing(place, [os.path.realpath(path) for path in paths], selection)


def _settle(session: Session, build: Build, standing: Standing) -> None:
    from trtbuild.settle import settle

    def again(plan: Plan, entries: Mapping[str, Entry]) -> list[Artifact]:
        return publish(plan, entries, build.pending(), session.workspace, session.store, session.digests)

    settle(standing, session.recipes, session.plan, _entries_of(build), build.pending(), session.resolver, again)


def _stages(build: Build) -> list[StageResult]:
    return [
        StageResult(s.step.id, s.step.kind, _key(s), s.status or Status.SKIPPED, s.seconds, s.reason)
        for s in build.states.values()
    ]


def _key(state: StepState) -> str:
    if state.entry is not None:
        return state.entry.key
    return state.decision.key if state.status is Status.PENDING and state.decision else ""


def _entries_of(build: Build) -> dict[str, Entry]:
    return {id: state.entry for id, state in build.states.items() if state.done and state.entry is not None}


def default_jobs() -> int:
    """Stages at once where the user does not say."""
    return max(1, host.cores())


def _silent(event: Event) -> None:
    """Listens to nothing."""


def _publish(session: Session, build: Build) -> list[Artifact]:
    """Publish all but what was found to be wrong; a blob found damaged sends its step back to work, once."""
    for _ in session.plan.steps:
        wrong = {id for id, state in build.states.items() if state.status is Status.FAILED}
        plan = replace(session.plan, cells=tuple(cell for cell in session.plan.cells if cell.verify not in wrong))
        try:
            return publish(plan, _entries_of(build), build.pending(), session.workspace, session.store, session.digests)
        except Damaged as damaged:
            build.listener(Warned(f"{damaged}; it is built again"))
            build.rerun({damaged.step: "its output is damaged or gone"})
    return []


def unbuildable(cells: Sequence[Cell]) -> UsageError:
    """The error that names every cell this machine cannot build."""
    facts = [(cell.name, cell.reason + (f"\n{cell.hint}" if cell.hint else "")) for cell in cells]
    some = "1 artifact of the recipe" if len(cells) == 1 else f"{len(cells)} artifacts of the recipe"
    return UsageError(f"This machine cannot build {some}", facts, "--skip-unbuildable builds the others.")
