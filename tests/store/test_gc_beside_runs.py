"""`cache gc` and `cache verify` in real processes beside real runs, and killed while they work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.project import Project

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
precision = ["fp32", "fp16", "bf16"]
formats = ["engine", "onnx"]
"""


class Nulls(Project):
    """A workspace with recipes of null stages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "models").mkdir(parents=True)
        (root / "pyproject.toml").touch()
        self.source = root / "models/net.py"
        for n in range(5):
            (root / f"r{n}.toml").write_text(_RECIPE.format(n=n))

    def run_all(self) -> list[str]:
        """Which stages ran."""
        done = self.trtbuild("run", ".", "--json")
        assert done.code == 0, done.err
        return done.ran()


_COLLECT = """
import sys
from pathlib import Path
from trtbuild.store.gc import collect
from trtbuild.store.local import LocalStore
from trtbuild.store.verify import verify
for _ in range(int(sys.argv[2])):
    collect(LocalStore(Path(sys.argv[1])), max_size=0)
    assert verify(LocalStore(Path(sys.argv[1]))).damaged == []
"""


def collector(project: Project, times: int) -> subprocess.Popen[str]:
    """A process that removes all that it may, and reads the rest, so many times."""
    command = [sys.executable, "-c", _COLLECT, str(project.root / "cache"), str(times)]
    return subprocess.Popen(command, env=project.environment(), stderr=subprocess.PIPE, text=True)


def test_whatever_gc_removes_meanwhile_a_run_makes_all_and_its_dist_has_nothing_to_do_then(tmp_path: Path) -> None:
    project = Nulls(tmp_path / "w")
    for edit in range(3):
        project.source.write_text(f"version {edit}\n")
        collecting = collector(project, 1_000_000)
        done = project.trtbuild("run", ".", "--json")
        assert collecting.poll() is None, collecting.communicate()
        collecting.kill()
        collecting.communicate()
        assert done.code == 0 and "damaged or gone" not in done.err, done.err
        assert set(done.statuses().values()) == {"ran"}
        # Other versions of the sources are behind no dist/ any more.
        last = project.trtbuild("cache", "gc", "--max-size", "0", "--json").json
        assert last["kept"] == last["kept_for_dist"] == len(done.statuses())
        assert project.run_all() == []


def test_collectors_killed_at_any_moment_leave_a_sound_store(tmp_path: Path) -> None:
    project = Nulls(tmp_path / "w")
    for number in range(8):
        project.source.write_text(f"version {number % 3}\n")
        run = project.start("run", ".")
        time.sleep(0.3)
        while run.poll() is None:
            collecting = collector(project, 1_000_000)
            time.sleep(0.2 + 0.04 * number)
            collecting.send_signal(signal.SIGKILL)
            collecting.communicate()
        _, err = run.communicate(timeout=120)
        assert run.returncode == 0 and "damaged or gone" not in err, err
    assert project.trtbuild("cache", "verify", "--json").json["damaged"] == []
    assert project.run_all() == []
    assert not list((project.root / "cache/tmp").iterdir())
