"""Whether a plan's stages give the same again: each is run a second time beside the cache, and compared.

Each stage gets the inputs that it had the first time, so what differs is the stage's own doing and not that of one
before it. Nothing of the second build is kept: its outputs lie below the cache's tmp/ while they are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trtbuild.build import Build, Options, StepState
from trtbuild.digests import canonical_digest
from trtbuild.digests.difference import byte_differences, meaning_differences
from trtbuild.errors import StageError, TrtbuildError
from trtbuild.events import Listener, Status
from trtbuild.plans import Plan
from trtbuild.resolve import Resolver
from trtbuild.store.entry import Output

Verdict = Literal["same bytes", "same meaning", "differs", "failed", "skipped"]

_ORDER: tuple[Verdict, ...] = ("same bytes", "same meaning", "differs")


@dataclass(frozen=True, slots=True)
class Check:
    """How a stage's second build compares with its first; `where` says where they part."""

    id: str
    kind: str
    verdict: Verdict
    where: Sequence[str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"where": list(self.where)}


def rebuild(plan: Plan, resolver: Resolver, options: Options, listener: Listener) -> list[Check]:
    """Build a plan whose stages are all in the store a second time, and compare.

    Verifications make nothing that could be compared, and are not repeated.
    """
    made = Plan(tuple(step for step in plan.steps if step.kind != "verify"), plan.cells)
    build = _Rebuild(made, resolver, options, listener)
    build.run()
    return [build.check_of(state) for state in build.states.values()]


def errors_of(checks: Sequence[Check]) -> list[TrtbuildError]:
    """An error for each stage whose second build failed or does not mean what its first does, in the plan's order."""
    return [
        StageError(f"`{check.id}` failed when it was built a second time", [("reason", "\n".join(check.where))])
        if check.verdict == "failed"
        else StageError(
            f"`{check.id}` is not reproducible: from equal inputs it made something else",
            [("differs in", "\n".join(check.where))],
            "Does the model draw on the time, on random numbers that the recipe's seed does not rule, on addresses of\n"
            "objects, or on the order of a set?"
            if check.kind == "trace"
            else "",
        )
        for check in checks
        if check.verdict in ("failed", "differs")
    ]


class _Rebuild(Build):
    """A run that forces every stage and keeps what the first build left: it compares where others store."""

    def __init__(self, plan: Plan, resolver: Resolver, options: Options, listener: Listener) -> None:
        super().__init__(plan, resolver, options, listener)
        self._found: dict[str, tuple[Verdict, list[str]]] = {}
        for state in self.states.values():
            state.must_run = "built again, to compare"

    def check_of(self, state: StepState) -> Check:
        failed: Verdict = "failed" if state.status is Status.FAILED else "skipped"
        reasons = [state.error.sentence if state.error else state.reason]
        verdict, where = self._found.get(state.step.id, (failed, reasons))
        return Check(state.step.id, state.step.kind, verdict, where, state.seconds)

    def _store(self, state: StepState, result: Mapping[str, Any], peak_memory: int) -> None:
        assert state.decision is not None and state.folder is not None
        first = state.decision.entry
        if first is None:
            raise StageError(f"What `{state.step.id}` made is gone, or its inputs changed meanwhile")
        inputs = self._inputs(state)
        copies = {name: inputs[slot].outputs[original].digest for name, (slot, original) in result["copies"].items()}
        verdict: Verdict = "same bytes"
        where: list[str] = []
        for name in sorted({*first.outputs, *result["outputs"], *copies}):
            old = first.outputs.get(name)
            if old is None or (name not in copies and name not in result["outputs"]):
                found: tuple[Verdict, list[str]] = (
                    "differs",
                    [f"made only the {'second' if old is None else 'first'} time"],
                )
            elif name in copies:
                found = ("same bytes", []) if copies[name] == old.digest else ("differs", ["another input was taken"])
            else:
                found = self._compared(state, name, old, result["outputs"][name])
            verdict = max(verdict, found[0], key=_ORDER.index)
            where += [f"{name}: {text}" for text in found[1]]
        self._found[state.step.id] = (verdict, where)
        state.entry, state.must_run = first, ""

    def _compared(self, state: StepState, name: str, old: Output, new: Mapping[str, Any]) -> tuple[Verdict, list[str]]:
        if new["digest"] == old.digest:
            return "same bytes", []
        assert state.folder is not None
        before, after = self.resolver.store.path_of(old, state.folder), state.folder / "out" / name
        if before is None:
            raise StageError(f"What `{state.step.id}` made is damaged", [("output", name)], "Run the command again.")
        meant, means = old.canonical, str(new["canonical"])
        if meant.startswith("raw:"):
            # Of outputs that no stage reads only the bytes were digested.
            meant, means = canonical_digest(before), canonical_digest(after)
        kind = meant.partition("-")[0] if not meant.startswith("raw:") else "json" if name.endswith(".json") else ""
        with before.open("rb") as one, after.open("rb") as other:
            if meant == means:
                return "same meaning", byte_differences(one, other, kind)
            return "differs", meaning_differences(one, other, kind) or byte_differences(one, other, kind)

    def _note_failure(self, state: StepState, error: TrtbuildError) -> None:
        """What fails only the second time is told by this run, and is no part of the stage's history."""
