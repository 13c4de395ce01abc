"""Every system in a virtual environment of its own, as a user installs it; nothing of one slows down another."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[3]
_TAIL = 600


class NotInstalled(Exception):
    """A system could not be installed."""


def peer(venvs: Path, name: str, requirement: str) -> Path:
    """The folder of a peer's console scripts; what an earlier run installed is used again."""
    folder = venvs / name
    mark = folder / "installed"
    if not mark.exists():
        _create(folder)
        _pip(folder, "install", "--quiet", requirement)
        mark.touch()
    return folder / "bin"


def trtbuild(venvs: Path) -> Path:
    """The folder of trtbuild's console script, installed anew from this tree, regularly and not for editing.

    An installation for editing may put a finder into every start of Python, and it would be measured while it is
    edited. The tree itself is not built in: what an installation leaves there would find its way into commits.
    """
    folder, source = venvs / "trtbuild", venvs / "trtbuild-source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "trtbuild", source / "trtbuild", ignore=shutil.ignore_patterns("__pycache__"))
    if not (folder / "bin").exists():
        _create(folder)
        _pip(folder, "install", "--quiet", str(source))
    _pip(folder, "install", "--quiet", "--no-deps", "--force-reinstall", str(source))
    return folder / "bin"


def version(scripts: Path, package: str) -> str:
    """The version of a package of an environment, from the name of its metadata folder."""
    normal = package.replace("-", "_").lower()
    for folder in scripts.parent.glob("lib/python*/site-packages/*.dist-info"):
        name, _, found = folder.name.removesuffix(".dist-info").partition("-")
        if name.lower() == normal:
            return found
    return "unknown"


def _create(folder: Path) -> None:
    # Without pip there is no setuptools either, whose .pth file every start of Python would pay for.
    shutil.rmtree(folder, ignore_errors=True)
    venv.EnvBuilder(symlinks=True).create(folder)


def _pip(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(f"pip: {done.stderr.strip()[-_TAIL:]}")
