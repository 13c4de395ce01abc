"""`cache verify`: whatever is damaged is dropped, and it says which stages run again for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.things import LARGE, bytes_of, files, noise, overwrite, put, put_archive, put_entry
from trtbuild.keys import key_of
from trtbuild.store.checked import write_checked
from trtbuild.store.local import LocalStore
from trtbuild.store.verify import verify


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "cache")
    for step, output in (("r/a", put_archive(store, noise(LARGE))), ("r/b", put(store, b"plain"))):
        entry = put_entry(store, step, {"out": output})
        store.put_history(step, entry.record, entry.key, 1.0, 0)
        store.put_reads(entry.key, {"files": {}, "distributions": {}})
    store.keep_dist(tmp_path / "dist")
    return store


def entry_of(store: LocalStore, step: str) -> str:
    history = store.history(step)
    assert history is not None
    return str(history["key"])


def test_a_good_store_is_left_as_it_is(store: LocalStore) -> None:
    before = {path: path.read_bytes() for path in files(store.root)}
    done = verify(store)
    assert (done.damaged, done.stages, done.abandoned) == ([], [], [])
    assert done.read["entries-v2"] == 2 and done.read["parts-v1"] == 1 and done.bytes == store.info()["bytes"]
    assert {path: path.read_bytes() for path in files(store.root)} == before


def test_a_damaged_part_drops_all_that_cannot_be_read_for_it(store: LocalStore) -> None:
    part = next(path for path in files(store.root, "blobs-v1") if path.stat().st_size == LARGE)
    overwrite(part, noise(LARGE, 5))
    done = verify(LocalStore(store.root))
    assert done.stages == ["r/a"] and f"blobs-v1/{part.parent.name}/{part.name}" in done.damaged
    assert {name.partition("/")[0] for name in done.damaged} == {"blobs-v1", "parts-v1", "entries-v2"}
    assert LocalStore(store.root).get(entry_of(store, "r/a")) is None
    assert LocalStore(store.root).get(entry_of(store, "r/b")) is not None
    assert verify(store).damaged == []


@pytest.mark.parametrize("kind", ["entries-v2", "reads-v2", "meanings-v2", "history-v2", "parts-v1", "roots-v1"])
def test_a_damaged_file_of_each_kind_is_dropped(store: LocalStore, kind: str) -> None:
    path = files(store.root, kind)[0]
    overwrite(path, path.read_bytes().replace(b"\n ", b"\n  ", 1))
    done = verify(LocalStore(store.root))
    assert path.relative_to(store.root).as_posix() in done.damaged and not path.exists()


def test_an_entry_whose_key_is_not_that_of_its_record_is_dropped(store: LocalStore) -> None:
    key = entry_of(store, "r/b")
    entry = store.entry(key)
    assert entry is not None
    write_checked(store.entry_path(key), {**entry.to_json(), "record": {"kind": "other"}})
    assert verify(store).damaged == [f"entries-v2/{key[:2]}/{key}.json"]


def test_a_stage_nobody_has_a_name_for_is_told_by_kind_and_key(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    output = put(store, b"x")
    key = put_entry(store, "nameless", {"a": output}).key
    overwrite(store.blob(output.digest), b"y")
    assert verify(store).stages == [f"null {key[:12]}"]


def test_folders_of_killed_runs_are_told_and_removed_and_living_ones_stay(store: LocalStore) -> None:
    with store.session() as living:
        (store.root / "tmp/1-dead").mkdir()
        assert verify(LocalStore(store.root)).abandoned == ["1-dead"]
        assert living.exists()


def test_what_a_run_has_put_right_meanwhile_stays(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = next(path for path in files(store.root, "blobs-v1") if path.read_bytes() == b"plain")
    overwrite(blob, b"wrong")
    from trtbuild.store import verify as module

    real = module.digest_file

    def slow(path: Path) -> str:
        digest = real(path)
        if path == blob:
            blob.unlink()
            put(LocalStore(store.root), b"plain", "another meaning")
        return digest

    monkeypatch.setattr(module, "digest_file", slow)
    assert verify(LocalStore(store.root)).damaged == []
    entry = LocalStore(store.root).get(entry_of(store, "r/b"))
    assert entry is not None and bytes_of(store, entry.outputs["out"]) == b"plain"
    assert key_of(dict(entry.record)) == entry.key
