"""Which part of a Python file changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtbuild.insides import compared, insides_of
from trtbuild.insides.python import parts_of

SOURCE = '''\
"""A model."""

import torch

SCALE = 2.0


class Net(torch.nn.Module):
    """A net."""

    width = 4

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, 4)

    def forward(self, x):
        y = self.head(x)
        return y * SCALE


def helper(x):
    def inner(y):
        return y + 1
    return inner(x)


@torch.no_grad()
def other(x):
    return x
'''

EDITS = [
    ("# a comment\n" + SOURCE, "only comments or layout"),
    (SOURCE.replace("y = self.head(x)", "y = (\n            self.head(x)\n        )"), "only comments or layout"),
    (SOURCE.replace("y * SCALE", "y * SCALE  # scaled"), "only comments or layout"),
    (SOURCE.replace('"""A net."""', '"""A neat net."""'), "docstrings"),
    (SOURCE.replace("y", "z"), None),
    (
        SOURCE.replace("y = self.head(x)\n        return y", "z = self.head(x)\n        return z"),
        "class Net, function forward",
    ),
    (SOURCE.replace("Linear(4, 4)", "Linear(4, 8)"), "class Net, function __init__"),
    (SOURCE.replace("width = 4", "width = 5"), "class Net"),
    (SOURCE.replace("SCALE = 2.0", "SCALE = 2.5"), "statements outside of functions and classes"),
    (SOURCE.replace("import torch\n", "import torch\nimport math\n"), "statements outside of functions and classes"),
    (SOURCE.replace("y + 1", "y + 2"), "function helper"),
    (SOURCE.replace("@torch.no_grad()\n", ""), "function other"),
    (SOURCE.replace("def other", "def another"), "function other renamed function another"),
    (SOURCE + "\n\ndef new():\n    pass\n", "function new added"),
    (SOURCE.replace("class Net(", "class Net(object, "), "class Net"),
]


@pytest.mark.parametrize(("edited", "said"), EDITS, ids=range(len(EDITS)))
def test_the_part_that_changed_is_named(tmp_path: Path, edited: str, said: str | None) -> None:
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    before = insides_of(path)
    path.write_text(edited)
    found = compared(before, insides_of(path))
    assert found == ([said] if said else found) and found


def test_a_moved_function_changes_the_order_only() -> None:
    head, other = SOURCE.split("@torch.no_grad()\n")
    moved = head.replace("def helper", "@torch.no_grad()\n" + other + "\n\ndef helper")
    before, after = ({"rule": insides_of_text(text)["rule"], **insides_of_text(text)} for text in (SOURCE, moved))
    assert compared(before, after) == ["only the order of its parts"]


def insides_of_text(text: str) -> dict[str, object]:
    from trtbuild.insides.python import RULE

    return {"rule": RULE, "parts": parts_of(text.encode())}


def test_a_class_that_goes_is_named_without_its_functions() -> None:
    without = SOURCE[: SOURCE.index("class Net")] + SOURCE[SOURCE.index("def helper") :]
    found = compared(insides_of_text(SOURCE), insides_of_text(without))
    assert "class Net removed" in found and not [text for text in found if "forward" in text]


def test_overloads_and_setters_of_one_name_are_one_part() -> None:
    source = "class A:\n    @property\n    def x(self): return 1\n    @x.setter\n    def x(self, v): {}\n"
    assert compared(insides_of_text(source.format("pass")), insides_of_text(source.format("self.y = v"))) == [
        "class A, function x"
    ]


def test_a_file_that_is_no_python_has_no_parts(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    for content in (b"def f(:", b"\0", b"\xff\xfe"):
        path.write_bytes(content)
        assert insides_of(path) is None


def test_parts_found_by_another_version_of_python_are_not_compared() -> None:
    before = {**insides_of_text(SOURCE), "rule": "python 1 3.8"}
    assert compared(before, insides_of_text(SOURCE.replace("y + 1", "y + 2"))) == []


names = st.sampled_from(["f", "g", "A", "B"])
statements = st.one_of(
    st.builds("def {}():\n    return {}\n".format, names, st.integers(0, 3)),
    st.builds(
        "class {}:\n    x = {}\n    def m(self): return {}\n".format, names, st.integers(0, 3), st.integers(0, 3)
    ),
    st.builds("{} = {}\n".format, names, st.integers(0, 3)),
)
sources = st.lists(statements, max_size=6).map("".join)


@given(sources, sources)
def test_sources_differ_in_a_part_or_in_order_unless_their_trees_are_equal(one: str, other: str) -> None:
    import ast

    found = compared(insides_of_text(one), insides_of_text(other))
    assert found
    if ast.dump(ast.parse(one)) == ast.dump(ast.parse(other)):
        assert found == ["only comments or layout"]
