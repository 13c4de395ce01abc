"""What native code and other programs read is in a trace's key, and nothing else is: real readers in real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.worker import watched
from tests.worker.watched import watch, watch_one
from trtbuild.keys import key_of, with_reads
from trtbuild.plans import Step
from trtbuild.reads import parts_of, present, watched_paths
from trtbuild.resolve import Resolver
from trtbuild.sandbox import cannot_observe
from trtbuild.signs import Digests
from trtbuild.stages.table import stage_kind
from trtbuild.store.entry import Entry
from trtbuild.store.local import LocalStore
from trtbuild.toolchain import distributions
from trtbuild.workspace import Workspace

pytestmark = pytest.mark.skipif(bool(cannot_observe()), reason=f"not observable here: {cannot_observe()}")

if not distributions().get("torch"):
    pytest.skip("torch is not installed", allow_module_level=True)


@dataclass(frozen=True)
class Reader:
    """A model that reads: what it must be seen to do beside being imported, and an edit that must change the key.

    `make` lays out the workspace, `prepare` is code that does so where torch is imported.
    """

    code: str
    edit: Callable[[Path], Any]
    reads: frozenset[str] = frozenset()
    exists: dict[str, str | None] = field(default_factory=dict)
    listings: frozenset[str] = frozenset()
    make: Callable[[Path], Any] = lambda folder: None
    prepare: str = ""


def _rewritten(name: str) -> Callable[[Path], Any]:
    def edit(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)

    return edit


def _touched(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text("")


def _bytes(folder: Path) -> None:
    (folder / "d.bin").write_bytes(bytes(64))


_SAFETENSORS = "from safetensors.torch import save_file\nsave_file({'x': torch.zeros(4)}, 'w.safetensors')"
_SCRIPT = "torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), 'm.ts')"
_PROGRAM = "torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.zeros(1),)), 'p.pt2')"


def _linked(folder: Path) -> None:
    (folder / "v1.bin").write_bytes(b"1")
    (folder / "v2.bin").write_bytes(b"2")
    (folder / "current.bin").symlink_to("v1.bin")


def _relinked(folder: Path) -> None:
    (folder / "current.bin").unlink()
    (folder / "current.bin").symlink_to("v2.bin")


def _in_data(folder: Path) -> None:
    (folder / "data").mkdir()
    _bytes(folder / "data")


def _outside(folder: Path) -> Path:
    return folder.parent / "outside.bin"


_BIN = frozenset({"d.bin"})
READERS = {
    "safetensors_load": Reader(
        "from safetensors.torch import load_file\nload_file('w.safetensors')",
        _rewritten("w.safetensors"),
        frozenset({"w.safetensors"}),
        prepare=_SAFETENSORS,
    ),
    "safetensors_open": Reader(
        "import torch\nfrom safetensors import safe_open\nsafe_open('w.safetensors', 'pt').keys()",
        _rewritten("w.safetensors"),
        frozenset({"w.safetensors"}),
        prepare=_SAFETENSORS,
    ),
    "jit_load": Reader(
        "import torch\ntorch.jit.load('m.ts')",
        _rewritten("m.ts"),
        frozenset({"m.ts"}),
        prepare=_SCRIPT,
    ),
    "export_load": Reader(
        "import torch.export\ntorch.export.load('p.pt2')", _rewritten("p.pt2"), frozenset({"p.pt2"}), prepare=_PROGRAM
    ),
    "from_file": Reader("import torch\ntorch.from_file('d.bin', size=4)", _rewritten("d.bin"), _BIN, make=_bytes),
    "storage": Reader(
        "import torch\ntorch.UntypedStorage.from_file('d.bin', False, 16)", _rewritten("d.bin"), _BIN, make=_bytes
    ),
    "memmap": Reader("import numpy\nnumpy.memmap('d.bin', mode='r')", _rewritten("d.bin"), _BIN, make=_bytes),
    "shared": Reader("import numpy\nnumpy.memmap('d.bin', mode='r+')[0]", _rewritten("d.bin"), _BIN, make=_bytes),
    "mmap": Reader(
        "import mmap\nfile = open('d.bin', 'rb')\nmmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)",
        _rewritten("d.bin"),
        _BIN,
        make=_bytes,
    ),
    "subprocess": Reader(
        "import subprocess\nsubprocess.run(['cat', 'd.bin'], stdout=subprocess.DEVNULL, check=True)",
        _rewritten("d.bin"),
        _BIN,
        make=_bytes,
    ),
    "program": Reader(
        "import subprocess\nsubprocess.run(['./run.sh'], check=True)",
        lambda folder: (folder / "run.sh").write_text("#!/bin/sh\necho 1 > /dev/null\n"),
        frozenset({"run.sh"}),
        make=lambda folder: ((folder / "run.sh").write_text("#!/bin/sh\n"), (folder / "run.sh").chmod(0o755)),
    ),
    "thread": Reader(
        "import threading\nread = threading.Thread(target=lambda: open('d.bin').read())\nread.start()\nread.join()",
        _rewritten("d.bin"),
        _BIN,
        make=_bytes,
    ),
    "process": Reader(
        "import multiprocessing\n"
        "read = multiprocessing.get_context('fork').Process(target=lambda: open('d.bin').read())\n"
        "read.start()\nread.join()",
        _rewritten("d.bin"),
        _BIN,
        make=_bytes,
    ),
    "chdir": Reader(
        "import os\nos.chdir('data')\nopen('../data/d.bin').read()",
        _rewritten("data/d.bin"),
        frozenset({"data/d.bin"}),
        make=_in_data,
    ),
    "descriptor": Reader(
        "import os\nfolder = os.open('data', os.O_PATH)\nos.open('d.bin', os.O_RDONLY, dir_fd=folder)",
        _rewritten("data/d.bin"),
        frozenset({"data/d.bin"}),
        make=_in_data,
    ),
    "link": Reader("open('current.bin').read()", _relinked, frozenset({"current.bin"}), make=_linked),
    "link_text": Reader(
        "import os\nos.readlink('current.bin')",
        _relinked,
        exists={"current.bin": "link to v1.bin, a file"},
        make=_linked,
    ),
    "absent": Reader(
        "try: open('absent.json')\nexcept OSError: pass", _touched("absent.json"), frozenset({"absent.json"})
    ),
    "exists_not": Reader("import os\nos.path.exists('flag')", _touched("flag"), exists={"flag": None}),
    "exists": Reader(
        "from pathlib import Path\nPath('flag').resolve().is_file()",
        lambda folder: (folder / "flag").unlink(),
        exists={"flag": "file"},
        make=_touched("flag"),
    ),
    "listdir": Reader(
        "import os\nos.listdir('data')", _touched("data/new"), listings=frozenset({"data"}), make=_in_data
    ),
    "glob": Reader(
        "import glob\nglob.glob('data/*.bin')", _touched("data/new"), listings=frozenset({"data"}), make=_in_data
    ),
    "native_list": Reader(
        "import subprocess\nsubprocess.run(['ls', 'data'], stdout=subprocess.DEVNULL, check=True)",
        _touched("data/new"),
        listings=frozenset({"data"}),
        make=_in_data,
    ),
    "own_names": Reader("import os\nos.listdir('.')", _touched("new"), listings=frozenset({"."})),
    "import_absent": Reader("try: import local_opts\nexcept ImportError: pass", _touched("local_opts.py")),
    "import_hidden": Reader("import random", _touched("random.py")),
    "import_found": Reader(
        "import helper",
        _touched("helper/__init__.py"),
        frozenset({"helper.py"}),
        make=lambda folder: (_touched("helper.py")(folder), (folder / "helper").mkdir()),
    ),
    "import_inside": Reader(
        "import package",
        _touched("package/extra.py"),
        frozenset({"package/__init__.py"}),
        make=lambda folder: (
            (folder / "package").mkdir(),
            (folder / "package/__init__.py").write_text("try: from . import extra\nexcept ImportError: pass\n"),
        ),
    ),
    "find_spec": Reader("import importlib.util\nimportlib.util.find_spec('local_opts')", _touched("local_opts.py")),
    "outside": Reader(
        "",
        lambda folder: _outside(folder).write_text("2"),
        make=lambda folder: _outside(folder).write_text("1"),
    ),
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("readers")
    for name, reader in READERS.items():
        (folder / name).mkdir()
        reader.make(folder / name)
        code = reader.code or f"open({str(_outside(folder / name))!r}).read()"
        (folder / name / "net.py").write_text(f"{code}\n")
        if reader.prepare:
            (folder / f"{name}.prepare").write_text(f"import torch\n{reader.prepare}\n")
    return folder, watch(folder, list(READERS))


@pytest.mark.parametrize("name", READERS)
def test_what_a_reader_reads_is_in_its_key_and_nothing_else_is(seen: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, everything = seen
    workspace, reader, found = folder / name, READERS[name], everything[name]
    assert found["status"] == 0 and "error" not in found, found
    record = found["seen"]
    outside = {str(_outside(workspace))} if name == "outside" else set()
    assert set(record["reads"]) == {"net.py", *reader.reads, *outside}
    # The stage's own code is trtbuild's; here it is a test's, and torch looks at what calls it.
    exists = {path: state for path, state in record.get("exists", {}).items() if path != watched.__file__}
    assert exists == reader.exists
    assert set(record.get("listings", ())) == reader.listings

    decide = Decider(workspace, record)
    assert decide.is_cached()
    for noise in ("unrelated.txt", "unrelated.py", "__pycache__/net.pyc") if "." not in reader.listings else ():
        (workspace / noise).parent.mkdir(exist_ok=True)
        (workspace / noise).write_text("")
    (workspace / "dist").mkdir()
    assert decide.is_cached()

    before = signs(workspace, record)
    reader.edit(workspace)
    assert not decide.is_cached()
    assert signs(workspace, record) != before


class Decider:
    """The decision of a trace whose output is in a store under what it was seen to read."""

    def __init__(self, workspace: Path, seen: dict[str, Any]) -> None:
        where = Workspace(workspace, workspace.parent / f".cache-{workspace.name}", workspace / "dist")
        self._store = LocalStore(where.cache)
        self._step = Step("net/trace/fp32", "trace", {"entry": "net.py:x", "decompositions": ""}, {}, {})
        assert stage_kind(self._step.kind).discovers
        self._workspace = where
        declared = self._resolver().declared(self._step, {})
        record = with_reads(declared, seen)
        self._store.put_reads(key_of(declared), seen)
        self._store.put(Entry(key=key_of(record), record=record, outputs={}))

    def _resolver(self) -> Resolver:
        return Resolver(self._store, self._workspace, Digests())

    def is_cached(self) -> bool:
        return self._resolver().decide(self._step, {}).entry is not None


def signs(workspace: Path, record: dict[str, Any]) -> list[Any]:
    """What the stats of the watched paths say."""
    found: list[Any] = []
    for path in watched_paths(parts_of(record)):
        try:
            stat = os.stat(workspace / path)
            found.append((path, stat.st_size, stat.st_mtime_ns, stat.st_ino))
        except OSError:
            found.append((path, None))
    return found


def model(tmp_path: Path, code: str) -> Path:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "net.py").write_text(code)
    return workspace


def test_what_a_stage_makes_itself_is_no_input_unless_it_is_left_and_read(tmp_path: Path) -> None:
    workspace = model(
        tmp_path,
        "import os\n"
        "for name in ('gone', 'left'):\n"
        "    os.path.exists(name)\n"
        "    open(name, 'w').write('x')\n"
        "    open(name).read()\n"
        "os.remove('gone')\n",
    )
    seen = watch_one(workspace)["seen"]
    assert set(seen["reads"]) == {"net.py", "left"} and "exists" not in seen
    assert present(seen, workspace, Digests()) == parts_of(seen)


def test_a_file_that_native_code_read_and_that_changed_meanwhile_is_an_error(tmp_path: Path) -> None:
    code = "import subprocess\nsubprocess.run(['cat', 'd'], check=True)\nsubprocess.run('echo 22 > d', shell=True)"
    workspace = model(tmp_path, code)
    (workspace / "d").write_text("1")
    kind, sentence, facts, _ = watch_one(workspace)["error"]
    assert (kind, sentence) == ("StageError", "A file changed while the stage read it")
    assert facts == [["file", str(workspace / "d")]]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os\nos._exit(7)", 7),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import ctypes\nctypes.string_at(0)", -signal.SIGSEGV),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
)
def test_the_end_of_a_watched_stage_is_told_as_it_was(tmp_path: Path, code: str, status: int) -> None:
    assert watch_one(model(tmp_path, code))["status"] == status


def test_a_stage_ends_with_the_process_that_watches_it(tmp_path: Path) -> None:
    code = "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(600)"
    assert watch_one(model(tmp_path, code))["status"] == -signal.SIGKILL


def test_the_memory_of_a_watched_stage_is_that_of_its_process(tmp_path: Path) -> None:
    assert watch_one(model(tmp_path, "x = bytearray(b'x') * (300 << 20)"))["peak"] > 300 << 20


def test_a_signal_does_not_break_off_what_is_being_read(tmp_path: Path) -> None:
    workspace = model(
        tmp_path,
        "import signal\n"
        "signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)\n"
        "for _ in range(2000): open('d').close()\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n",
    )
    (workspace / "d").write_text("1")
    assert set(watch_one(workspace)["seen"]["reads"]) == {"net.py", "d"}
