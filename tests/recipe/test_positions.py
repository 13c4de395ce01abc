"""positions: every path of a parsed text has its line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from trtbuild.recipe.positions import line_of, positions

KEYS = st.sampled_from(["a", "b-c", "d_1", "9", "with space", "dot.ted", 'quo"te', "ünï", "tab\t", "#", ""])
SCALARS = st.sampled_from(
    [
        "1",
        "-2.5e3",
        "true",
        "inf",
        "1979-05-27 07:32:00",
        "07:32:00",
        '"s"',
        "'l'",
        '""',
        "''",
        '"# [no] \\" = {"',
        "'a]'",
        '"""m\n[not.a.table]\nk = 1"""',
        "'''\n# no comment\n\"\"\"x'''",
        '"""two quotes\\\n  ""\n"""""',
        "''''q'\n'''",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.tuples(st.just("array"), st.lists(inner, max_size=3), st.booleans())
        | st.tuples(st.just("inline"), st.dictionaries(KEYS, inner, max_size=3))
    ),
    max_leaves=6,
)
TABLES = st.recursive(
    st.fixed_dictionaries({"pairs": st.dictionaries(KEYS, VALUES, max_size=3), "tables": st.just([])}),
    lambda inner: st.fixed_dictionaries(
        {
            "pairs": st.dictionaries(KEYS, VALUES, max_size=3),
            "tables": st.lists(
                st.tuples(st.sampled_from(["table", "dotted", "array"]), KEYS, st.lists(inner, min_size=1, max_size=3)),
                max_size=3,
                unique_by=lambda table: table[1],
            ),
        }
    ),
    max_leaves=5,
)


class Writer:
    """Writes a drawn document and notes at which line it put what."""

    def __init__(self, filler: Iterator[str]) -> None:
        self.text = ""
        self.lines: dict[tuple[str | int, ...], int] = {}
        self.filler = filler

    def note(self, path: tuple[str | int, ...]) -> None:
        self.lines[path] = self.text.count("\n") + 1

    def table(self, path: tuple[str | int, ...], names: tuple[str, ...], table: dict[str, Any]) -> None:
        taken = {key for _, key, _ in table["tables"]}
        for key, value in table["pairs"].items():
            if key not in taken:
                self.text += next(self.filler)
                self.pair((*path, key), key, value)
                self.text += "\n"
        for style, key, entries in table["tables"]:
            if style == "dotted":
                for inner, value in entries[0]["pairs"].items():
                    self.text += next(self.filler)
                    self.lines.setdefault((*path, key), self.text.count("\n") + 1)
                    self.text += f"{spelled(key)} . "
                    self.pair((*path, key, inner), inner, value)
                    self.text += "\n"
        for style, key, entries in table["tables"]:
            if style != "dotted":
                self.headed((*path, key), (*names, key), style, entries)

    def headed(self, path: tuple[str | int, ...], names: tuple[str, ...], style: str, entries: list[Any]) -> None:
        header = ".".join(map(spelled, names))
        for index, entry in enumerate(entries if style == "array" else entries[:1]):
            self.text += next(self.filler)
            self.lines.setdefault(path, self.text.count("\n") + 1)
            inside = (*path, index) if style == "array" else path
            self.note(inside)
            self.text += f"[[ {header} ]] # [x]\n" if style == "array" else f"[{header}]\n"
            self.table(inside, names, entry)

    def pair(self, path: tuple[str | int, ...], key: str, value: Any) -> None:
        self.note(path)
        self.text += f"{spelled(key)} = "
        self.value(path, value)

    def value(self, path: tuple[str | int, ...], value: Any) -> None:
        if isinstance(value, str):
            self.text += value
        elif value[0] == "array":
            gap = "\n# , ] [\n" if value[2] else " "
            self.text += "["
            for index, item in enumerate(value[1]):
                self.text += gap
                self.note((*path, index))
                self.value((*path, index), item)
                self.text += gap + ","
            self.text += gap + "]"
        else:
            self.text += "{"
            for index, (key, item) in enumerate(value[1].items()):
                self.text += ", " if index else " "
                self.pair((*path, key), key, item)
            self.text += " }"


def spelled(key: str) -> str:
    if key in ("a", "b-c", "d_1", "9"):
        return key
    return "'" + key + "'" if key == 'quo"te' else '"' + key.replace("\t", "\\t").replace("ü", "\\u00fc") + '"'


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


def forever(fillers: list[str]) -> Iterator[str]:
    while True:
        yield from fillers


@settings(max_examples=400, deadline=None)
@given(
    TABLES,
    st.lists(st.sampled_from(["", "\n", "# [c]\n", "  \t\n", '# """\n\n', "  "]), min_size=1, max_size=4),
    st.booleans(),
)
def test_every_path_that_tomllib_finds_has_its_line(
    document: dict[str, Any], fillers: list[str], windows: bool
) -> None:
    writer = Writer(forever(fillers))
    writer.table((), (), document)
    text = writer.text.replace("\n", "\r\n") if windows else writer.text
    found = positions(text)
    assert set(found) == set(paths(tomllib.loads(text)))
    assert found == writer.lines


def test_arrays_of_tables_and_what_is_in_them_have_lines() -> None:
    text = "[[a]]\nx = 1\n[a.b]\ny = 1\n[[a]]\n[[a.c]]\nz = [\n 1,\n\n 2]\n"
    assert positions(text) == {
        ("a",): 1, ("a", 0): 1, ("a", 0, "x"): 2, ("a", 0, "b"): 3, ("a", 0, "b", "y"): 4,
        ("a", 1): 5, ("a", 1, "c"): 6, ("a", 1, "c", 0): 6, ("a", 1, "c", 0, "z"): 7,
        ("a", 1, "c", 0, "z", 0): 8, ("a", 1, "c", 0, "z", 1): 10,
    }  # fmt: skip


def test_a_table_stands_at_its_own_header_even_after_its_sub_tables() -> None:
    assert positions("[a.b]\n\n[a]\nc.d = 1\n") == {("a", "b"): 1, ("a",): 3, ("a", "c"): 4, ("a", "c", "d"): 4}


def test_a_path_without_a_line_has_that_of_the_table_around_it() -> None:
    lines = positions("\n[dims.batch]\nmin = 1\n")
    assert line_of(("dims", "batch", "max"), lines) == 2
    assert line_of(("model",), lines) == 1
