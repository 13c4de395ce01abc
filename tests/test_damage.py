"""Damage anywhere in a real store: what is read is right, or a miss; nothing wrong is served and nothing crashes."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.things import LARGE, archive, files, noise, overwrite, put, put_entry, put_file
from trtbuild import api
from trtbuild.digest import digest_bytes
from trtbuild.errors import StoreError
from trtbuild.keys import declared_of, key_of
from trtbuild.store.entry import Entry
from trtbuild.store.gc import collect
from trtbuild.store.local import LocalStore
from trtbuild.store.verify import verify

DAMAGES, CHUNKS = 2000, 4
RUNS, RUN_CHUNKS = 48, 2

_RECIPE = """\
[model]
entry = "models/net.py:net"
args = {{ n = {n} }}

[inputs.x]
shape = [4]

[compile]
converter = "onnx"

[targets.linux]
platform = "linux-x86_64"
runtime = "null"
precision = ["fp32", "fp16"]
formats = ["engine", "onnx"]
"""
_SHAPES = (b"null", b"[]", b"{}", b"5", b'"text"', b"[[]]", b'{"key": 5}', b'{"sha256": "", "content": {}}')


def damaged(path: Path, others: list[Path], pick: random.Random) -> None:
    """Damage a file in one of the ways in which files get damaged."""
    data = bytearray(path.read_bytes())
    way = pick.choice(["flip", "flip", "flip", "digit", "digit", "cut", "cut", "zeros", "longer", "other", "shape"])
    if way == "flip" and data:
        data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
    elif way == "digit" and (places := [at for at, byte in enumerate(data) if 48 <= byte <= 57]):
        # What still parses, and says something else.
        at = pick.choice(places)
        data[at] = 48 + (data[at] - 48 + pick.randrange(1, 10)) % 10
    elif way == "cut":
        del data[pick.randrange(len(data) + 1) :]
    elif way == "zeros":
        start = pick.randrange(len(data) + 1)
        data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    elif way == "other":
        data = bytearray(pick.choice(others).read_bytes())
    elif way == "shape":
        data = bytearray(pick.choice(_SHAPES))
    else:
        data += noise(8)
    overwrite(path, bytes(data))


class Workspace:
    """Recipes of null stages, built once, and in the same store programs and an engine in parts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "models").mkdir(parents=True)
        (root / "pyproject.toml").touch()
        (root / "models/net.py").write_text("read models/other.py\n")
        (root / "models/other.py").write_text("text\n")
        for n in range(2):
            (root / f"r{n}.toml").write_text(_RECIPE.format(n=n))
        self.run()
        store = LocalStore(root / "cache")
        self._add_real(store)
        self.pristine = root.with_name("pristine")
        shutil.copytree(root, self.pristine)

    def run(self) -> list[str]:
        """Run everything; which stages ran."""
        result = api.run([self.root])
        assert not result.errors
        return [stage.id for stage in result.stages if stage.status == "ran"]

    def artifacts(self) -> dict[str, Any]:
        """The bytes of each artifact, and what each manifest says but for how long stages took."""
        found: dict[str, Any] = {}
        for path in files(self.root / "dist"):
            manifest = json.loads(path.read_bytes()) if path.name == "manifest.json" else None
            for stage in manifest["stages"] if manifest else ():
                del stage["seconds"]
            found[path.relative_to(self.root).as_posix()] = manifest or path.read_bytes()
        return found

    def restore(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self.pristine, self.root)

    def _add_real(self, store: LocalStore) -> None:
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(200, 200), torch.nn.ReLU(), torch.nn.Linear(200, 100))
        outputs = {}
        for name in ("one", "two"):
            path = self.root / f"{name}.pt2"
            torch.export.save(torch.export.export(net, (torch.zeros(2, 200),)), path)
            outputs[name] = put_file(store, path)
            torch.nn.init.zeros_(net[2].bias)
        outputs["zip"] = put_file(store, archive(self.root / "a.zip", noise(LARGE), b"x", noise(LARGE, 1)))
        outputs["plain"] = put(store, noise(300))
        entry = put_entry(store, "real", outputs, kind="real", details={"signature": [1, 2.5, None]})
        store.put_history("real/trace", entry.record, entry.key, 1.0, 5)


