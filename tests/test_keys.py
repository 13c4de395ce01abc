"""Keys: one text for one record, another key for any difference."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trtbuild.changes import changes
from trtbuild.digest import canonical, digest_value
from trtbuild.keys import key_inputs, key_of, with_reads
from trtbuild.plans import Step

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
records = st.dictionaries(st.text(max_size=5), values, max_size=5)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(records)
def test_the_order_in_which_a_record_was_written_does_not_change_its_key(record: dict[str, Any]) -> None:
    assert key_of(reordered(record)) == key_of(record)


@given(records, records)
def test_two_records_have_one_key_only_if_they_say_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (key_of(one) == key_of(other)) == (canonical(one) == canonical(other)) == (changes(one, other) == [])


@given(records)
def test_a_record_read_back_from_json_has_the_same_key(record: dict[str, Any]) -> None:
    assert key_of(json.loads(json.dumps(record))) == key_of(record)


def step(**settings: Any) -> Step:
    return Step("r/a", "null", settings, {}, {})


def test_neighbouring_inputs_cannot_run_together() -> None:
    one = key_inputs(step(), "c", (), {"a": "bc"}, {})
    assert key_of(one) != key_of(key_inputs(step(), "c", (), {"ab": "c"}, {}))
    assert key_of(one) != key_of(key_inputs(step(), "c", (), {}, {"a": "bc"}))


def test_the_key_changes_with_code_inputs_files_reads_and_distributions() -> None:
    base = key_inputs(step(x=1), "code", (), {"in": "m"}, {"weights": "w"})
    others = [
        key_inputs(step(x=2), "code", (), {"in": "m"}, {"weights": "w"}),
        key_inputs(step(x=1), "edoc", (), {"in": "m"}, {"weights": "w"}),
        key_inputs(step(x=1), "code", (), {"in": "n"}, {"weights": "w"}),
        key_inputs(step(x=1), "code", (), {"in": "m"}, {"weights": "v"}),
        key_inputs(step(x=1), "code", ("torch",), {"in": "m"}, {"weights": "w"}),
        with_reads(base, {"reads": {"m.py": "d"}, "distributions": {}}),
        with_reads(base, {"reads": {"m.py": None}, "distributions": {}}),
        with_reads(base, {"reads": {"m.py": "d"}, "distributions": {"torchvision": "1"}}),
    ]
    assert len({key_of(record) for record in [base, *others]}) == len(others) + 1


def test_the_step_s_place_in_the_graph_is_no_part_of_its_key() -> None:
    renamed = Step("other/a", "null", {"x": 1}, {}, {}, aliases=("r/b",))
    assert key_of(key_inputs(renamed, "c", (), {}, {})) == key_of(key_inputs(step(x=1), "c", (), {}, {}))


def test_known_digests_are_pinned() -> None:
    assert (
        digest_value({"b": [1, 2.5, None, True], "a": "é"})
        == "0b8cc543e984d4d7398f5f603a4b91d358a2565f1d6b6a058565d662854e37cf"
    )
    assert canonical({"b": [1, 2.5, None, True], "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5,null,true]}'
