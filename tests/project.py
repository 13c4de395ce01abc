"""A small project to build in tests: a recipe, its model, and trtbuild run on it as users run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import MODELS, ROOT, Ran

RECIPE = """\
[model]
entry = "models/nets.py:Net"
args = {{ classes = 4 }}
{model}
[dims.batch]
min = 1
opt = 4
max = 8

[inputs.x]
shape = ["batch", 3, 16, 16]
range = [0.0, 1.0]

[compile]
min_block_size = 1
{compile}
[targets.linux]
platform = "linux-x86_64"
compute_capability = ["8.9"]
precision = ["fp32"]
formats = ["engine"]
"""

STATIC = RECIPE.replace("min = 1\nopt = 4\nmax = 8", "min = 4\nopt = 4\nmax = 4")


class Project:
    """A workspace with `net.toml` and `models/nets.py`."""

    def __init__(self, root: Path, recipe: str = RECIPE, *, model: str = "", compile: str = "") -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        (root / "pyproject.toml").touch()
        (root / "models").mkdir(exist_ok=True)
        self.model = root / "models" / "nets.py"
        self.model.write_text((MODELS / "nets.py").read_text())
        self.recipe = root / "net.toml"
        self.recipe.write_text(recipe.format(model=model, compile=compile))

    def edit(self, path: Path, old: str, new: str) -> None:
        """Replace a text that must be there."""
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def trtbuild(self, *arguments: str, timeout: float = 400, **environment: str) -> Ran:
        """Run trtbuild in the workspace."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def run(self, *arguments: str, **environment: str) -> Ran:
        """`trtbuild run net.toml --json`."""
        return self.trtbuild("run", "net.toml", "--json", *arguments, **environment)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """trtbuild in the background."""
        return subprocess.Popen(
            # A shell that starts tests in the background has them ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            args=self.command(*arguments),
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "trtbuild", *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRTBUILD")}
        path = os.pathsep.join(filter(None, [more.pop("first_on_path", ""), str(ROOT), kept.get("PYTHONPATH", "")]))
        return {**kept, "PYTHONPATH": path, **more}

    def explain(self, stage: str) -> str:
        """`trtbuild explain net.toml STAGE`."""
        done = self.trtbuild("explain", "net.toml", stage)
        assert done.code == 0, done.err
        return done.out

    def artifacts(self) -> dict[str, tuple[bytes, int]]:
        """Bytes and mtime of every file in dist/."""
        files = [path for path in sorted((self.root / "dist").rglob("*")) if path.is_file()]
        return {path.relative_to(self.root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def kill_when(
    process: subprocess.Popen[str], ready: Callable[[], bool], after: float = 0.0, within: float = 60.0
) -> None:
    """SIGKILL a process a while after something has come true, or when it ends by itself."""
    deadline = time.monotonic() + within
    while process.poll() is None and not ready() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
