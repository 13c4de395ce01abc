"""What the commands do, as functions: `run`, `plan`, `explain`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtbuild import host
from trtbuild.build import Build, Options
from trtbuild.errors import Exit, TrtbuildError, UsageError, did_you_mean
from trtbuild.events import Event, Listener, Status
from trtbuild.executor import EarlyExecutor
from trtbuild.memo import plan_for, read_recipes, recipe_paths
from trtbuild.merge import check_names
from trtbuild.places import Place
from trtbuild.plans import Cell, Plan, Step
from trtbuild.publish import Artifact, Damaged, check_writable, publish
from trtbuild.resolve import Resolver
from trtbuild.sandbox import Level, level_of, require
from trtbuild.settled import Standing, take
from trtbuild.signs import Digests
from trtbuild.store.entry import Entry
from trtbuild.store.local import LocalStore
from trtbuild.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    from trtbuild.explain import Decided, Explanation
    from trtbuild.reproduce import Check

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class StageResult:
    """How one stage ended. `reason` says why it ran, or why not."""

    id: str
    kind: str
    key: str
    status: Status
    seconds: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class BuildResult:
    """How a run ended: its stages, its artifacts, the cells left out, the errors; how a second build compared."""

    stages: list[StageResult]
    artifacts: list[Artifact]
    left_out: list[Cell]
    errors: list[TrtbuildError] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def exit_code(self) -> Exit:
        return max((error.exit_code for error in self.errors), default=Exit.DONE)

    def counts(self) -> dict[str, int]:
        """How many stages ended in which way."""
        return Counter(str(stage.status) for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        return {
            "stages": [stage.to_json() for stage in self.stages],
            "artifacts": [artifact.to_json() for artifact in self.artifacts],
            "left_out": [{"cell": cell.name, "reason": cell.reason, "hint": cell.hint} for cell in self.left_out],
            "errors": [error.as_json() for error in self.errors],
            **({"rebuild_check": [check.to_json() for check in self.checks]} if self.checks else {}),
        }


@dataclass(frozen=True, slots=True)
class Session:
    """A plan with all that is needed to decide and run it."""

    workspace: Workspace
    store: LocalStore
    digests: Digests
    recipes: Mapping[Path, bytes]
    plan: Plan
    sandbox: Level

    @property
    def resolver(self) -> Resolver:
        return Resolver(self.store, self.workspace, self.digests, self.sandbox)


def open_session(
    recipes: Sequence[PathLike] | PathLike,
    *,
    targets: Sequence[str] = (),
    formats: Sequence[str] = (),
    cache: PathLike | None = None,
    dist: PathLike | None = None,
    sandbox: str | None = None,
) -> Session:
    """Read recipes, open the store, make the plan. Raises what is wrong with any of them."""
    paths = _paths(recipes)
    workspace = find_workspace(paths, Path(cache) if cache else None, Path(dist) if dist else None)
    return _session(paths, workspace, targets, formats, level_of(sandbox))


def _paths(recipes: Sequence[PathLike] | PathLike) -> list[Path]:
    given = [recipes] if isinstance(recipes, (str, os.PathLike)) else list(recipes)
    paths = recipe_paths([os.fspath(recipe) for recipe in given])
    check_names(paths)
    return paths


def _session(
    paths: Sequence[Path],
    workspace: Workspace,
    targets: Sequence[str],
    formats: Sequence[str],
    sandbox: Level,
    planning: Callable[[LocalStore], None] = lambda store: None,
) -> Session:
    """`planning` is told when a plan must be made, which takes a while."""
    store = LocalStore(workspace.cache)
    digests = Digests(workspace.cache / "stat-v1.json")
    texts = read_recipes(paths)
    plan = plan_for(texts, workspace, targets, formats, lambda: planning(store))
    return Session(workspace, store, digests, texts, plan, sandbox)


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
    cache: PathLike | None = None,
    dist: PathLike | None = None,
    listener: Listener | None = None,
) -> BuildResult:
    """Build recipes.

    Errors of stages are in the result; RecipeError, UsageError and MachineError are raised. Cells that this machine
    cannot build are an error before anything runs, unless `skip_unbuildable`. With `rebuild_check` every stage is then
    run a second time beside the cache, and compared; one that means something else the second time is an error.
    """
    level = level_of(sandbox)
    paths = _paths(recipes)
    standing = _standing(recipes, paths, (targets, formats), cache, dist)
    workspace = Workspace(*map(Path, (standing.place.root, standing.place.cache, standing.place.dist)))
    again = (
        force or rebuild_check or (not skip_unbuildable and any(line["left_out"] for line in standing.lines.values()))
    )
    # A part of the matrix is a part of all recipes: whether there is such a part, they tell together.
    again = again or bool(standing.left and (targets or formats))
    to_do = set(standing.left)
    left = [path for path, full in zip(paths, standing.recipes, strict=True) if again or full in to_do]
    settled = _result_of([] if again else list(standing.lines.values()))
    if not left:
        return settled
    require(level)
    options = Options(jobs=jobs or default_jobs(), keep_going=keep_going, force=force)
    with closing(EarlyExecutor()) as workers:
        session = _session(
            left, workspace, targets, formats, level, planning=lambda store: workers.start(store.log("workers"))
        )
        left_out = [cell for cell in session.plan.cells if cell.reason]
        if left_out and not skip_unbuildable:
            raise unbuildable(left_out)
        check_writable(workspace)
        build = Build(session.plan, session.resolver, options, listener or _silent, workers)
        artifacts = _built(session, build, standing)
    errors = [state.error for state in build.states.values() if state.error is not None]
    checks = _rebuilt(session, build, options) if rebuild_check and not errors else []
    built = BuildResult(_stages(build), artifacts, left_out, [*errors, *_not_reproduced(checks)], checks)
    return _joined(settled, built, paths)


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


def _joined(settled: BuildResult, built: BuildResult, paths: Sequence[Path]) -> BuildResult:
    """Both parts of a run in the order of the recipes, whichever of them had nothing to do."""
    place = {path.stem: number for number, path in enumerate(paths)}
    stages = sorted([*settled.stages, *built.stages], key=lambda stage: place[stage.id.partition("/")[0]])
    # What several recipes share goes by the name of the first.
    distinct = {stage.key or stage.id: stage for stage in reversed(stages)}
    return replace(
        built,
        stages=[stage for stage in stages if distinct[stage.key or stage.id] is stage],
        artifacts=sorted([*settled.artifacts, *built.artifacts], key=lambda artifact: place[artifact.recipe]),
        left_out=sorted([*settled.left_out, *built.left_out], key=lambda cell: place[cell.recipe]),
    )


def _rebuilt(session: Session, build: Build, options: Options) -> list[Check]:
    """How a second build compares, once the store is seen to hold the whole first one."""
    from trtbuild.reproduce import rebuild

    store = session.store
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
        return publish(plan, entries, session.workspace, session.store, session.digests)

    settle(standing, session.recipes, session.plan, _entries_of(build), session.resolver, again)


def _result_of(lines: Sequence[Mapping[str, Any]]) -> BuildResult:
    """The result of recipes that have nothing to do."""
    stages: dict[str, StageResult] = {}
    for id, kind, key in (stage for line in lines for stage in line["stages"]):
        # What several recipes share goes by the name of the first.
        stages.setdefault(key, StageResult(id, kind, key, Status.CACHED, 0.0, ""))
    artifacts = [Artifact(**found) for line in lines for found in line["artifacts"]]
    return BuildResult(list(stages.values()), artifacts, [Cell(*cell) for line in lines for cell in line["left_out"]])


def _stages(build: Build) -> list[StageResult]:
    return [
        StageResult(
            s.step.id, s.step.kind, s.entry.key if s.entry else "", s.status or Status.SKIPPED, s.seconds, s.reason
        )
        for s in build.states.values()
    ]


def _entries_of(build: Build) -> dict[str, Entry]:
    return {id: state.entry for id, state in build.states.items() if state.done and state.entry is not None}


def default_jobs() -> int:
    """Stages at once where the user does not say."""
    return max(1, host.cores())


def _silent(event: Event) -> None:
    """Listens to nothing."""


def _publish(session: Session, build: Build) -> list[Artifact]:
    """Publish; a blob found damaged sends its step back to work, once."""
    for _ in session.plan.steps:
        try:
            return publish(session.plan, _entries_of(build), session.workspace, session.store, session.digests)
        except Damaged as damaged:
            build.rerun({damaged.step: "its output is damaged or gone"})
    return []


def unbuildable(cells: Sequence[Cell]) -> UsageError:
    """The error that names every cell this machine cannot build."""
    facts = [(cell.name, cell.reason + (f"\n{cell.hint}" if cell.hint else "")) for cell in cells]
    some = "1 artifact of the recipe" if len(cells) == 1 else f"{len(cells)} artifacts of the recipe"
    return UsageError(f"This machine cannot build {some}", facts, "--skip-unbuildable builds the others.")


@dataclass(frozen=True, slots=True)
class Planned:
    """What would happen to a step: `cached`, `run`, or `unknown` until those before it have run."""

    id: str
    kind: str
    action: str
    reason: str
    key: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def preview(session: Session, *, force: bool = False) -> list[Planned]:
    """What `run` would do, asked of the same code; runs nothing."""
    planned = []
    for found in _decided(session, force=force):
        id, kind, decision = found.step.id, found.step.kind, found.decision
        if decision is None:
            planned.append(Planned(id, kind, "unknown", f"known when {', '.join(found.late)} has run"))
        elif decision.entry is not None and not force:
            planned.append(Planned(id, kind, "cached", "", decision.key))
        else:
            planned.append(Planned(id, kind, "run", "--force" if force else decision.reason))
    session.digests.save()
    return planned


def _decided(session: Session, *, force: bool = False) -> Iterator[Decided]:
    """The decision on each step, as far as it can be taken before any has run."""
    from trtbuild.explain import Decided

    resolver = session.resolver
    entries: dict[str, Entry] = {}
    for step in session.plan.steps:
        late = [need for need in step.needs.values() if need not in entries]
        if late:
            yield Decided(step, None, late)
            continue
        decision = resolver.decide(step, {slot: entries[need] for slot, need in step.needs.items()})
        if decision.entry is not None and not force:
            entries[step.id] = decision.entry
        yield Decided(step, decision)


def explain(session: Session, stage: str | None = None) -> list[Explanation]:
    """Why each step, or the one named, ran last or would run next. UsageError where there is no such step."""
    from trtbuild.explain import explanations

    wanted = {_step_named(session.plan, stage).id} if stage else {step.id for step in session.plan.steps}
    found = explanations(session.resolver, list(_decided(session)), wanted)
    session.digests.save()
    return found


def plan_recipes(recipes: Sequence[PathLike] | PathLike, **where: Any) -> list[Planned]:
    """What `run` with the same arguments would do (see `open_session`); runs nothing."""
    return preview(open_session(recipes, **where))


def explain_recipe(recipe: PathLike, stage: str | None = None, **where: Any) -> list[Explanation]:
    """Why each stage of a recipe, or the one named, would run next or ran last."""
    return explain(open_session(recipe, **where), stage)


def _step_named(plan: Plan, name: str) -> Step:
    ids = [id for step in plan.steps for id in (step.id, *step.aliases)]
    matching = [id for id in ids if id == name or id.partition("/")[2] == name]
    if not matching:
        raise UsageError(f"There is no stage `{name}`", [("stages", "\n".join(ids))], did_you_mean(name, ids))
    return plan.step(matching[0])
