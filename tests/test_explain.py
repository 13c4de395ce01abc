"""What is said of the last run and of the next, with null stages: what ran, what was cached, what failed, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes import FakeExecutor, Recorder, null_plan, null_step
from trtbuild.build import Build, Options
from trtbuild.explaining import Decided, Explanation, explanations
from trtbuild.plans import Plan
from trtbuild.resolve import Resolver
from trtbuild.signs import Digests
from trtbuild.store.local import LocalStore
from trtbuild.workspace import Workspace


def resolver(root: Path) -> Resolver:
    return Resolver(LocalStore(root / "cache"), Workspace(root, root / "cache", root / "dist"), Digests())


def run(root: Path, plan: Plan, fate: Any = lambda step: None, **options: Any) -> None:
    Build(plan, resolver(root), Options(**options), Recorder(), FakeExecutor(fate)).run()


def explained(root: Path, plan: Plan) -> dict[str, Explanation]:
    """As `explain` decides: each step whose inputs are in the store."""
    resolved = resolver(root)
    entries: dict[str, Any] = {}
    decided = []
    for step in plan.steps:
        late = [need for need in step.needs.values() if need not in entries]
        found = None if late else resolved.decide(step, {slot: entries[need] for slot, need in step.needs.items()})
        if found is not None and found.entry is not None:
            entries[step.id] = found.entry
        decided.append(Decided(step, found, late))
    return {one.id: one for one in explanations(resolved, decided, {step.id for step in plan.steps})}


def words(account: Any) -> list[str]:
    return [sentence for told in account.changes for sentence in told.words]


def chain(a: int = 1, b: int = 1, c: int = 1) -> Plan:
    return null_plan(null_step("r/a", x=a), null_step("r/b", {"in": "r/a"}, x=b), null_step("r/c", {"in": "r/b"}, x=c))


def test_what_was_never_built_would_run(tmp_path: Path) -> None:
    found = explained(tmp_path, chain())
    assert (found["r/a"].last.status, found["r/a"].next.status) == ("never", "run")
    assert found["r/a"].next.verdict == "would run, not built before"
    assert found["r/c"].next.verdict == "known when r/b has run"


def test_after_a_first_run_all_ran_and_nothing_would(tmp_path: Path) -> None:
    run(tmp_path, chain())
    for one in explained(tmp_path, chain()).values():
        assert (one.last.verdict, one.next.verdict) == (
            "ran, not built before",
            "cached, none of its key inputs changed",
        )


def test_before_a_run_the_changed_input_is_named_and_what_waits_for_it(tmp_path: Path) -> None:
    run(tmp_path, chain())
    found = explained(tmp_path, chain(b=2, c=3))
    assert found["r/a"].next.status == "cached"
    assert (found["r/b"].next.status, words(found["r/b"].next)) == ("run", ["x 1 -> 2"])
    assert found["r/c"].next.verdict == "known when r/b has run; changed already"
    assert words(found["r/c"].next) == ["x 1 -> 3"]


def test_after_a_run_what_ran_is_told_from_what_was_cached(tmp_path: Path) -> None:
    run(tmp_path, chain())
    run(tmp_path, chain(b=2))
    found = explained(tmp_path, chain(b=2))
    assert found["r/a"].last.verdict == "cached, none of its key inputs had changed since it was first built"
    assert (found["r/b"].last.status, words(found["r/b"].last)) == ("ran", ["x 1 -> 2"])
    assert found["r/c"].last.status == "ran" and words(found["r/c"].last)[0].startswith("null.json: ")


def test_switching_back_and_forth_is_told_exactly(tmp_path: Path) -> None:
    run(tmp_path, chain())
    run(tmp_path, chain(b=2))
    for value, other in ((1, 2), (2, 1), (1, 2)):
        ahead = explained(tmp_path, chain(b=value))["r/b"].next
        assert (ahead.status, words(ahead)) == ("cached", [f"x {other} -> {value}"])
        assert ahead.verdict == "cached, since it was built before under these changes"
        run(tmp_path, chain(b=value))
        found = explained(tmp_path, chain(b=value))
        assert found["r/b"].last.verdict == "cached, since it had been built before under these changes"
        assert words(found["r/b"].last) == [f"x {other} -> {value}"]
        assert found["r/a"].last.status == found["r/c"].last.status == "cached"
        assert found["r/b"].next.verdict == "cached, none of its key inputs changed"


def test_a_run_with_nothing_to_do_leaves_what_is_told(tmp_path: Path) -> None:
    run(tmp_path, chain())
    run(tmp_path, chain(b=2))
    before = explained(tmp_path, chain(b=2))
    run(tmp_path, chain(b=2))
    assert explained(tmp_path, chain(b=2)) == before


def test_of_a_step_that_only_ran_earlier_the_last_change_is_told(tmp_path: Path) -> None:
    for plan in (chain(), chain(a=2), chain(a=2, c=2)):
        run(tmp_path, plan)
    found = explained(tmp_path, chain(a=2, c=2))
    assert (
        found["r/a"].last.verdict == "cached, none of its key inputs had changed; when they last had, it was in these"
    )
    assert words(found["r/a"].last) == ["x 1 -> 2"]
    assert words(found["r/c"].last) == ["x 1 -> 2"]


def test_force_is_the_reason_where_nothing_changed_and_beside_what_changed(tmp_path: Path) -> None:
    run(tmp_path, chain())
    run(tmp_path, chain(), force=True)
    assert explained(tmp_path, chain())["r/a"].last.verdict == "ran, --force"
    run(tmp_path, chain(a=2), force=True)
    last = explained(tmp_path, chain(a=2))["r/a"].last
    assert last.verdict == "ran, since --force, and these key inputs had changed" and words(last) == ["x 1 -> 2"]


def test_what_failed_and_what_was_skipped_for_it_are_told(tmp_path: Path) -> None:
    run(tmp_path, chain())
    fate = {"error": {"error": "Too warm", "facts": [], "hint": ""}}
    run(tmp_path, chain(b=2), lambda step: fate if step == "r/b" else None)
    found = explained(tmp_path, chain(b=2))
    assert found["r/a"].last.status == "cached"
    assert found["r/b"].last.verdict == "failed: Too warm"
    assert found["r/c"].last.verdict == "skipped, since r/b failed or was skipped"
    assert words(found["r/b"].next) == ["x 1 -> 2"]
    run(tmp_path, chain(b=2))
    assert explained(tmp_path, chain(b=2))["r/b"].last.status == "ran"


def test_a_failure_is_forgotten_with_the_change_that_led_to_it(tmp_path: Path) -> None:
    run(tmp_path, chain())
    run(
        tmp_path,
        chain(b=2),
        lambda step: {"error": {"error": "No", "facts": [], "hint": ""}} if step == "r/b" else None,
    )
    run(tmp_path, chain())
    assert explained(tmp_path, chain())["r/b"].last.status != "failed"


def test_an_output_that_is_gone_is_the_reason(tmp_path: Path) -> None:
    run(tmp_path, chain())
    for blob in (tmp_path / "cache" / "blobs-v1").glob("*/*"):
        blob.unlink()
    found = explained(tmp_path, chain())["r/a"].next
    assert found.verdict == "would run, its output is not in the cache any more" and not found.changes


def test_json_keeps_paths_and_values_beside_the_words(tmp_path: Path) -> None:
    run(tmp_path, chain())
    told = explained(tmp_path, chain(a=2))["r/a"].to_json()
    assert told == {
        "id": "r/a",
        "action": "run",
        "verdict": "would run, since these key inputs changed",
        "changes": [{"path": "settings.x", "kind": "changed", "before": 1, "after": 2, "words": ["x 1 -> 2"]}],
        "last": {"status": "ran", "verdict": "ran, not built before", "changes": []},
    }
