from __future__ import annotations

import json
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from digest_samples import SaveProgram
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trtbuild.digests import archive as module
from trtbuild.digests.archive import ALIGNMENT, Archive, rewrite

WORDS = st.text("abcdefghijk_-.é0", min_size=1, max_size=12).filter(lambda word: word not in (".", ".."))
NAMES = st.lists(WORDS, min_size=1, max_size=3).map("/".join)
MEMBERS = st.dictionaries(NAMES, st.binary(max_size=200), min_size=1, max_size=6)


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as opened:
        warnings.simplefilter("ignore")
        for name, data in members.items():
            opened.writestr(name, data)
    return path


def contents(path: Path) -> dict[str, bytes]:
    with Archive(path) as opened:
        return {name: bytes(opened[name]) for name in opened.names}


@given(members=MEMBERS, root=WORDS, data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_rewrite_round_trips_any_archive(tmp_path: Path, members: dict[str, bytes], root: str, data: Any) -> None:
    source = write_zip(tmp_path / "a.zip", {f"{root}/{name}": value for name, value in members.items()})
    rewrite(source, tmp_path / "b.zip", {})
    assert contents(tmp_path / "b.zip") == members == contents(source)
    replaced = data.draw(st.dictionaries(st.sampled_from(sorted(members)), st.binary(max_size=99)))
    rewrite(tmp_path / "b.zip", tmp_path / "c.zip", replaced)
    assert contents(tmp_path / "c.zip") == {**members, **replaced}
    with zipfile.ZipFile(tmp_path / "c.zip") as opened:
        assert opened.testzip() is None
        assert opened.namelist() == [f"{root}/{name}" for name in members]


@pytest.mark.parametrize("limit", [0, 100, 150, 600])
def test_numbers_beyond_32_bits_go_into_zip64_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    members = {f"part{size}": bytes([size % 251]) * size for size in (0, 1, 99, 100, 101, 300)}
    source = write_zip(tmp_path / "a.zip", {f"r/{name}": value for name, value in members.items()})
    monkeypatch.setattr(module, "_ZIP64_FROM", limit)
    rewrite(source, tmp_path / "b.zip", {})
    assert contents(tmp_path / "b.zip") == members
    with zipfile.ZipFile(tmp_path / "b.zip") as opened:
        assert opened.testzip() is None
    assert_aligned(tmp_path / "b.zip")


def assert_aligned(path: Path) -> None:
    data = path.read_bytes()
    with zipfile.ZipFile(path) as opened:
        for info in opened.infolist():
            name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
            assert (info.header_offset + 30 + name + extra) % ALIGNMENT == 0
            assert info.date_time[:3] == (1980, 0, 0)


def test_an_archive_rewritten_with_nothing_replaced_is_the_same_file(save_program: SaveProgram, tmp_path: Path) -> None:
    source = save_program()
    rewrite(source, tmp_path / "copy.pt2", {})
    assert (tmp_path / "copy.pt2").read_bytes() == source.read_bytes()


def test_torch_loads_a_rewritten_program(save_program: SaveProgram, tmp_path: Path) -> None:
    import torch

    source, target = save_program(), tmp_path / "other.pt2"

    def doubled(data: bytes) -> bytes:
        model = json.loads(data)
        for node in model["graph_module"]["graph"]["nodes"]:
            for item in node["inputs"]:
                if item["arg"] == {"as_float": 2.0}:
                    item["arg"] = {"as_float": 4.0}
        return json.dumps(model, indent=3).encode()

    with Archive(source) as opened:
        bias = bytes(len(opened["data/weights/weight_1"]))
    rewrite(source, target, {"models/model.json": doubled, "data/weights/weight_1": bias})
    assert_aligned(target)
    old, new = torch.export.load(source), torch.export.load(target)
    changed = [name for name, value in old.state_dict.items() if not torch.equal(value, new.state_dict[name])]
    assert changed == ["first.bias"]
    assert "4.0" in new.graph_module.code
    assert new.module()(torch.ones(3, 4))["out"].shape == (3, 4)


def test_views_are_not_copies(save_program: SaveProgram) -> None:
    with Archive(save_program()) as opened:
        view = opened["data/weights/weight_0"]
        assert view.readonly
        assert isinstance(view.obj, module.mmap.mmap)
    with pytest.raises(ValueError, match="released"):
        len(view)


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "a.zip", {"r/a": b"1"})
    with Archive(source) as opened:
        assert "b" not in opened
        with pytest.raises(ValueError, match=r"a\.zip has no member b"):
            opened["b"]
    with pytest.raises(ValueError, match="has no member b to replace"):
        rewrite(source, tmp_path / "b.zip", {"b": b""})
    assert not (tmp_path / "b.zip").exists()


