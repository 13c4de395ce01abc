"""What a run would do and why, asked of the code that decides it; runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtbuild.errors import UsageError, did_you_mean
from trtbuild.plans import Plan, Step
from trtbuild.proofs import Proofs
from trtbuild.session import Session
from trtbuild.store.entry import Entry

if TYPE_CHECKING:
    from trtbuild.explaining import Decided, Explanation


@dataclass(frozen=True, slots=True)
class Planned:
    """What would happen to a step: `cached`, `run`, `pending` where this machine cannot run it, or `unknown` until
    those before it have run."""

    id: str
    kind: str
    action: str
    reason: str
    key: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def preview(session: Session, *, force: bool = False, other_gpu: bool = False) -> list[Planned]:
    """What `run` would do, asked of the same code; runs nothing."""
    planned = []
    proofs = Proofs(session.plan, session.workspace.dist, other_gpu=other_gpu)
    for found in _decided(session, force=force):
        id, kind, decision = found.step.id, found.step.kind, found.decision
        # Known before anything runs: a comparison that this machine cannot make will wait.
        pending = proofs.why_not_here(found.step) if kind == "verify" else ""
        if kind == "verify" and decision is not None and decision.entry is None and (pending or not force):
            record = proofs.recorded(found.step, decision.key)
            if record is not None and record["status"] == "passed":
                planned.append(Planned(id, kind, "cached", "verified on another machine", decision.key))
                continue
        if pending and (decision is None or decision.entry is None or force):
            planned.append(Planned(id, kind, "pending", pending))
        elif decision is None:
            planned.append(Planned(id, kind, "unknown", f"known when {', '.join(found.late)} has run"))
        elif decision.entry is not None and not force:
            planned.append(Planned(id, kind, "cached", "", decision.key))
        else:
            planned.append(Planned(id, kind, "run", "--force" if force else decision.reason))
    session.digests.save()
    return planned


def _decided(session: Session, *, force: bool = False) -> Iterator[Decided]:
    """The decision on each step, as far as it can be taken before any has run."""
    from trtbuild.explaining import Decided

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
    from trtbuild.explaining import explanations

    wanted = {_step_named(session.plan, stage).id} if stage else {step.id for step in session.plan.steps}
    found = explanations(session.resolver, list(_decided(session)), wanted)
    session.digests.save()
    return found


def _step_named(plan: Plan, name: str) -> Step:
    ids = [id for step in plan.steps for id in (step.id, *step.aliases)]
    matching = [id for id in ids if id == name or id.partition("/")[2] == name]
    if not matching:
        raise UsageError(f"There is no stage `{name}`", [("stages", "\n".join(ids))], did_you_mean(name, ids))
    return plan.step(matching[0])
