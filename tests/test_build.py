"""The loop, with null stages and a fake executor: what runs, in which order, after which edit or accident."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import FakeExecutor, Recorder, null_plan, null_step
from trtbuild.build import Build, Options
from trtbuild.errors import StageError
from trtbuild.plans import Plan
from trtbuild.resolve import Resolver
from trtbuild.signs import Digests
from trtbuild.store.local import LocalStore
from trtbuild.workspace import Workspace


def build(
    root: Path, plan: Plan, executor: FakeExecutor | None = None, **options: Any
) -> tuple[Build, Recorder, FakeExecutor]:
    executor, recorder = executor or FakeExecutor(), Recorder()
    workspace = Workspace(root, root / "cache", root / "dist")
    made = Build(
        plan, Resolver(LocalStore(workspace.cache), workspace, Digests()), Options(**options), recorder, executor
    )
    made.run()
    return made, recorder, executor


def chain(a: int = 1, b: int = 1, c: int = 1) -> Plan:
    return null_plan(null_step("r/a", x=a), null_step("r/b", {"in": "r/a"}, x=b), null_step("r/c", {"in": "r/b"}, x=c))


def test_a_first_run_runs_every_step_in_order(tmp_path: Path) -> None:
    _, recorder, executor = build(tmp_path, chain())
    assert recorder.started() == ["r/a", "r/b", "r/c"]
    assert recorder.ended() == {"r/a": "ran", "r/b": "ran", "r/c": "ran"}
    assert executor.closed


def test_a_second_run_starts_nothing_not_even_an_executor(tmp_path: Path) -> None:
    build(tmp_path, chain())
    executor = FakeExecutor()
    _, recorder, _ = build(tmp_path, chain(), executor)
    assert recorder.started() == [] and not executor.closed
    assert set(recorder.ended().values()) == {"cached"}


@pytest.mark.parametrize(
    ("edit", "runs"), [({"a": 2}, ["r/a", "r/b", "r/c"]), ({"b": 2}, ["r/b", "r/c"]), ({"c": 2}, ["r/c"])]
)
def test_an_edit_runs_its_step_and_those_behind_it(tmp_path: Path, edit: dict[str, int], runs: list[str]) -> None:
    build(tmp_path, chain())
    assert build(tmp_path, chain(**edit))[1].started() == runs


def test_going_back_to_an_old_state_is_cached(tmp_path: Path) -> None:
    build(tmp_path, chain())
    build(tmp_path, chain(a=2))
    assert build(tmp_path, chain())[1].started() == []


def test_the_reason_names_the_key_input_that_changed(tmp_path: Path) -> None:
    build(tmp_path, chain())
    made, _, _ = build(tmp_path, chain(b=2))
    assert made.states["r/b"].reason == "x 1 -> 2"
    assert made.states["r/c"].reason.startswith("null.json: ")


def test_a_file_changed_by_content_runs_its_step_and_a_touched_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("one")
    plan = null_plan(null_step("r/a", files={"weights": "data"}))
    build(tmp_path, plan)
    (tmp_path / "data").touch()
    assert build(tmp_path, plan)[1].started() == []
    (tmp_path / "data").write_text("two")
    assert build(tmp_path, plan)[1].started() == ["r/a"]


def test_a_crash_is_a_failed_stage_and_what_needs_it_is_skipped(tmp_path: Path) -> None:
    made, recorder, _ = build(tmp_path, chain(), FakeExecutor(lambda step: -11 if step == "r/b" else None))
    assert recorder.ended() == {"r/a": "ran", "r/b": "failed", "r/c": "skipped"}
    error = made.states["r/b"].error
    assert isinstance(error, StageError) and "SIGSEGV" in error.sentence


def test_after_a_failure_a_later_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    build(tmp_path, chain(), FakeExecutor(lambda step: -9 if step == "r/b" else None))
    assert build(tmp_path, chain())[1].started() == ["r/b", "r/c"]


def two_branches() -> Plan:
    steps = [
        null_step("r/a", x=1),
        null_step("r/b", {"in": "r/a"}, x=1),
        null_step("r/c", {"in": "r/a"}, x=2),
        null_step("r/d", {"in": "r/c"}, x=3),
    ]
    return null_plan(*steps)


def test_keep_going_runs_what_does_not_need_the_failed_step(tmp_path: Path) -> None:
    fate = FakeExecutor(lambda step: -11 if step == "r/b" else None)
    _, recorder, _ = build(tmp_path, two_branches(), fate, keep_going=True)
    assert recorder.ended() == {"r/a": "ran", "r/b": "failed", "r/c": "ran", "r/d": "ran"}


def test_without_keep_going_nothing_new_starts_after_a_failure(tmp_path: Path) -> None:
    _, recorder, _ = build(tmp_path, two_branches(), FakeExecutor(lambda step: -11 if step == "r/a" else None))
    assert recorder.ended() == {"r/a": "failed", "r/b": "skipped", "r/c": "skipped", "r/d": "skipped"}


@pytest.fixture
def in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Null stages are inline; with this they stand for stages in workers."""
    monkeypatch.setattr("trtbuild.build.layer_of", lambda kind, settings: "torch")


@pytest.mark.usefixtures("in_workers")
@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_as_many_jobs_at_once_as_asked_and_no_more(tmp_path: Path, jobs: int) -> None:
    steps = [null_step(f"r/{name}", x=name) for name in "abcdef"]
    _, recorder, executor = build(tmp_path, null_plan(*steps), jobs=jobs)
    assert len(recorder.started()) == 6 and executor.most_at_once == jobs


