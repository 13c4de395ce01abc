"""Why each stage ran in the last run, or did not, and what the next run would do with it.

The next run is told of the very decisions that `run` would take; the last one of the records that the history keeps.
A run in which a recipe had nothing to do at all leaves nothing behind, and does not count as its last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtbuild.plans import Step
from trtbuild.resolve import Decision, Resolver
from trtbuild.sides import side_now, side_then, teller
from trtbuild.words import Told


@dataclass(frozen=True, slots=True)
class Account:
    """What became of a stage in one run, or would. `status` is a word, `verdict` says it whole.

    The last run's: ran, cached, failed, skipped or never. The next one's: run, cached or unknown.
    """

    status: str
    verdict: str
    changes: Sequence[Told] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A stage in the last run and in the next."""

    id: str
    last: Account
    next: Account

    def to_json(self) -> dict[str, Any]:
        def told(account: Account) -> dict[str, Any]:
            return {"verdict": account.verdict, "changes": [change.to_json() for change in account.changes]}

        last = {"status": self.last.status, **told(self.last)}
        return {"id": self.id, "action": self.next.status, **told(self.next), "last": last}


@dataclass(frozen=True, slots=True)
class Decided:
    """A step and the decision on it, which is None until those steps have run that `late` names."""

    step: Step
    decision: Decision | None
    late: Sequence[str] = ()


def explanations(resolver: Resolver, decided: Sequence[Decided], wanted: Collection[str]) -> list[Explanation]:
    """The explanations of the wanted steps among all of a plan."""
    store = resolver.store
    histories = {found.step.id: store.history(found.step.id) for found in decided}
    newest = max((_newest(history) for history in histories.values() if history), default=0)
    lasts: dict[str, Account] = {}
    for found in decided:
        lasts[found.step.id] = _last(resolver, found.step, histories[found.step.id], newest, lasts)
    return [
        Explanation(found.step.id, lasts[found.step.id], _next(resolver, found, histories[found.step.id]))
        for found in decided
        if found.step.id in wanted
    ]


def _newest(history: Mapping[str, Any]) -> int:
    return max(int((history.get(part) or {}).get("run") or 0) for part in ("last", "failed"))


def _last(
    resolver: Resolver, step: Step, history: Mapping[str, Any] | None, newest: int, lasts: Mapping[str, Account]
) -> Account:
    failed = [need for need in step.needs.values() if lasts[need].status in ("failed", "skipped")]
    if failed:
        return Account("skipped", f"skipped, since {', '.join(failed)} failed or was skipped")
    if history is None:
        return Account("never", "not built before")
    if (failure := history.get("failed")) and failure["run"] == newest:
        return Account("failed", f"failed: {failure['error']}")
    changed = _before(resolver, step, history)
    last = history.get("last") or {}
    if last.get("run") != newest or not newest:
        return Account(
            "cached",
            "cached, none of its key inputs had changed"
            + ("; when they last had, it was in these" if changed else " since it was first built"),
            changed,
        )
    moved, why = bool(last.get("moved")), last.get("why")
    if not moved:
        return Account("ran", f"ran, {why}")
    if why is None:
        if not changed:
            return Account("cached", "cached, built before under another name")
        return Account("cached", "cached, since it had been built before under these changes", changed)
    if not changed:
        return Account("ran", f"ran, {why}")
    forced = f"{why}, and " if why == "--force" else ""
    return Account("ran", f"ran, since {forced}these key inputs had changed", changed)


def _before(resolver: Resolver, step: Step, history: Mapping[str, Any]) -> list[Told]:
    """What had changed when the key of a step last became another."""
    before = history.get("before")
    if not before:
        return []
    store = resolver.store
    return teller(store, step).told(side_then(store, before), side_then(store, history))


def _next(resolver: Resolver, found: Decided, history: Mapping[str, Any] | None) -> Account:
    step, decision = found.step, found.decision
    if decision is None:
        known = f"known when {', '.join(found.late)} has run"
        already = _already(resolver, step, history)
        return Account("unknown", known + ("; changed already" if already else ""), already)
    if decision.entry is not None:
        if history is not None and history["key"] == decision.key:
            return Account("cached", "cached, none of its key inputs changed")
        return Account(
            "cached", "cached, since it was built before under these changes", _now(resolver, found, history)
        )
    changed = _now(resolver, found, history)
    if not changed:
        return Account("run", f"would run, {decision.reason}")
    return Account("run", "would run, since these key inputs changed", changed)


def _now(resolver: Resolver, found: Decided, history: Mapping[str, Any] | None) -> list[Told]:
    if history is None or found.decision is None:
        return []
    store = resolver.store
    now = side_now(resolver.workspace.root, found.step, found.decision.record)
    return teller(store, found.step).told(side_then(store, history), now)


def _already(resolver: Resolver, step: Step, history: Mapping[str, Any] | None) -> list[Told]:
    """What changed already in the record of a step of whose inputs not all are known."""
    if history is None:
        return []
    then = side_then(resolver.store, history)
    open_parts = {part: then.record[part] for part in ("inputs",) if part in then.record}
    now = side_now(resolver.workspace.root, step, {**resolver.declared(step, {}), **open_parts})
    return teller(resolver.store, step).told(then, now)
