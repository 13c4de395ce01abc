"""Locks: one holder at a time, none for ever, and no files left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT
from trtbuild.store.local import LocalStore
from trtbuild.store.locks import Gate, take

_HOLD = """
import sys, time
from pathlib import Path
from trtbuild.store.locks import take
lock = take(Path(sys.argv[1]), wait=True)
print("held", flush=True)
time.sleep(60)
"""


def _count_up(lock: str, counter: str, times: int) -> None:
    for _ in range(times):
        with take(Path(lock), wait=True) as _:  # type: ignore[union-attr]
            value = int(Path(counter).read_text())
            Path(counter).write_text(str(value + 1))


def test_one_holder_at_a_time_though_each_removes_the_file(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_count_up, args=(str(tmp_path / "lock"), str(counter), 400)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert counter.read_text() == "1600" and not (tmp_path / "lock").exists()


def test_a_held_lock_is_not_given_and_a_free_one_is_gone(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    first = store.try_lock("k")
    assert first is not None and LocalStore(store.root).try_lock("k") is None
    first.close()
    first.close()
    assert not (store.root / "locks/k").exists()
    second = store.try_lock("k")
    assert second is not None
    second.close()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert take(path, wait=False) is None
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    lock = take(path, wait=True)
    assert lock is not None
    lock.close()


def _share(path: str, seconds: float) -> None:
    with Gate(Path(path)):
        time.sleep(seconds)


def test_a_gate_is_shared_by_many_and_held_alone_by_one(tmp_path: Path) -> None:
    path = tmp_path / "gate"
    first, second = Gate(path), Gate(path)
    with first, first, second:
        pass
    with first.alone():
        process = multiprocessing.get_context("spawn").Process(target=_share, args=(str(path), 0.0))
        process.start()
        process.join(1.5)
        assert process.is_alive()
    process.join(30)
    assert process.exitcode == 0


def test_a_session_within_another_is_the_same(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    with store.session() as outer:
        with store.session() as inner:
            assert inner == outer
        assert outer.exists()
    assert not outer.exists()


def test_a_run_on_a_store_that_cannot_be_written_to_goes_without_a_session(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    (store.root / "tmp").write_text("in the way")
    with store.in_use():
        assert store.get("0" * 64) is None
