"""The record of reads asked again: what is the same, what differs, and which paths tell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from trtbuild.digest import digest_bytes
from trtbuild.reads import PACKAGE, TOP, found, listing, parts_of, present, python_path, state, watched_paths
from trtbuild.signs import Digests


def seen(**parts: Any) -> dict[str, Any]:
    return {"reads": {}, "distributions": {}, **parts}


def test_parts_that_are_empty_are_left_out_and_the_rest_is_no_part() -> None:
    full = seen(reads={"m.py": "d"}, exists={}, modules={}, listings={"data": "d"}, by="kernel", asked={})
    assert parts_of(full) == {"reads": {"m.py": "d"}, "listings": {"data": "d"}, "distributions": {}}
    assert parts_of({"settings": {}}) == {}


def test_what_is_there_now_is_told_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("1")
    (tmp_path / "data").mkdir()
    (tmp_path / "helper.py").touch()
    old = seen(
        reads={"m.py": None, "gone.py": "d"},
        exists={"data": None, "gone": "file"},
        listings={"data": None, "gone": "d"},
        modules={TOP: {"in": ["."], "found": {}}},
        distributions={"pytest": None, "not-there": "1"},
        asked={TOP: "helper other"},
    )
    now = present(old, tmp_path, Digests())
    assert now["reads"] == {"m.py": digest_bytes(b"1"), "gone.py": None}
    assert now["exists"] == {"data": "folder", "gone": None}
    assert now["listings"] == {"data": digest_bytes(b""), "gone": None}
    assert now["modules"] == {TOP: {"in": ["."], "found": {"helper": ["helper.py"]}}}
    assert now["distributions"] == {"pytest": pytest.__version__, "not-there": None}
    assert present({**now, "asked": old["asked"]}, tmp_path, Digests()) == now


def test_a_mere_record_keeps_its_modules(tmp_path: Path) -> None:
    record = seen(modules={TOP: {"in": ["."], "found": {"helper": ["helper.py"]}}})
    assert present(record, tmp_path, Digests())["modules"] == record["modules"]


def test_a_state_tells_where_a_link_points(tmp_path: Path) -> None:
    for name, target in (("file", "m"), ("folder", "data"), ("nothing", "absent")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "m").touch()
    (tmp_path / "data").mkdir()
    names = ("m", "data", "absent", "file", "folder", "nothing")
    assert [state(str(tmp_path / name)) for name in names] == [
        *("file", "folder", None),
        *("link to m, a file", "link to data, a folder", "link to absent, nothing"),
    ]
    assert state("/dev/null") == "device"


def test_a_listing_is_of_names_and_not_of_bytecode_or_what_trtbuild_makes(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    empty = listing(str(tmp_path), ".")
    for own in ("__pycache__", "cache", "dist"):
        (tmp_path / own).mkdir()
    (tmp_path / "b").write_text("content")
    assert listing(str(tmp_path), ".") == empty
    (tmp_path / "a").touch()
    assert listing(str(tmp_path), ".") == digest_bytes(b"a\0b") != empty


def test_modules_are_found_as_python_finds_them(tmp_path: Path) -> None:
    for name in ("package/__init__.py", "both/__init__.py", "both.py", "beside/data", "beside.py", "bare/data", "m.py"):
        (tmp_path / "one" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "one" / name).touch()
    (tmp_path / "two").mkdir()
    (tmp_path / "two/m.py").touch()
    names = ["package", "both", "beside", "bare", "m", "absent"]
    assert found(str(tmp_path), "package", ["one", "two", "three"], names) == {
        "package": ["one/package/__init__.py"],
        "both": ["one/both/__init__.py"],
        "beside": ["one/beside.py", "one/beside/"],
        "bare": ["one/bare/"],
        "m": ["one/m.py", "two/m.py"],
    }


def test_modules_are_looked_for_in_the_pythonpath_of_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs/helper.py").touch()
    (tmp_path / "site/x-1.dist-info").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([PACKAGE, str(tmp_path / "libs"), str(tmp_path / "site")]))
    assert python_path() == (str(tmp_path / "libs"),)
    assert found(str(tmp_path), TOP, [], ["helper"]) == {"helper": ["libs/helper.py"]}
    assert found(str(tmp_path), "package", [], ["helper"]) == {}


def test_watched_paths_are_those_that_a_change_must_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/libs")
    modules = {
        TOP: {"in": ["models"], "found": {"net": ["models/net.py"], "pkg": ["models/pkg/__init__.py"]}},
        "pkg": {"in": ["models/pkg"], "found": {"bare": ["models/pkg/bare/"]}},
    }
    record = seen(reads={"m.py": None}, exists={"flag": None}, listings={"data": "d"}, modules=modules)
    assert watched_paths(record) == ["/libs", "data", "flag", "m.py", "models", "models/pkg", "models/pkg/bare"]
