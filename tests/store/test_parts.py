"""Outputs in parts: what goes in comes out, equal tensors are stored once, and damage is found and told apart."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.things import LARGE, archive, bytes_of, files, noise, overwrite, put, put_archive, put_entry, put_file
from trtbuild.store import copying
from trtbuild.store.checked import write_checked
from trtbuild.store.local import LocalStore
from trtbuild.store.parts import list_to_json


def test_what_is_kept_in_parts_comes_back_whole(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    source = archive(tmp_path / "a.pt2", noise(LARGE), b"small", noise(3 * LARGE, 1))
    data = source.read_bytes()
    output = put_file(store, source)
    assert not source.exists() and not store.blob(output.digest).exists() and len(store.parts(output.digest) or ()) > 2
    again = LocalStore(tmp_path / "cache")
    assert again.has(output) and again.intact(output) and bytes_of(again, output) == data


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    archives=st.lists(
        st.lists(st.tuples(st.sampled_from([0, 3, LARGE - 1, LARGE, LARGE + 5]), st.integers(0, 3)), max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_round_trip_of_any_archives(
    tmp_path_factory: pytest.TempPathFactory, archives: list[list[tuple[int, int]]]
) -> None:
    root = tmp_path_factory.mktemp("parts")
    store = LocalStore(root / "cache")
    kept = []
    for index, tensors in enumerate(archives):
        source = archive(root / f"{index}.zip", *(noise(size, seed) for size, seed in tensors))
        data = source.read_bytes()
        kept.append((put_file(store, source), data))
    again = LocalStore(root / "cache")
    for output, data in kept:
        assert again.intact(output) and bytes_of(again, output) == data
    large = {noise(size, seed) for tensors in archives for size, seed in tensors if size >= LARGE}
    others = sum(LARGE for tensors in archives for size, _ in tensors if size == LARGE - 1)
    assert store.info()["bytes"] <= sum(map(len, large)) + others + 4000 * len(archives)


def test_a_checkpoint_with_one_other_layer_costs_that_layer(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    layers = [noise(4 * LARGE, seed) for seed in range(20)]
    put_archive(store, *layers)
    before = store.info()["bytes"]
    put_archive(store, *layers[:7], noise(4 * LARGE, 99), *layers[8:])
    assert 4 * LARGE < store.info()["bytes"] - before < 4 * LARGE + 8000


def test_an_output_that_is_a_part_of_another_is_stored_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    alone, within = put(store, noise(LARGE)), put_archive(store, noise(LARGE), noise(LARGE, 1))
    assert store.info()["bytes"] < 2 * LARGE + 2000
    assert bytes_of(store, alone) == noise(LARGE) and noise(LARGE) in (bytes_of(store, within) or b"")


def test_a_damaged_part_is_a_miss_of_all_that_hold_it_and_of_nothing_else(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    shared, own = noise(LARGE), noise(LARGE, 1)
    first, second, third = put_archive(store, shared), put_archive(store, shared, own), put_archive(store, own)
    part = next(path for path in files(store.root, "blobs-v1") if path.read_bytes() == shared)
    overwrite(part, noise(LARGE, 7))
    again = LocalStore(store.root)
    assert bytes_of(again, first) is None and not part.exists()
    assert not again.has(first) and not again.has(second) and bytes_of(again, third) is not None
    # What is built again brings the part back for all.
    assert put_archive(again, shared) == first
    assert again.intact(first) and again.intact(second)


@pytest.mark.parametrize("parts", [[], [["0" * 64, 5]], [["../../x", LARGE]], "x", [[3, 4, 5]], [["0" * 64, True]]])
def test_a_list_of_parts_of_another_shape_is_a_miss(tmp_path: Path, parts: Any) -> None:
    store = LocalStore(tmp_path / "cache")
    output = put_archive(store, noise(LARGE))
    write_checked(store.parts_path(output.digest), {"bytes": output.bytes, "parts": parts})
    assert not store.has(output) and not store.intact(output)


def test_a_list_that_names_other_parts_is_found_out_by_the_whole_digest(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    one, other = put_archive(store, noise(LARGE)), put_archive(store, noise(LARGE, 1))
    write_checked(store.parts_path(one.digest), list_to_json(store.parts(other.digest) or []))
    again = LocalStore(store.root)
    assert one.bytes == other.bytes and again.has(one)
    assert bytes_of(again, one) is None and not again.has(one) and bytes_of(again, other) is not None


def test_an_input_in_parts_is_put_together_once_for_a_run(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    output = put_archive(store, noise(LARGE), noise(LARGE, 1))
    with LocalStore(store.root).session() as folder:
        reader = LocalStore(store.root)
        path = reader.path_of(output, folder)
        assert path is not None and path.is_relative_to(folder)
        inode = path.stat().st_ino
        (tmp_path / "link").hardlink_to(path)
        assert reader.path_of(output, folder) == path and path.stat().st_ino == inode


def test_a_job_that_writes_to_its_input_is_found_out_and_the_store_is_as_it_was(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    whole, parts = put(store, b"whole"), put_archive(store, noise(LARGE))
    data = bytes_of(store, parts)
    with store.session() as folder:
        for output in (whole, parts):
            path = store.path_of(output, folder)
            assert path is not None and store.untouched(output, folder)
            overwrite(path, path.read_bytes()[:-1] + b"x")
            assert not store.untouched(output, folder)
        again = store.path_of(parts, folder)
        assert again is not None and again.read_bytes() == data
        assert store.path_of(whole, folder) is None and not store.has(whole)


def test_a_file_stored_for_a_run_stays_whole_for_its_jobs(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    with store.session() as folder:
        source = archive(folder / "a.pt2", noise(LARGE))
        inode = source.stat().st_ino
        output = put_file(store, source, folder)
        path = store.path_of(output, folder)
        assert path is not None and path.stat().st_ino == inode
    assert LocalStore(store.root).intact(output)


def test_what_is_written_for_a_user_is_no_hard_link(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    outputs = [put(store, noise(LARGE)), put_archive(store, noise(LARGE, 1))]
    for index, output in enumerate(outputs):
        # Once unchecked, once known to be good: the two ways in which a file is copied.
        for reader in (LocalStore(store.root), store):
            target = tmp_path / f"{index}-{reader is store}"
            assert reader.write(output, target) and target.stat().st_nlink == 1
            overwrite(target, b"edited by its user")
            assert LocalStore(store.root).intact(output)


def test_a_file_system_that_shares_blocks_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ficlone(target: int, request: int, source: int) -> int:
        asked.append(request)
        os.write(target, os.pread(source, 1 << 20, 0))
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ficlone)
    store = LocalStore(tmp_path / "cache")
    output = put(store, b"data")
    assert store.write(output, tmp_path / "out") and (tmp_path / "out").read_bytes() == b"data"
    assert asked == [copying._FICLONE]


def test_a_full_disk_while_parts_are_written_leaves_no_entry_and_no_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trtbuild.errors import MachineError

    store = LocalStore(tmp_path / "cache")
    source = archive(tmp_path / "a.pt2", noise(LARGE), noise(LARGE, 1))
    data = source.read_bytes()
    real, calls = copying.copy_stretch, []

    def full(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(copying, "copy_stretch", full)
    with pytest.raises(MachineError, match="store an output"):
        put_file(store, source)
    assert files(store.root, "parts-v1") == [] and source.read_bytes() == data
    monkeypatch.undo()
    assert bytes_of(store, put_file(store, source)) == data


def test_an_older_program_is_found_by_its_meaning_in_parts_too(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    output = put_archive(store, noise(LARGE))
    put_entry(store, "a", {"a": output})
    file = LocalStore(store.root).open_meaning(output.canonical)
    assert file is not None and file.read() == bytes_of(store, output)
    assert store.open_meaning("raw:unknown") is None


def test_a_file_in_the_place_of_another_is_damaged(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    one, other = put_archive(store, noise(LARGE)), put_archive(store, noise(LARGE, 1))
    store.parts_path(one.digest).write_bytes(store.parts_path(other.digest).read_bytes())
    assert not LocalStore(store.root).has(one) and store.has(other)
