"""Random lives of a store against a plain model of it: whatever is put, damaged, collected and opened again."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.store.things import LARGE, age, archive, bytes_of, files, flip, noise, put_entry, put_file
from trtbuild.keys import key_of
from trtbuild.store.entry import Entry
from trtbuild.store.gc import collect
from trtbuild.store.local import LocalStore
from trtbuild.store.verify import verify

NAMES = st.sampled_from(["a", "b", "c", "d"])
TENSORS = st.lists(st.sampled_from([(LARGE, 1), (LARGE, 2), (LARGE, 3), (10, 4)]), max_size=3)


class Life(RuleBasedStateMachine):
    """The model: what was put last under each name; `certain`: names that must still be there."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.store = LocalStore(self.root / "cache")
        self.put_last: dict[str, tuple[Entry, bytes]] = {}
        self.certain: set[str] = set()
        self.kept: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    @rule(name=NAMES, tensors=TENSORS)
    def put(self, name: str, tensors: list[tuple[int, int]]) -> None:
        source = archive(self.root / "incoming", *(noise(size, seed) for size, seed in tensors))
        data = source.read_bytes()
        self.put_last[name] = put_entry(self.store, name, {"out": put_file(self.store, source)}), data
        self.certain.add(name)

    @rule(name=NAMES)
    def use(self, name: str) -> None:
        assert (self.store.get(_key(name)) is not None) >= (name in self.certain)

    @rule()
    def reopen(self) -> None:
        self.store = LocalStore(self.root / "cache")

    @precondition(lambda self: files(self.root / "cache", "blobs-v1", "parts-v1", "entries-v2", "meanings-v2"))
    @rule(seed=st.integers(0, 1 << 30))
    def damage(self, seed: int) -> None:
        pick = random.Random(seed)
        flip(pick.choice(files(self.root / "cache", "blobs-v1", "parts-v1", "entries-v2", "meanings-v2")), pick)
        self.store = LocalStore(self.root / "cache")
        self.certain.clear()

    @rule(names=st.sets(NAMES, max_size=2))
    def publish(self, names: set[str]) -> None:
        dist = self.root / "dist"
        shutil.rmtree(dist, ignore_errors=True)
        dist.mkdir()
        stages = ",".join(f'{{"key": "{_key(name)}"}}' for name in sorted(names))
        (dist / "manifest.json").write_text(f'{{"stages": [{stages}]}}')
        self.store.keep_dist(dist)
        self.kept = names

    @rule(name=NAMES, days=st.integers(1, 9))
    def grow_old(self, name: str, days: int) -> None:
        if (path := self.store.entry_path(_key(name))).exists():
            age([path], days * 86400.0)
            self.store = LocalStore(self.root / "cache")

    @rule()
    def collect_nothing_of_use(self) -> None:
        collect(self.store)

    @rule(running=st.sets(NAMES, max_size=2))
    def collect_all_that_may_go(self, running: set[str]) -> None:
        run = LocalStore(self.root / "cache")
        with run.session():
            used = {name for name in running if run.get(_key(name)) is not None}
            assert used >= running & self.certain
            # What was put before the run began is older than it.
            age([self.store.entry_path(_key(name)) for name in self._there() - used], 60.0)
            collect(self.store, max_size=0)
            assert self._there() >= used
        self.certain &= self.kept | used
        assert self._there() <= self.kept | used

    @rule()
    def check_all(self) -> None:
        done = verify(self.store)
        assert verify(self.store).damaged == []
        if self.certain == self.put_last.keys():
            assert not done.stages

    @invariant()
    def what_is_there_is_right(self) -> None:
        store = LocalStore(self.root / "cache")
        for name, (entry, data) in self.put_last.items():
            found, read = store.get(_key(name)), bytes_of(store, entry.outputs["out"])
            if name in self.certain:
                assert (found, read) == (entry, data)
            else:
                assert found in (None, entry) and read in (None, data)

    def _there(self) -> set[str]:
        return {name for name in self.put_last if self.store.entry(_key(name)) is not None}


def _key(name: str) -> str:
    return key_of({"kind": "null", "settings": {"name": name}})


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
