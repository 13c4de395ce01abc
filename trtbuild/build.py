"""The loop: a step whose inputs are known comes from the store or goes to the executor, until none is left.

A step's state goes from waiting to running to one of the ends in `Status`, through `_end` alone.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtbuild import host
from trtbuild.digest import canonical
from trtbuild.errors import MachineError, StageError, TrtbuildError
from trtbuild.events import Listener, RunStarted, StageEnded, StageStarted, Status, Warned
from trtbuild.executor import Executor, LocalExecutor
from trtbuild.failures import crashed, full, reported
from trtbuild.files import NO_SPACE, machine_error, saying_what, write_json
from trtbuild.keys import KeyInputs, key_of, with_reads
from trtbuild.plans import Plan, Step
from trtbuild.proofs import Pending, Proofs, known_wrong
from trtbuild.resolve import Decision, Resolver
from trtbuild.stages.table import layer_of
from trtbuild.store.entry import Entry, Output
from trtbuild.store.locks import Lock

if TYPE_CHECKING:
    from trtbuild.worker.outcome import Outcome

# What a job is taken to need while nothing is remembered of it.
_GUESSED_MEMORY = 3 << 30
_FULL = 1 << 20
_BUSY_WAIT = 0.2


@dataclass(slots=True)
class StepState:
    """Where a step stands. `must_run` holds the reason where its entry may not be used."""

    step: Step
    status: Status | None = None
    running: bool = False
    decision: Decision | None = None
    entry: Entry | None = None
    must_run: str = ""
    reason: str = ""
    seconds: float = 0.0
    error: TrtbuildError | None = None
    lock: Lock | None = None
    folder: Path | None = None
    started: float = 0.0
    # The file system's own time of the start.
    tick: int = 0

    @property
    def done(self) -> bool:
        return self.status in (Status.CACHED, Status.RAN)


class _Waiting(Enum):
    """What keeps a ready step from starting, when it is no lack of slots."""

    NO = "nothing"
    FOR_OURS = "the state of a step changed: look again"
    FOR_OTHERS = "another process builds it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run. `jobs`: stages at once; `memory`: bytes they may take together, by default what is free."""

    jobs: int = 1
    memory: int | None = None
    keep_going: bool = False
    force: bool = False


