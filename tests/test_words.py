"""Changes of key inputs in words: each has a sentence, and no sentence says that a thing became itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtbuild.changes import changes
from trtbuild.words import Side, Teller

A, B = "a" * 64, "b" * 64
TELLER = Teller({"w": "weights/net.safetensors"}, lambda digest: None)


def sentences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [sentence for told in TELLER.told(Side(before), Side(after)) for sentence in told.words]


def inputs(*specs: dict[str, Any]) -> dict[str, Any]:
    return {"settings": {"inputs": list(specs)}}


X, Y = {"name": "x", "dtype": "float32", "shape": ["batch", 3]}, {"name": "y", "dtype": "int64", "shape": [2]}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"settings": {"dims": {"b": {"opt": 8}}}}, {"settings": {"dims": {"b": {"opt": 16}}}}, "dims.b.opt 8 -> 16"),
        ({"settings": {"options": {}}}, {"settings": {"options": {"workspace": 1}}}, "compile.workspace added 1"),
        (inputs(X), inputs({**X, "name": "z"}), "inputs.x renamed z"),
        (inputs(X, Y), inputs(X, {**Y, "dtype": "int32"}), "inputs.y.dtype int64 -> int32"),
        (inputs(X), inputs({**X, "shape": ["batch", 4]}), "inputs.x.shape[1] 3 -> 4"),
        (inputs(X), inputs(X, Y), "inputs.y added"),
        (inputs(X, Y), inputs(Y), "inputs.x removed"),
        (inputs(X), inputs({**X, "range": [0.0, 1.0]}), "inputs.x.range added [0.0, 1.0]"),
        ({"toolchain": {"torch": "2.14.1"}}, {"toolchain": {"torch": "2.15.0"}}, "torch 2.14.1 -> 2.15.0"),
        ({"toolchain": {"onnx": None}}, {"toolchain": {"onnx": "1.18"}}, "onnx not installed -> 1.18"),
        ({"distributions": {"timm": "1.0"}}, {"distributions": {"timm": "1.1"}}, "timm 1.0 -> 1.1"),
        ({"distributions": {"timm": "1.0"}}, {"distributions": {"timm": None}}, "timm 1.0 -> not installed"),
        ({"distributions": {}}, {"distributions": {"timm": "1.0"}}, "timm 1.0, asked for now"),
        ({"distributions": {"timm": "1.0"}}, {"distributions": {}}, "timm not asked for any more"),
        ({"reads": {"m.py": A}}, {"reads": {"m.py": B}}, "m.py: content aaaaaaaaaaaa -> bbbbbbbbbbbb"),
        ({"reads": {"m.py": A}}, {"reads": {"m.py": None}}, "m.py vanished"),
        ({"reads": {"m.py": None}}, {"reads": {"m.py": A}}, "m.py appeared"),
        ({"reads": {}}, {"reads": {"m.py": A}}, "m.py is read now"),
        ({"reads": {}}, {"reads": {"m.py": None}}, "m.py is read now but absent"),
        ({"reads": {"m.py": A}}, {"reads": {}}, "m.py is not read any more"),
        ({"files": {"w": A}}, {"files": {"w": B}}, "weights/net.safetensors: content aaaaaaaaaaaa -> bbbbbbbbbbbb"),
        ({"files": {}}, {"files": {"w": B}}, "weights/net.safetensors is given now"),
        ({"exists": {"a": None}}, {"exists": {"a": "file"}}, "a appeared"),
        ({"exists": {"a": "file"}}, {"exists": {"a": None}}, "a vanished"),
        ({"exists": {"a": "file"}}, {"exists": {"a": "folder"}}, "a file -> folder"),
        ({"exists": {}}, {"exists": {"a": None}}, "a is asked for now"),
        ({"listings": {"data": A}}, {"listings": {"data": None}}, "data/ vanished"),
        ({"listings": {"data": A}}, {"listings": {"data": B}}, "data/: its names aaaaaaaaaaaa -> bbbbbbbbbbbb"),
        (
            {"modules": {"sys.path": {"found": {"nets": ["b/nets.py"]}}}},
            {"modules": {"sys.path": {"found": {"nets": ["a/nets.py", "b/nets.py"]}}}},
            "import nets: b/nets.py -> a/nets.py",
        ),
        (
            {"modules": {"sys.path": {"found": {}}}},
            {"modules": {"sys.path": {"found": {"nets": ["a/nets.py"]}}}},
            "import nets: found now, a/nets.py",
        ),
        ({"code": A}, {"code": B}, "trtbuild's own code of this stage aaaaaaaaaaaa -> bbbbbbbbbbbb"),
        (
            {"inputs": {"program": {"program.pt2": f"program-1:{A}"}}},
            {"inputs": {"program": {"program.pt2": f"program-1:{B}"}}},
            "program.pt2 aaaaaaaaaaaa -> bbbbbbbbbbbb",
        ),
    ],
)  # fmt: skip
def test_a_change_reads(before: dict[str, Any], after: dict[str, Any], said: str) -> None:
    assert sentences(before, after) == [said]


def test_insides_are_told_where_they_are_known_on_both_sides() -> None:
    def side(digest: str, value: str) -> Side:
        inside = {"rule": "data 1", "parts": {"name.of.key": value}}
        return Side({"reads": {"cfg.json": digest}}, lambda way: inside if way == ("reads", "cfg.json") else None)

    (told,) = TELLER.told(side(A, "1"), side(B, "2"))
    assert told.words == ("cfg.json: name.of.key 1 -> 2",)
    assert told.to_json() == {
        "path": 'reads["cfg.json"]',
        "kind": "changed",
        "before": A,
        "after": B,
        "words": ["cfg.json: name.of.key 1 -> 2"],
    }
    (told,) = TELLER.told(Side({"reads": {"cfg.json": A}}), side(B, "2"))
    assert told.words == ("cfg.json: content aaaaaaaaaaaa -> bbbbbbbbbbbb",)


def test_an_input_that_is_json_is_told_by_its_values(tmp_path: Path) -> None:
    blobs = {f"raw:{A}": tmp_path / "one", f"raw:{B}": tmp_path / "other"}
    blobs[f"raw:{A}"].write_text('{"engines": [{"name": "a"}], "n": 1}')
    blobs[f"raw:{B}"].write_text('{"engines": [{"name": "b"}], "n": 2}')
    before, after = ({"inputs": {"compiled": {"report.json": digest}}} for digest in blobs)
    (told,) = Teller({}, lambda digest: blobs[digest].open("rb")).told(Side(before), Side(after))
    assert told.words == ("report.json: engines[0].name a -> b", "report.json: n 1 -> 2")


def test_the_short_form_is_the_first_sentence_and_the_number_of_others() -> None:
    before = {"settings": {"a": 1, "b": 1}, "toolchain": {"torch": "1"}}
    after = {"settings": {"a": 2, "b": 2}, "toolchain": {"torch": "2"}}
    assert TELLER.first(Side(before), Side(after)) == "a 1 -> 2 and 2 more"
    assert TELLER.first(Side(before), Side(before)) == ""


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, -0.0, 0.5, A, B, "x" * 90, "sha256:" + A])
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
names = st.sampled_from(["a", "m.py", "weights", "torch", "found", "name", "inputs", "options", "0"])
shaped = st.dictionaries(names, st.dictionaries(names, st.dictionaries(names, values, max_size=2) | values) | values)
lists = st.lists(st.dictionaries(st.sampled_from(["name", "dtype"]), values, max_size=2) | values, max_size=3)
records = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ["reads", "files", "exists", "listings", "modules", "inputs", "code", "schema"], shaped | values
        ),
        **dict.fromkeys(["toolchain", "distributions"], st.dictionaries(names, values) | values),
        "settings": st.dictionaries(names, values | lists | shaped) | values,
    },
)


@given(records, records)
@settings(deadline=None, max_examples=150)
def test_every_change_of_any_record_has_sentences_that_say_something(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    told = TELLER.told(Side(before), Side(after))
    assert [one.change for one in told] == changes(before, after)
    for one in told:
        assert one.words and all(sentence.strip() for sentence in one.words)


@given(records, records)
@settings(deadline=None)
def test_the_short_form_is_empty_only_where_nothing_changed(before: dict[str, Any], after: dict[str, Any]) -> None:
    first = TELLER.first(Side(before), Side(after))
    assert (first == "") == (changes(before, after) == [])
    if first:
        assert first.startswith(sentences(before, after)[0])


@given(st.sampled_from(["reads", "files", "toolchain", "distributions", "exists", "settings"]), names, values, values)
@settings(deadline=None, max_examples=150)
def test_no_sentence_shows_equal_sides(part: str, name: str, old: Any, new: Any) -> None:
    for sentence in sentences({part: {name: old}}, {part: {name: new}}):
        before, arrow, after = sentence.rpartition(" -> ")
        assert not arrow or not (before.endswith(f" {after}") or before == after)
