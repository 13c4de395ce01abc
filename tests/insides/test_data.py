"""Which values of a data file changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trtbuild.insides import Insides, compared, insides_of, names_inside


def inside(path: Path, value: Any) -> Insides:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    found = insides_of(path)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"name": {"of": {"key": 1}}}, {"name": {"of": {"key": 2}}}, ["name.of.key 1 -> 2"]),
        ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "y"}]}, ['a[1].b "x" -> "y"']),
        ({"a": 1}, {"a": 1, "b": True}, ["b added, true"]),
        ({"a": 1, "b": {}}, {"a": 1}, ["b removed"]),
        ({"a": "x" * 99}, {"a": "y" * 99}, ["a, a long value"]),
        ('{"a": 1}', '{"a":  1}', ["only layout"]),
        (3, 4, ["the value 3 -> 4"]),
        ({str(at): 0 for at in range(8)}, {str(at): 1 for at in range(8)}, None),
    ],
)
def test_the_value_that_changed_is_named(tmp_path: Path, before: Any, after: Any, said: list[str] | None) -> None:
    found = compared(inside(tmp_path / "c.json", before), inside(tmp_path / "c.json", after))
    assert found == (
        said or ['["0"] 0 -> 1', '["1"] 0 -> 1', '["2"] 0 -> 1', '["3"] 0 -> 1', '["4"] 0 -> 1', "3 more values"]
    )


def test_toml_is_read_too(tmp_path: Path) -> None:
    before = inside(tmp_path / "c.toml", "[head]\nclasses = 10\nsince = 2020-01-01\n")
    after = inside(tmp_path / "c.toml", "[head]\nclasses = 12\nsince = 2020-01-02\n")
    assert compared(before, after) == ["head.classes 10 -> 12", 'head.since "2020-01-01" -> "2020-01-02"']


def test_of_many_values_the_upper_levels_are_noted(tmp_path: Path) -> None:
    def large(last: int) -> dict[str, Any]:
        return {"vocab": list(range(5000)), "merges": {str(at): at for at in range(600)}, "last": {"of": {"all": last}}}

    before, after = (inside(tmp_path / "c.json", large(last)) for last in (1, 2))
    assert len(before["parts"]) < 10
    assert compared(before, after) == ['last {"of": {"all": 1}} -> {"of": {"all": 2}}']


def test_what_is_no_such_file_has_no_insides(tmp_path: Path) -> None:
    for name, text in (("c.json", "{"), ("c.toml", "a ="), ("c.yaml", "a: 1"), ("c.json", "[" * 100_000)):
        (tmp_path / name).write_text(text)
        assert insides_of(tmp_path / name) is None
    assert insides_of(tmp_path / "absent.json") is None
    (tmp_path / "large.json").write_text(json.dumps({str(at): at for at in range(600)}))
    assert insides_of(tmp_path / "large.json") is None


def test_names_of_a_folder() -> None:
    assert compared(names_inside(["a", "b"]), names_inside(["b", "c", "d"])) == ["c, d appeared", "a vanished"]
    assert names_inside(map(str, range(1000))) is None


@pytest.mark.parametrize(
    "damaged",
    [None, {}, {"rule": "data 1"}, {"rule": "data 1", "parts": 3}, {"rule": "data 1", "parts": {"a": 3}}, {"rule": 1}],
)
def test_a_damaged_note_says_nothing(damaged: Any) -> None:
    good = {"rule": "data 1", "parts": {"a": "1"}}
    assert compared(damaged, good) in ([], ["a 3 -> 1"])
    assert compared(good, damaged) == [] or damaged == {"rule": "data 1", "parts": {"a": 3}}
