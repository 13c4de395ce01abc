"""The one place that decides whether a step must run: `run`, `plan` and `explain` all ask it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trtbuild.errors import UsageError
from trtbuild.host import cpu_capability
from trtbuild.keys import KeyInputs, key_inputs, key_of, with_reads
from trtbuild.machine_tools import machine_tools
from trtbuild.plans import Step
from trtbuild.reads import parts_of, present
from trtbuild.sandbox import Level, still_good
from trtbuild.signs import Digests
from trtbuild.stages.table import code_of, stage_kind, tools_of
from trtbuild.store.entry import Entry
from trtbuild.store.local import LocalStore
from trtbuild.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Decision:
    """What is known of a step whose inputs are known.

    `declared` is the record without what the stage reads by itself; `record` the whole one, as far as the last reads
    tell; `entry` is None where the step must run, and `reason` says why.
    """

    declared: KeyInputs
    record: KeyInputs
    key: str
    entry: Entry | None
    reason: str


class Resolver:
    """Decides from the store, the files and the toolchain; asks nothing of stages."""

    def __init__(self, store: LocalStore, workspace: Workspace, digests: Digests, sandbox: Level = Level.AUDIT) -> None:
        self.store = store
        self.workspace = workspace
        self.digests = digests
        self.sandbox = sandbox

    def decide(self, step: Step, inputs: Mapping[str, Entry]) -> Decision:
        """Decide a step whose inputs are these entries, by slot. UsageError where a declared file is absent."""
        declared = self.declared(step, inputs)
        if not stage_kind(step.kind).discovers:
            return self._by_key(step, declared, declared)
        newest: KeyInputs | None = None
        for seen in self.store.reads(key_of(declared)):
            record = with_reads(declared, seen)
            now = self._present(declared, seen)
            if now == record and still_good(seen.get("by"), self.sandbox):
                return self._by_key(step, declared, record)
            newest = newest or now
        # Seen before in another state, or under other settings: the last record says what it read.
        if newest is None and (history := self.store.history(step.id)) and (seen := parts_of(history["record"])):
            newest = self._present(declared, seen)
        record = newest or declared
        return Decision(declared, record, key_of(record), None, self.reason(step, record))

    def declared(self, step: Step, inputs: Mapping[str, Entry]) -> KeyInputs:
        """The record of a step but for what it reads by itself."""
        files = {slot: self._file(step, slot) for slot in step.files}
        record = key_inputs(
            step,
            code_of(step.kind),
            tools_of(step.kind, step.settings),
            {slot: entry.canonical() for slot, entry in inputs.items()},
            files,
        )
        if step.kind == "trace":
            # Random weights and tables made at construction depend on the instruction set.
            record["toolchain"]["cpu"] = cpu_capability()
        if step.kind in ("compile", "export"):
            record["toolchain"] |= machine_tools(step.kind, step.settings)
        return record

    def _file(self, step: Step, slot: str) -> str:
        path = self.workspace.root / step.files[slot]
        digest = self.digests.of(path)
        if digest is None:
            raise UsageError(f"The {slot} of `{step.id}` do not exist", [("missing", str(path))])
        return digest

    def _present(self, declared: KeyInputs, seen: Mapping[str, Any]) -> KeyInputs:
        """The record as it would be if the stage read the same files and packages now."""
        return with_reads(declared, present(seen, self.workspace.root, self.digests))

    def _by_key(self, step: Step, declared: KeyInputs, record: KeyInputs) -> Decision:
        key = key_of(record)
        entry = self.store.get(key)
        return Decision(declared, record, key, entry, "" if entry else self.reason(step, record))

    def reason(self, step: Step, record: KeyInputs) -> str:
        """Why a step with this record is not in the store, in a few words."""
        from trtbuild.sides import short_reason

        return short_reason(self.store, self.workspace.root, step, record)