@dataclass(slots=True)
class Build:
    """One run of a plan's steps."""

    plan: Plan
    resolver: Resolver
    options: Options
    listener: Listener
    executor_for: Callable[[list[Any], Path], Executor] = LocalExecutor
    proofs: Proofs | None = None
    states: dict[str, StepState] = field(init=False)
    # Steps to look at: whatever may have changed for them since they were looked at last.
    _unsettled: dict[str, StepState] = field(init=False)
    # Steps that must run and whose inputs are there, and those that run, by the folders of their jobs.
    _ready: dict[str, StepState] = field(init=False, default_factory=dict)
    _running: dict[Path, StepState] = field(init=False, default_factory=dict)
    _users: dict[str, list[StepState]] = field(init=False, default_factory=dict)
    _memory: int = field(init=False)
    # Tells the steps that this run did something for from those of others, in what is remembered of them.
    _begun: int = field(init=False, default_factory=time.time_ns)
    _histories: dict[str, dict[str, Any]] = field(init=False, default_factory=dict)
    _lengths: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.states = {step.id: StepState(step) for step in self.plan.steps}
        self._unsettled = dict(self.states)
        for state in self.states.values():
            for need in set(state.step.needs.values()):
                self._users.setdefault(need, []).append(state)
        # Asked before anything runs: a stage that has just started has not taken yet what it will.
        self._memory = host.available_memory() if self.options.memory is None else self.options.memory
        if self.options.force:
            for state in self.states.values():
                state.must_run = "--force"

    def run(self) -> None:
        """Run until every step has ended. MachineError where this machine cannot go on."""
        self.listener(RunStarted(tuple(self.states)))
        self._settle()
        if all(state.status for state in self.states.values()):
            return
        store = self.resolver.store
        layers = [layer_of(s.step.kind, s.step.settings) for s in self.states.values() if not s.done]
        with ExitStack() as stack:
            folder = stack.enter_context(store.session())
            executor = self.executor_for(layers, store.log("workers"))
            stack.callback(executor.close)
            stack.callback(self._unlock)
            self._loop(executor, folder)

    def rerun(self, ids: Mapping[str, str]) -> None:
        """Run steps again whose entries turned out to be unusable, with the reason for each."""
        for id, reason in ids.items():
            self._reset(self.states[id], reason)
        self.run()

    def pending(self) -> dict[str, Pending]:
        """The comparisons that this machine cannot make, by step."""
        return {
            # As an entry's record comes back from the store, so that manifests are the same every time.
            id: Pending(state.decision.key, json.loads(canonical(state.decision.record)), state.reason)
            for id, state in self.states.items()
            if state.status is Status.PENDING and state.decision is not None
        }

    # the loop

    def _loop(self, executor: Executor, folder: Path) -> None:
        while True:
            self._settle()
            waiting = self._start_what_fits(executor, folder)
            if self._running:
                for outcome in executor.next_done(_BUSY_WAIT if waiting is _Waiting.FOR_OTHERS else None):
                    self._finish(outcome)
            elif waiting is _Waiting.FOR_OTHERS:
                time.sleep(_BUSY_WAIT)
            elif waiting is _Waiting.NO:
                break
        for state in self.states.values():
            if state.status is None:
                self._end(
                    state,
                    Status.SKIPPED,
                    note="an input failed" if self._failed_before(state) else "stopped after a failure",
                )

    def _settle(self) -> None:
        """Take from the store whatever can be; what cannot and has its inputs is ready to run."""
        while self._unsettled:
            # In the order in which they came: the plan's, in which inputs come first, and then that of their makers.
            state = self._unsettled.pop(next(iter(self._unsettled)))
            self._ready.pop(state.step.id, None)
            if state.status is not None or state.running or not self._inputs_done(state):
                continue
            state.decision = self.resolver.decide(state.step, self._inputs(state))
            if state.decision.entry is not None and not state.must_run:
                state.entry = state.decision.entry
                self._remember(state, state.decision.record, state.decision.key, None)
                self._end(state, Status.CACHED)
            elif state.step.kind != "verify" or not self._settled_elsewhere(state):
                self._ready[state.step.id] = state

    def _settled_elsewhere(self, state: StepState) -> bool:
        """Take over a comparison that was made on another machine; one that cannot be made here stays pending."""
        decision = state.decision
        if self.proofs is None or decision is None:
            return False
        why = self.proofs.why_not_here(state.step)
        if state.must_run and not why:
            return False
        found = self.proofs.recorded(state.step, decision.key)
        if found is not None and found["status"] == "passed":
            made = Entry(key=decision.key, record=decision.record, outputs={}, details=found)
            state.entry = self.resolver.store.put(made)
            self._remember(state, decision.record, decision.key, None)
            self._end(state, Status.CACHED)
        elif found is not None and why:
            state.error = known_wrong(state.step, found)
            self._end(state, Status.FAILED, note=state.error.sentence)
        elif why:
            self._end(state, Status.PENDING, note=why)
        return state.status is not None

    def _start_what_fits(self, executor: Executor, folder: Path) -> _Waiting:
        """Start ready steps, those with the longest way to go first; say what those wait for that were not started."""
        if self._failed() and not self.options.keep_going:
            return _Waiting.NO
        waiting = _Waiting.NO
        running = list(self._running.values())
        slots = self.options.jobs - len(running)
        for state in self._by_urgency(list(self._ready.values())):
            if not self._inputs_done(state):
                # A step before it in this round found their common input damaged.
                continue
            inline = layer_of(state.step.kind, state.step.settings) == "inline"
            if not inline and (slots <= 0 or not self._fits(state, running)):
                continue
            if self._damaged_inputs(state, folder):
                waiting = _Waiting.FOR_OURS
                continue
            assert state.decision is not None
            lock = self.resolver.store.try_lock(key_of(state.decision.declared))
            if lock is None:
                waiting = _Waiting.FOR_OTHERS
                continue
            state.lock = lock
            # Another process may have built it between the decision and the lock.
            state.decision = self.resolver.decide(state.step, self._inputs(state))
            if state.decision.entry is not None and not state.must_run:
                self._release(state)
                self._unsettled[state.step.id] = state
                waiting = _Waiting.FOR_OURS
                continue
            self._start(state, executor, folder)
            running.append(state)
            slots -= 0 if inline else 1
        return waiting

    def _by_urgency(self, ready: list[StepState]) -> list[StepState]:
        if all(layer_of(state.step.kind, state.step.settings) == "inline" for state in ready) or len(ready) < 2:
            return ready
        if not self._lengths:
            history = {id: self._history(id) for id in self.states}
            self._lengths = self.plan.lengths({id: float(old["seconds"]) for id, old in history.items() if old})
        return sorted(ready, key=lambda state: -self._lengths[state.step.id])

    def _fits(self, state: StepState, running: list[StepState]) -> bool:
        """Whether a stage fits beside those that run, by what each took the last time. One always fits."""
        return not running or sum(self._memory_of(one) for one in [state, *running]) <= self._memory

    def _memory_of(self, state: StepState) -> int:
        return int(self._history(state.step.id).get("peak_memory") or _GUESSED_MEMORY)

    def _history(self, id: str) -> dict[str, Any]:
        """What is remembered of a step from earlier runs, read once."""
        if id not in self._histories:
            self._histories[id] = self.resolver.store.history(id) or {}
        return self._histories[id]

    def _damaged_inputs(self, state: StepState, folder: Path) -> bool:
        """Check the outputs that a step is about to read; a damaged one sends its maker back to work."""
        damaged = False
        store = self.resolver.store
        for need in state.step.needs.values():
            maker = self.states[need]
            assert maker.entry is not None
            outputs = maker.entry.outputs
            if bad := [name for name, output in outputs.items() if store.path_of(output, folder) is None]:
                blobs = ", ".join(f"{name} ({outputs[name].digest[:12]})" for name in bad)
                self.listener(Warned(f"The blob of {blobs} of {need} is damaged or gone; it is built again"))
                self._reset(maker, "its output is damaged or gone")
                damaged = True
        return damaged

    # one step

    def _start(self, state: StepState, executor: Executor, folder: Path) -> None:
        step, store = state.step, self.resolver.store
        assert state.decision is not None
        history = self._history(step.id)
        state.folder = folder / step.id.replace("/", "~")
        shutil.rmtree(state.folder, ignore_errors=True)
        inputs = self._inputs(state)
        workspace = self.resolver.workspace.root
        with saying_what("make a job's folder", state.folder):
            state.folder.mkdir()
            write_json(
                state.folder / "job.json",
                {
                    "stage": step.kind,
                    "settings": step.settings,
                    "inputs": {
                        slot: {name: str(store.path_of(output, folder)) for name, output in entry.outputs.items()}
                        for slot, entry in inputs.items()
                    },
                    "details": {slot: entry.details for slot, entry in inputs.items()},
                    "files": {slot: str(workspace / path) for slot, path in step.files.items()},
                    "workspace": str(workspace),
                    "sandbox": self.resolver.sandbox,
                    "options": {"other_gpu": self.proofs is not None and self.proofs.other_gpu},
                },
            )
        state.reason = state.must_run or state.decision.reason
        state.running, state.started = True, time.monotonic()
        state.tick = self.resolver.digests.clock.now()
        self._running[state.folder] = self._ready.pop(step.id)
        self.listener(StageStarted(step.id, state.reason, float(history["seconds"]) if history else None))
        executor.submit(layer_of(step.kind, step.settings), state.folder)

    def _finish(self, outcome: Outcome) -> None:
        state = self._running.pop(outcome.folder)
        state.running = False
        state.seconds = round(time.monotonic() - state.started, 3)
        log = self._keep_log(state)
        try:
            if self._no_space(outcome.result):
                raise full(state.step.id, self.resolver.store.root, log)
            if outcome.result is None:
                raise crashed(state.step.id, outcome.status, log)
            if "error" in outcome.result:
                raise reported(state.step.id, outcome.result["error"], log)
            if warning := outcome.result.get("warning"):
                self.listener(Warned(f"{state.step.id}: {warning}"))
            self._store(state, outcome.result, outcome.peak_memory)
        except TrtbuildError as error:
            state.error = error
            self._note_failure(state, error)
            self._end(state, Status.FAILED, note=error.sentence)
            if isinstance(error, MachineError):
                raise
        else:
            self._end(state, Status.RAN)
        finally:
            self._release(state)
            shutil.rmtree(outcome.folder, ignore_errors=True)

    def _no_space(self, result: Mapping[str, Any] | None) -> bool:
        """Whether a failure comes of a full disk: native code that cannot write says so in no one way."""
        unexpected = result is None or bool(result.get("error", {}).get("traceback"))
        said = result is not None and result.get("error", {}).get("error") == NO_SPACE
        return said or (unexpected and shutil.disk_usage(self.resolver.store.root).free < _FULL)

    def _store(self, state: StepState, result: Mapping[str, Any], peak_memory: int) -> None:
        """Outputs first, the entry that names them last; nothing where an input changed meanwhile."""
        assert state.decision is not None and state.folder is not None
        inputs = self._inputs(state)
        declared = self.resolver.declared(state.step, inputs)
        if declared != state.decision.declared:
            raise StageError(
                f"An input of `{state.step.id}` changed while it ran",
                [("files", ", ".join(state.step.files.values()))],
                "Run the command again.",
            )
        store = self.resolver.store
        session = state.folder.parent
        if touched := [
            slot
            for slot, entry in inputs.items()
            if not all(store.untouched(output, session) for output in entry.outputs.values())
        ]:
            raise StageError(
                f"An input of `{state.step.id}` was written to while it ran",
                [("inputs", ", ".join(f"{slot} ({state.step.needs[slot]})" for slot in touched))],
                "What it made is not kept. What was damaged is built again by the next run.",
            )
        outputs: dict[str, Output] = {}
        for name, found in result["outputs"].items():
            outputs[name] = store.put_output(state.folder / "out" / name, found, session)
        for name, (slot, original) in result["copies"].items():
            outputs[name] = inputs[slot].outputs[original]
        record = declared
        if reads := result["reads"]:
            record = with_reads(declared, reads)
            store.put_reads(key_of(declared), reads)
            for path, digest in reads["reads"].items():
                if digest is not None:
                    root = self.resolver.workspace.root
                    self.resolver.digests.learn_since(root / path, digest, state.tick)
        made = Entry(
            key=key_of(record),
            record=record,
            outputs=outputs,
            details=result["details"],
            seconds=result["seconds"],
            peak_memory=peak_memory,
        )
        state.entry = store.put(made)
        state.must_run = ""
        self._remember(state, record, made.key, state.reason)

    def _remember(self, state: StepState, record: KeyInputs, key: str, why: str | None) -> None:
        assert state.entry is not None
        seconds, memory = state.entry.seconds, state.entry.peak_memory
        for id in state.step.ids():
            self.resolver.store.put_history(id, record, key, seconds, memory, run=self._begun, why=why)

    def _note_failure(self, state: StepState, error: TrtbuildError) -> None:
        for id in state.step.ids():
            self.resolver.store.note_failure(id, error.sentence, self._begun)

    def _end(self, state: StepState, status: Status, note: str = "") -> None:
        state.status = status
        state.reason = state.reason or note
        self._unsettled.update({user.step.id: user for user in self._users.get(state.step.id, ())})
        self.listener(StageEnded(state.step.id, status, state.seconds, note))

    def _reset(self, state: StepState, reason: str) -> None:
        state.status, state.entry, state.must_run, state.reason, state.error = None, None, reason, "", None
        self._unsettled[state.step.id] = state
        for user in self._users.get(state.step.id, ()):
            self._ready.pop(user.step.id, None)
            if user.status is not None and not user.done:
                self._reset(user, "")

    def _keep_log(self, state: StepState) -> Path:
        log = self.resolver.store.log(state.step.id)
        assert state.folder is not None
        source = state.folder / "log"
        if source.exists():
            try:
                log.parent.mkdir(parents=True, exist_ok=True)
                source.replace(log)
            except OSError as error:
                self.listener(Warned(machine_error("keep a log", log, error).render()))
        return log

    def _release(self, state: StepState) -> None:
        if state.lock is not None:
            state.lock.close()
            state.lock = None

    def _unlock(self) -> None:
        for state in self.states.values():
            self._release(state)

    # questions

    def _inputs_done(self, state: StepState) -> bool:
        return all(self.states[need].done for need in state.step.needs.values())

    def _inputs(self, state: StepState) -> dict[str, Entry]:
        entries = {slot: self.states[need].entry for slot, need in state.step.needs.items()}
        return {slot: entry for slot, entry in entries.items() if entry is not None}

    def _failed(self) -> bool:
        return any(state.status is Status.FAILED for state in self.states.values())

    def _failed_before(self, state: StepState) -> bool:
        needs = [self.states[need] for need in state.step.needs.values()]
        return any(
            need.status is Status.FAILED or (need.status in (None, Status.SKIPPED) and self._failed_before(need))
            for need in needs
        )
