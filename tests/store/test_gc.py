"""`cache gc`: what nobody needs goes; what a dist/, a running build or an entry needs stays."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.store.things import LARGE, age, files, noise, overwrite, put, put_archive, put_entry
from trtbuild.errors import StoreError
from trtbuild.keys import key_of
from trtbuild.store.gc import collect
from trtbuild.store.local import LocalStore

DAY = 86400.0


def stored(root: Path) -> LocalStore:
    """Three entries, last used 3, 2 and 1 days ago; the first two share a tensor."""
    store = LocalStore(root)
    shared = noise(LARGE)
    put_entry(store, "old", {"a": put_archive(store, shared, noise(LARGE, 1))})
    put_entry(store, "middle", {"a": put_archive(store, shared, noise(LARGE, 2))})
    put_entry(store, "new", {"a": put(store, noise(LARGE, 3))})
    age(files(root), 5 * DAY)
    for days, name in ((3, "old"), (2, "middle"), (1, "new")):
        age([store.entry_path(key(name))], days * DAY)
    return LocalStore(root)


def key(name: str) -> str:
    return key_of({"kind": "null", "settings": {"name": name}})


def names(store: LocalStore) -> set[str]:
    """The entries that can be taken."""
    again = LocalStore(store.root)
    return {name for name in ("old", "middle", "new") if again.get(key(name)) is not None}


def manifest(dist: Path, *keys: str) -> None:
    folder = dist / "r/t/fp32"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(
        json.dumps({"schema": 1, "stages": [{"id": "x", "key": one} for one in keys]})
    )


def test_without_limits_only_what_nothing_refers_to_goes(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    orphan, orphan_parts = put(store, b"orphan"), put_archive(store, noise(LARGE), noise(LARGE, 8))
    age(files(store.root), DAY)
    done = collect(store)
    assert names(store) == {"old", "middle", "new"} and not store.has(orphan) and not store.has(orphan_parts)
    # The orphan, and of the archive its own tensor and the three stretches between tensors.
    assert done.removed["parts"] == 1 and done.removed["meanings"] == 2 and done.removed["blobs"] >= 3
    assert collect(store).removed == {}


def test_a_dry_run_says_the_same_and_removes_nothing(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    before = files(store.root, "blobs-v1", "entries-v2", "parts-v1", "meanings-v2")
    said = collect(store, max_age=2.5 * DAY, dry_run=True)
    assert files(store.root, "blobs-v1", "entries-v2", "parts-v1", "meanings-v2") == before
    done = collect(store, max_age=2.5 * DAY)
    assert said.removed == done.removed and said.freed == done.freed > 0


def test_what_was_not_used_for_long_goes(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    collect(store, max_age=2.5 * DAY)
    assert names(store) == {"middle", "new"}


def test_what_was_taken_from_the_store_counts_as_used(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    assert store.get(key("old")) is not None
    collect(store, max_age=0.5 * DAY)
    assert names(store) == {"old"}


def test_beyond_the_size_the_least_recently_used_goes_first_and_shared_tensors_stay(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    size = store.info()["bytes"]
    done = collect(store, max_size=size - 1)
    assert names(store) == {"middle", "new"} and done.over == 0
    assert LARGE < size - store.info()["bytes"] < LARGE + 1000


def test_a_size_of_zero_empties_a_store_that_nobody_needs(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    done = collect(store, max_size=0)
    assert names(store) == set() and store.info()["bytes"] == 0 and done.over == 0
    assert files(store.root, "blobs-v1", "parts-v1", "entries-v2", "meanings-v2") == []


def test_what_a_kept_dist_needs_stays_whatever_is_asked(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    manifest(tmp_path / "dist", key("old"))
    store.keep_dist(tmp_path / "dist")
    done = collect(store, max_size=0, max_age=0.0)
    assert names(store) == {"old"} and done.kept_for_dist == 1 and done.over > 0
    shutil.rmtree(tmp_path / "dist")
    assert collect(store, max_size=0).removed["roots"] == 1
    assert names(store) == set()


def test_what_a_dist_needs_of_reads_stays(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    declared = {"kind": "trace", "settings": {"x": 1}}
    reads = {"files": {"m.py": "d"}, "distributions": {}}
    made = put_entry(store, "t", {"a": put(store, b"x")})
    record = {**declared, "reads": reads["files"], "distributions": {}}
    kept = store.put(type(made)(key=key_of(record), record=record, outputs=made.outputs))
    store.put_reads(key_of(declared), reads)
    store.put_reads(key_of({"kind": "trace", "settings": {"x": 2}}), reads)
    age(files(store.root), DAY)
    manifest(tmp_path / "dist", kept.key)
    store.keep_dist(tmp_path / "dist")
    assert collect(store, max_size=0).removed["reads"] == 1
    assert store.reads(key_of(declared)) == [reads]


@pytest.mark.parametrize("text", ["", "[]", '{"stages": 5}', '{"stages": [1, {"key": 5}, {}]}', "\x00\xff"])
def test_a_manifest_that_is_none_keeps_nothing_and_breaks_nothing(tmp_path: Path, text: str) -> None:
    store = stored(tmp_path / "cache")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/manifest.json").write_text(text)
    store.keep_dist(tmp_path / "dist")
    collect(store, max_size=0)
    assert names(store) == set()


def test_a_dist_that_cannot_be_read_stops_it_before_anything_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stored(tmp_path / "cache")
    manifest(tmp_path / "dist", key("old"))
    store.keep_dist(tmp_path / "dist")
    real = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == "manifest.json":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(StoreError, match="cannot be read"):
        collect(store, max_size=0)
    monkeypatch.undo()
    assert names(store) == {"old", "middle", "new"}


def test_what_a_running_build_has_used_or_stored_stays(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    with store.session():
        assert store.get(key("middle")) is not None
        fresh = put(store, b"stored by the run, its entry is still to come")
        again = put(store, noise(LARGE, 3))
        collect(LocalStore(store.root), max_size=0)
        assert names(store) == {"middle"} and store.intact(fresh) and store.intact(again)
    collect(LocalStore(store.root), max_size=0)
    assert not store.has(fresh) and not store.has(again)


def test_the_folder_of_a_killed_run_goes_and_keeps_nothing(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    for name in ("1-dead", "2-unmarked"):
        (store.root / "tmp" / name / "job").mkdir(parents=True)
    (store.root / "tmp/1-dead/.alive").touch()
    assert collect(store, max_size=0).removed["runs"] == 2
    assert names(store) == set() and files(store.root, "tmp") == []


def test_damaged_half_written_and_outdated_files_go(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    overwrite(store.entry_path(key("old")), b"{}")
    aside = store.root / "blobs-v1/ab/.abc.123"
    aside.parent.mkdir(exist_ok=True)
    aside.write_bytes(b"half")
    age([aside], DAY)
    (store.root / "entries-v1/ab").mkdir(parents=True)
    (store.root / "entries-v1/ab/x.json").write_text("{}")
    (store.root / "entries-v9").mkdir()
    done = collect(store)
    assert done.removed["damaged"] == 1 and done.removed["half-written"] == 1 and done.removed["outdated"] == 1
    assert names(store) == {"middle", "new"} and not (store.root / "entries-v1").exists()
    assert (store.root / "entries-v9").exists()


def test_history_and_logs_go_with_their_entries_once_they_are_old(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    for step, name in (("r/kept", "new"), ("r/gone", "old"), ("r/young", "old")):
        store.put_history(step, {"kind": "null"}, key(name), 1.0, 0)
        store.log(step).parent.mkdir(parents=True, exist_ok=True)
        store.log(step).write_text("log")
    old = [path for path in files(store.root, "history-v2", "logs-v1") if "young" not in path.name]
    age(old, 40 * DAY)
    collect(store, max_size=LARGE + 10)
    assert names(store) == {"new"}
    assert [store.history(step) is not None for step in ("r/kept", "r/gone", "r/young")] == [True, False, True]
    assert [store.log(step).exists() for step in ("r/kept", "r/gone", "r/young")] == [True, False, True]


def test_locks_that_killed_processes_left_go_and_held_ones_stay(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    (store.root / "locks/left").touch()
    with store.lock("held"):
        assert collect(LocalStore(store.root)).removed["locks"] == 1
        assert LocalStore(store.root).try_lock("held") is None
    assert {path.name for path in (store.root / "locks").iterdir()} <= {"gate"}


def test_an_entry_without_all_its_blobs_goes(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    entry = store.get(key("new"))
    assert entry is not None
    store.blob(entry.outputs["a"].digest).unlink()
    assert collect(store).removed["entries"] == 1 and names(store) == {"old", "middle"}


class _Dying:
    """Stands in for Path.unlink in a process that is killed after so many removals."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.real = Path.unlink

    def __get__(self, path: Path, kind: type) -> Any:
        def unlink(**options: bool) -> None:
            if path.parent.name != "locks":
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
            self.real(path, **options)

        return unlink


def test_entries_are_gone_before_what_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after any number of removals, nothing that can be taken lacks anything."""
    left = 0
    while True:
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        store = stored(tmp_path / "cache")
        monkeypatch.setattr(Path, "unlink", _Dying(left))
        ended = True
        try:
            collect(store, max_size=LARGE + 10)
        except KeyboardInterrupt:
            ended = False
        monkeypatch.undo()
        again = LocalStore(store.root)
        for name in names(store):
            entry = again.get(key(name))
            assert entry is not None and all(again.intact(output) for output in entry.outputs.values())
        assert "new" in names(store)
        if ended:
            break
        left += 1
    assert left > 5


def test_the_oldest_run_counts(tmp_path: Path) -> None:
    store = stored(tmp_path / "cache")
    with store.session(), LocalStore(store.root).session() as younger:
        os.utime(younger / ".alive", (time.time() + 100,) * 2)
        assert store.get(key("old")) is not None
        collect(LocalStore(store.root), max_age=0.0)
        assert names(store) == {"old"}
