"""The store on disk: whole or not at all, checked on read, shared by any number of processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trtbuild.digest import digest_bytes, digest_value
from trtbuild.errors import StoreError
from trtbuild.store.entry import Entry, Output
from trtbuild.store.local import LocalStore


def put(store: LocalStore, data: bytes, canonical: str | None = None, name: str = "file") -> Output:
    source = store.root / f"incoming-{os.getpid()}-{time.monotonic_ns()}"
    source.write_bytes(data)
    digest = digest_bytes(data)
    return store.put_output(source, {"digest": digest, "canonical": canonical or f"raw:{digest}", "bytes": len(data)})


def entry(key: str, **outputs: Output) -> Entry:
    return Entry(key=key, record={"kind": "null"}, outputs=outputs)


KEY = digest_value("a key")


def test_an_entry_comes_back_as_it_was_put(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    made = Entry(
        KEY,
        {"kind": "null", "settings": {"x": [1, 2.5, None, True]}},
        {"a": put(store, b"one")},
        {"facts": ["f"]},
        1.25,
        77,
    )
    store.put(made)
    assert LocalStore(tmp_path / "cache").get(KEY) == made


def test_an_entry_without_its_blob_is_a_miss(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    output = put(store, b"one")
    store.put(entry(KEY, a=output))
    store.blob(output.digest).unlink()
    assert store.get(KEY) is None


def test_a_cut_off_blob_is_a_miss(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    output = put(store, b"one")
    store.put(entry(KEY, a=output))
    store.blob(output.digest).chmod(0o644)
    store.blob(output.digest).write_bytes(b"on")
    assert store.get(KEY) is None


def test_a_damaged_blob_is_found_on_read_and_dropped(tmp_path: Path) -> None:
    output = put(LocalStore(tmp_path / "cache"), b"one")
    store = LocalStore(tmp_path / "cache")
    assert store.intact(output)
    store.blob(output.digest).chmod(0o644)
    store.blob(output.digest).write_bytes(b"eno")
    again = LocalStore(tmp_path / "cache")
    assert not again.intact(output) and not again.blob(output.digest).exists()


def test_a_damaged_entry_is_a_miss(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    store.put(entry(KEY, a=put(store, b"one")))
    path = next((tmp_path / "cache/entries-v2").glob("*/*.json"))
    path.write_text(path.read_text()[:-40])
    assert store.get(KEY) is None


def test_an_entry_under_another_key_is_a_miss(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    store.put(entry(KEY, a=put(store, b"one")))
    path = next((tmp_path / "cache/entries-v2").glob("*/*.json"))
    other = digest_value("another key")
    target = tmp_path / "cache/entries-v2" / other[:2] / f"{other}.json"
    target.parent.mkdir(exist_ok=True)
    path.rename(target)
    assert store.get(other) is None


def test_new_bytes_of_a_known_meaning_are_dropped_for_the_old_ones(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    first = put(store, b"one", canonical="engine-1:m")
    second = put(store, b"eno", canonical="engine-1:m")
    assert second == first
    assert store.info()["blobs"] == 1


def test_where_the_old_bytes_are_damaged_the_new_ones_take_their_place(tmp_path: Path) -> None:
    first = put(LocalStore(tmp_path / "cache"), b"one", canonical="engine-1:m")
    store = LocalStore(tmp_path / "cache")
    store.blob(first.digest).chmod(0o644)
    store.blob(first.digest).write_bytes(b"xxx")
    second = put(store, b"eno", canonical="engine-1:m")
    assert second.digest == digest_bytes(b"eno") and store.intact(second)


def test_a_store_of_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    LocalStore(root)
    (root / "format.json").write_text(json.dumps({"format": 2, "trtbuild": "9.0"}))
    before = sorted(p.name for p in root.iterdir())
    with pytest.raises(StoreError) as caught:
        LocalStore(root)
    assert "newer trtbuild" in str(caught.value) and "2 (trtbuild 9.0)" in caught.value.render()
    assert sorted(p.name for p in root.iterdir()) == before


def test_blobs_are_read_only(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    assert store.blob(put(store, b"one").digest).stat().st_mode & 0o777 == 0o444


def test_several_sets_of_reads_are_kept_newest_first(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    for version in ("a", "b", "a"):
        store.put_reads(KEY, {"files": {"m.py": version}, "distributions": {}})
    assert [found["files"]["m.py"] for found in store.reads(KEY)] == ["a", "b"]


def test_history_keeps_the_record_before_the_last_change(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    store.put_history("r/a", {"x": 1}, "k1", 1.0, 0)
    store.put_history("r/a", {"x": 2}, "k2", 1.0, 0)
    store.put_history("r/a", {"x": 2}, "k2", 1.0, 0)
    found = store.history("r/a")
    assert found is not None and found["record"] == {"x": 2} and found["before"]["record"] == {"x": 1}


def test_a_session_clears_what_a_killed_one_left_and_no_living_one(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    dead = store.root / "tmp" / "1-dead"
    dead.mkdir(parents=True)
    (dead / ".alive").touch()
    with store.session() as living, LocalStore(store.root).session():
        assert living.exists() and not dead.exists()
    assert not living.exists()


def _put_many(root: str, seed: int) -> None:
    store = LocalStore(Path(root))
    for n in range(60):
        data = f"{n % 20}".encode() * 100
        store.put(entry(digest_value(n % 20), a=put(store, data)))


def test_processes_that_write_the_same_entries_at_once_lose_nothing(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put_many, args=(str(root), seed)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    store = LocalStore(root)
    for n in range(20):
        found = store.get(digest_value(n))
        assert found is not None and store.intact(found.outputs["a"])


def test_a_writer_killed_at_any_moment_leaves_nothing_that_looks_done(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    LocalStore(root)
    context = multiprocessing.get_context("spawn")
    for delay in (0.05, 0.1, 0.15, 0.2, 0.3):
        process = context.Process(target=_put_many, args=(str(root), 0))
        process.start()
        time.sleep(delay)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        store = LocalStore(root)
        for path in (root / "entries-v1").glob("*/*.json"):
            found = store.get(path.stem)
            assert found is not None and all(store.intact(output) for output in found.outputs.values())


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blobs=st.lists(st.tuples(st.binary(max_size=40), st.sampled_from(["m1", "m2", "raw"])), max_size=12))
def test_what_was_put_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, blobs: list[tuple[bytes, str]]) -> None:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    first: dict[str, bytes] = {}
    for data, meaning in blobs:
        canonical = f"raw:{digest_bytes(data)}" if meaning == "raw" else meaning
        output = put(store, data, canonical)
        wanted = first.setdefault(canonical, data)
        assert store.blob(output.digest).read_bytes() == wanted and output.bytes == len(wanted)
