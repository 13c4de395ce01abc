"""The plan as a graph: order, longest path, and what is wrong with it said so that it can be found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import null_step
from trtbuild.errors import UsageError
from trtbuild.graph import graph_from_steps, ordered
from trtbuild.plans import Plan, Step


@st.composite
def plans(draw: st.DrawFn) -> list[Step]:
    """Steps of a random acyclic graph whose names say nothing of their order."""
    names = draw(st.lists(st.text("abcxyz/", min_size=1, max_size=4), unique=True, max_size=8))
    steps = []
    for index, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:index]), max_size=3)) if index else []
        steps.append(null_step(name, {f"slot{at}": need for at, need in enumerate(needs)}))
    return steps


@given(plans(), st.randoms())
@settings(deadline=None)
def test_every_step_comes_after_its_needs_whatever_the_order_they_are_given_in(
    steps: list[Step], random: object
) -> None:
    shuffled = list(steps)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = ordered(shuffled)
    assert found == ordered(steps)
    assert {step.id for step in found} == {step.id for step in steps} and len(found) == len(steps)
    place = {step.id: index for index, step in enumerate(found)}
    assert all(place[need] < place[step.id] for step in steps for need in step.needs.values())


@given(plans(), st.data())
@settings(deadline=None)
def test_the_longest_path_is_a_steps_own_time_and_the_longest_that_follows(
    steps: list[Step], data: st.DataObject
) -> None:
    seconds = {step.id: data.draw(st.integers(0, 9)) for step in steps if data.draw(st.booleans())}
    length = Plan(ordered(steps), ()).lengths(seconds)
    for step in steps:
        after = [length[user.id] for user in steps if step.id in user.needs.values()]
        assert length[step.id] == seconds.get(step.id, 1.0) + max(after, default=0)


def test_nodes_hold_their_step_and_edges_their_slot() -> None:
    trace, compiled = null_step("r/trace"), null_step("r/compile", {"program": "r/trace", "also": "r/trace"})
    graph = graph_from_steps([compiled, trace])
    assert graph.nodes["r/trace"]["step"] is trace
    assert list(graph.edges(data="slot")) == [("r/trace", "r/compile", "also, program")]


def test_a_missing_need_is_named_with_the_nearest_there_is() -> None:
    with pytest.raises(UsageError) as caught:
        graph_from_steps([null_step("r/trace"), null_step("r/compile", {"program": "r/trcae"})])
    assert caught.value.render() == (
        "error: `r/compile` needs a stage that does not exist\n"
        "  slot     program\n"
        "  missing  r/trcae\n"
        "hint: Did you mean `r/trace`?"
    )


@pytest.mark.parametrize("turn", range(3))
def test_a_cycle_is_drawn_as_its_path(turn: int) -> None:
    steps = [
        null_step("r/a", {"in": "r/c"}),
        null_step("r/b", {"in": "r/a"}),
        null_step("r/c", {"in": "r/b"}),
        null_step("r/0"),
    ]
    with pytest.raises(UsageError) as caught:
        ordered([*steps[turn:], *steps[:turn]])
    assert caught.value.render() == (
        "error: Stages need each other in a circle\n  cycle  r/a\n         -> r/b\n         -> r/c\n         -> r/a"
    )


def test_a_step_that_needs_itself_is_a_cycle() -> None:
    with pytest.raises(UsageError, match="circle") as caught:
        graph_from_steps([null_step("r/a", {"in": "r/a"})])
    assert caught.value.facts == [("cycle", "r/a\n-> r/a")]


def test_two_steps_of_one_id_are_an_error() -> None:
    with pytest.raises(UsageError, match="`r/a`"):
        graph_from_steps([null_step("r/a", x=1), null_step("r/a", x=2)])