class Truth:
    """All that a good store answers, and whether a store that may be damaged answers just that, or with a miss."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {path: path.read_bytes() for path in files(root) if "locks" not in path.parts}
        store = LocalStore(root)
        self.entries: dict[str, Entry] = {}
        self.outputs: dict[Any, bytes] = {}
        for path in files(root, "entries-v2"):
            entry = store.entry(path.stem)
            assert entry is not None
            self.entries[path.stem] = entry
            for output in entry.outputs.values():
                self.outputs[output] = self._read(store, output) or b""
        self.reads = {
            key: store.reads(key) for key in {key_of(declared_of(dict(e.record))) for e in self.entries.values()}
        }
        histories = [path.relative_to(root / "history-v2") for path in files(root, "history-v2")]
        self.history = {
            step: store.history(step) for step in (path.as_posix().removesuffix(".json") for path in histories)
        }
        assert all(self.outputs.values()) and any(self.reads.values()) and all(self.history.values())

    def _read(self, store: LocalStore, output: Any) -> bytes | None:
        target = self.root / "read"
        if not store.write(output, target):
            assert not target.exists()
            return None
        data = target.read_bytes()
        target.unlink()
        return data

    def check(self) -> int:
        """How many answers were a miss; every other one was right."""
        store = LocalStore(self.root)
        missed = 0
        for key, entry in self.entries.items():
            found = store.get(key)
            assert found in (None, entry)
            missed += found is None
        for output, data in self.outputs.items():
            read = self._read(store, output)
            assert read in (None, data)
            missed += read is None
            assert read is None or digest_bytes(read) == output.digest
        for declared, reads in self.reads.items():
            found_reads = store.reads(declared)
            assert found_reads in ([], reads)
            missed += found_reads != reads
        for step, history in self.history.items():
            found_history = store.history(step)
            assert found_history in (None, history)
            missed += found_history is None
        return missed

    def restore(self) -> None:
        for path in files(self.root):
            if path not in self.files and "locks" not in path.parts:
                path.unlink()
        for path, data in self.files.items():
            if not path.exists() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                overwrite(path, data)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("damage") / "workspace")


@pytest.fixture
def truth(workspace: Workspace) -> Iterator[Truth]:
    truth = Truth(workspace.root / "cache")
    yield truth
    truth.restore()


def chosen(known: dict[Path, bytes], pick: random.Random) -> tuple[Path, list[Path]]:
    """A file of a store, each folder as likely as another, and the others of its folder."""
    folders: dict[str, list[Path]] = {}
    for path in sorted(known):
        folders.setdefault(next(part for part in path.parts if "-v" in part or part == path.name), []).append(path)
    folder = folders[pick.choice(sorted(folders))]
    return pick.choice(folder), folder


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whatever_is_damaged_what_is_read_is_right_or_a_miss(truth: Truth, chunk: int) -> None:
    pick = random.Random(chunk)
    assert truth.check() == 0
    missed = 0
    for number in range(DAMAGES // CHUNKS):
        for _ in range(pick.choice([1, 1, 1, 3])):
            damaged(*chosen(truth.files, pick), pick)
        with contextlib.suppress(StoreError):  # the mark of its format may say that it is of another version
            missed += truth.check() > 0
            if number % 50 == 0:
                store = LocalStore(truth.root)
                store.info()
                collect(store, dry_run=True)
                verify(store)
                assert verify(LocalStore(truth.root)).damaged == []
                truth.check()
        truth.restore()
    assert missed > DAMAGES // CHUNKS // 4


@pytest.mark.parametrize("name", ["digest", "canonical", "bytes", "details", "record", "seconds"])
def test_no_value_of_an_entry_can_change_unnoticed(truth: Truth, name: str) -> None:
    for key, entry in sorted(truth.entries.items())[::5]:
        path = LocalStore(truth.root).entry_path(key)
        text = path.read_bytes()
        at = text.index(f'"{name}"'.encode())
        for offset in range(at, min(at + 90, len(text))):
            overwrite(path, text[:offset] + bytes([text[offset] ^ 1]) + text[offset + 1 :])
            assert LocalStore(truth.root).get(key) is None
        overwrite(path, text)
        assert LocalStore(truth.root).get(key) == entry


@pytest.mark.parametrize("chunk", range(RUN_CHUNKS))
def test_a_run_on_a_damaged_store_makes_what_it_made_and_then_has_nothing_to_do(
    workspace: Workspace, chunk: int
) -> None:
    pick = random.Random(chunk)
    wanted = workspace.artifacts()
    assert workspace.run() == []
    ran = 0
    hurt: list[Callable[[], None]] = [lambda: None, lambda: shutil.rmtree(workspace.root / "dist")]
    for _ in range(RUNS // RUN_CHUNKS):
        known = {path: path.read_bytes() for path in files(workspace.root / "cache") if "locks" not in path.parts}
        for _ in range(pick.choice([1, 2, 5])):
            damaged(*chosen(known, pick), pick)
        pick.choice(hurt)()
        with contextlib.suppress(StoreError):
            ran += len(workspace.run())
            assert workspace.artifacts() == wanted
            assert workspace.run() == []
            assert not list((workspace.root / "cache/tmp").iterdir())
        workspace.restore()
    assert ran > 0
