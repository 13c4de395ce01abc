"""The difference of two records: complete, unambiguous, readable."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtbuild.changes import Change, changes
from trtbuild.digest import canonical

names = st.sampled_from(["a", "b", "a.b", "models/x.py", "", "0", 'quote"', "é", "tensorrt-rtx", "[0]", "b c"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 1.0, 0.5]) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
records = st.dictionaries(names, values, max_size=4)

PART = re.compile(r'\["(?P<quoted>(?:[^"\\]|\\.)*)"\]|\[(?P<index>\d+)\]|\.?(?P<plain>[A-Za-z_][A-Za-z0-9_-]*)')


def parts(path: str) -> list[str | int]:
    """A path taken apart again; possible only because each path has one reading."""
    found: list[str | int] = []
    at = 0
    while at < len(path):
        match = PART.match(path, at)
        assert match, path
        if match["index"] is not None:
            found.append(int(match["index"]))
        elif match["quoted"] is not None:
            found.append(json.loads(f'"{match["quoted"]}"'))
        else:
            found.append(match["plain"])
        at = match.end()
    return found


def applied(before: Mapping[str, Any], found: list[Change]) -> Any:
    """`before` with every change made."""
    result = json.loads(json.dumps(before))
    for change in found:
        *way, last = parts(change.path)
        place = result
        for part in way:
            place = place[part]
        if change.kind == "removed":
            del place[last]
        else:
            place[last] = change.after
    return result


@given(records, records)
@settings(deadline=None)
def test_applying_the_changes_gives_the_other_record(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert canonical(applied(before, changes(before, after))) == canonical(after)


@given(records, records)
@settings(deadline=None)
def test_no_changes_if_and_only_if_the_canonical_texts_are_equal(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert (changes(before, after) == []) == (canonical(before) == canonical(after))


@given(records, records)
@settings(deadline=None)
def test_no_path_is_told_twice_and_values_are_never_shown_alike(before: dict[str, Any], after: dict[str, Any]) -> None:
    found = changes(before, after)
    assert len({change.path for change in found}) == len(found)
    assert not [change for change in found if change.kind == "changed" and len(set(change.what().split(" -> "))) == 1]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"dims": {"batch": {"opt": 8}}}, {"dims": {"batch": {"opt": 16}}}, "dims.batch.opt 8 -> 16"),
        ({"files": {"m/x.py": "a" * 64}}, {"files": {"m/x.py": "b" * 64}}, f'files["m/x.py"] {"a" * 12} -> {"b" * 12}'),
        ({"x": f"sha256:{'a' * 64}"}, {"x": f"sha256:{'b' * 64}"}, f"x {'a' * 12} -> {'b' * 12}"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "a[1] 2 -> 3"),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, "a [1, 2] -> [1, 2, 3]"),
        ({}, {"seed": 0}, "seed added 0"),
        ({"seed": None}, {}, "seed removed, was null"),
        ({"a": 1}, {"a": True}, "a 1 -> true"),
        ({"a": "1"}, {"a": 1}, 'a "1" -> 1'),
        ({"a": {}}, {"a": []}, "a {} -> []"),
        (
            {"toolchain": {"tensorrt-rtx": "1.4"}},
            {"toolchain": {"tensorrt-rtx": None}},
            'toolchain.tensorrt-rtx "1.4" -> null',
        ),
        ({"a": {"0": 1}}, {"a": {"0": 2}}, 'a["0"] 1 -> 2'),
    ],
)
def test_a_change_reads(before: dict[str, Any], after: dict[str, Any], said: str) -> None:
    assert [str(change) for change in changes(before, after)] == [said]


def test_long_values_are_cut_where_they_part() -> None:
    (change,) = changes({"a": "x" * 100 + "old"}, {"a": "x" * 100 + "new"})
    assert str(change) == "a ...xxxxxxxxold -> ...xxxxxxxxnew"
    assert change.after == "x" * 100 + "new"


def test_changes_come_sorted_by_name() -> None:
    assert [change.path for change in changes({}, {"b": 1, "a": 1, "c": {"z": 1}})] == ["a", "b", "c"]