def test_a_failed_rewrite_leaves_no_target(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "a.zip", {"r/a": b"1", "r/b": b"2"})

    def fail(_: bytes) -> bytes:
        raise KeyError("x")

    with pytest.raises(KeyError):
        rewrite(source, tmp_path / "b.zip", {"b": fail})
    assert list(tmp_path.iterdir()) == [source]
    with pytest.raises(ValueError, match="in its own place"):
        rewrite(source, source, {})
    assert contents(source) == {"a": b"1", "b": b"2"}


def test_damage_is_found_when_rewriting(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "a.zip", {"r/a": b"payload"})
    source.write_bytes(source.read_bytes().replace(b"payload", b"pAyload"))
    with pytest.raises(ValueError, match="does not match its checksum"):
        rewrite(source, tmp_path / "b.zip", {})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["r/a", "r/a"], "twice"),
        (["r/../a"], "does not lie below"),
        (["r/./a"], "does not lie below"),
        (["r//a"], "does not lie below"),
        (["../a"], "does not lie below"),
        (["/a"], "does not lie below"),
        (["r/a", "q/a"], "does not lie below"),
        (["a"], "does not lie below"),
        (["r/a/"], "does not lie below"),
        (["r/a\\b"], "does not lie below"),
        ([], "empty archive"),
    ],
)
def test_hostile_names_are_refused(tmp_path: Path, names: list[str], words: str) -> None:
    path = tmp_path / "a.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as opened:
        warnings.simplefilter("ignore")
        for name in names:
            opened.writestr(name, b"x")
    with pytest.raises(ValueError, match=words):
        Archive(path)


def test_a_name_cut_by_nul_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"r/aXb": b"1"})
    path.write_bytes(path.read_bytes().replace(b"r/aXb", b"r/a\0b"))
    with pytest.raises(ValueError, match="read differently"):
        Archive(path)


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"r/a": b"1" * 100}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="compressed"):
        Archive(path)


def test_a_directory_that_disagrees_with_the_members_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"r/abc": b"1" * 100})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"r/abc", b"r/xyz", 1))
    with pytest.raises(ValueError, match="one thing about"):
        Archive(path)


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"r/aa": b"1" * 50, "r/bb": b"2" * 50})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    first = data.index(b"PK\x01\x02")
    # Both sizes of the first member reach over the second.
    struct.pack_into("<II", data, first + 20, 90, 90)
    assert second > first
    path.write_bytes(data)
    with pytest.raises(ValueError, match="overlap"):
        Archive(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip at all" * 20])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ValueError, match="no zip archive"):
        Archive(tmp_path / "a.zip")


def test_a_truncated_program_is_refused(save_program: SaveProgram, tmp_path: Path) -> None:
    data = save_program().read_bytes()
    path = tmp_path / "cut.pt2"
    for length in (1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.pt2"):
            Archive(path)
    # Cut in the middle with its directory kept: nothing lies where the directory says.
    path.write_bytes(data[:5000] + data[7000:])
    with pytest.raises(ValueError, match=r"cut\.pt2"):
        Archive(path)