@pytest.mark.usefixtures("in_workers")
@pytest.mark.parametrize(("gigabytes", "at_once"), [(1, 1), (7, 2), (10, 3), (100, 6)])
def test_jobs_that_do_not_fit_into_memory_together_wait(tmp_path: Path, gigabytes: int, at_once: int) -> None:
    steps = [null_step(f"r/{name}", x=name) for name in "abcdef"]
    _, recorder, executor = build(tmp_path, null_plan(*steps), jobs=6, memory=gigabytes << 30)
    assert len(recorder.started()) == 6 and executor.most_at_once == at_once


@pytest.mark.usefixtures("in_workers")
def test_the_step_with_the_longest_way_to_go_starts_first(tmp_path: Path) -> None:
    short = null_step("r/a", x=0)
    long = [null_step("r/b", x=1), null_step("r/c", {"in": "r/b"}, x=2), null_step("r/d", {"in": "r/c"}, x=3)]
    assert build(tmp_path, null_plan(short, *long), jobs=1)[1].started() == ["r/b", "r/c", "r/a", "r/d"]


def test_force_runs_everything_and_changes_no_stored_byte(tmp_path: Path) -> None:
    made, _, _ = build(tmp_path, chain())
    before = {state.step.id: state.entry for state in made.states.values()}
    again, recorder, _ = build(tmp_path, chain(), force=True)
    assert recorder.started() == ["r/a", "r/b", "r/c"]
    for id, entry in before.items():
        assert entry is not None and again.states[id].entry is not None
        assert again.states[id].entry.outputs == entry.outputs  # type: ignore[union-attr]


def test_a_damaged_blob_is_reported_and_its_maker_runs_again(tmp_path: Path) -> None:
    made, _, _ = build(tmp_path, chain())
    entry = made.states["r/a"].entry
    assert entry is not None
    blob = made.resolver.store.blob(entry.outputs["null.json"].digest)
    blob.chmod(0o644)
    blob.write_bytes(b"x" * entry.outputs["null.json"].bytes)
    _, recorder, _ = build(tmp_path, chain(b=2))
    assert recorder.started() == ["r/a", "r/b", "r/c"]
    assert any("damaged" in getattr(event, "text", "") for event in recorder.events)


def test_a_damaged_blob_that_several_steps_read_is_rebuilt_once(tmp_path: Path) -> None:
    def fan(x: int) -> Plan:
        return null_plan(null_step("r/a", x=1), *(null_step(f"r/{n}", {"in": "r/a"}, x=x, n=n) for n in "bcd"))

    made, _, _ = build(tmp_path, fan(1))
    entry = made.states["r/a"].entry
    assert entry is not None
    blob = made.resolver.store.blob(entry.outputs["null.json"].digest)
    blob.chmod(0o644)
    blob.write_bytes(b"x" * entry.outputs["null.json"].bytes)
    _, recorder, _ = build(tmp_path, fan(2), jobs=3)
    assert sorted(recorder.started()) == ["r/a", "r/b", "r/c", "r/d"]


def test_an_input_that_changes_while_its_step_runs_stores_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("one")
    plan = null_plan(null_step("r/a", files={"weights": "data"}))

    def edit(step: str) -> None:
        (tmp_path / "data").write_text("three")

    made, recorder, _ = build(tmp_path, plan, FakeExecutor(edit))
    assert recorder.ended() == {"r/a": "failed"} and "changed while it ran" in str(made.states["r/a"].error)
    assert build(tmp_path, plan)[1].started() == ["r/a"]


@st.composite
def dags(draw: st.DrawFn) -> list[tuple[int, frozenset[int]]]:
    size = draw(st.integers(1, 7))
    return [
        (draw(st.integers(0, 2)), draw(st.frozensets(st.integers(0, max(0, n - 1)), max_size=min(n, 3))))
        for n in range(size)
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dag=dags(),
    edits=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=4),
    victim=st.integers(0, 6),
    jobs=st.integers(1, 3),
)
def test_random_graphs_edits_and_a_failure_run_exactly_what_a_plain_model_says(
    tmp_path_factory: pytest.TempPathFactory,
    dag: list[tuple[int, frozenset[int]]],
    edits: list[tuple[int, int]],
    victim: int,
    jobs: int,
) -> None:
    root = tmp_path_factory.mktemp("dag")
    values = [value for value, _ in dag]
    known: set[str] = set()

    def content(n: int) -> str:
        return f"({n}:{values[n]}:{','.join(content(m) for m in sorted(dag[n][1]) if m < n)})"

    def plan() -> Plan:
        steps = [
            null_step(f"r/{n}", {f"in{m}": f"r/{m}" for m in sorted(needs) if m < n}, n=n, x=values[n])
            for n, (_, needs) in enumerate(dag)
        ]
        return null_plan(*steps)

    for round, edit in enumerate([None, *edits]):
        if edit is not None and edit[0] < len(values):
            values[edit[0]] = edit[1]
        failing = f"r/{victim}" if round == 0 else None
        _, recorder, _ = build(
            root,
            plan(),
            FakeExecutor(lambda step, failing=failing: -11 if step == failing else None),
            jobs=jobs,
            keep_going=True,
        )  # type: ignore[misc]
        ended = recorder.ended()
        for n in range(len(values)):
            blocked = any(ended[f"r/{m}"] in ("failed", "skipped") for m in dag[n][1] if m < n)
            expected = (
                "skipped"
                if blocked
                else "cached"
                if content(n) in known
                else "failed"
                if f"r/{n}" == failing
                else "ran"
            )
            assert ended[f"r/{n}"] == expected
        known |= {content(n) for n in range(len(values)) if ended[f"r/{n}"] in ("ran", "cached")}
