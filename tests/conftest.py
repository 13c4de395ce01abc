"""Fixtures that many tests share: a workspace of their own, and trtbuild run as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Ran:
    """A finished trtbuild: exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def statuses(self) -> dict[str, str]:
        """Status of each stage by id, of a run with --json."""
        return {stage["id"]: stage["status"] for stage in self.json["stages"]}

    def ran(self) -> list[str]:
        """Ids of the stages that ran, in the plan's order."""
        return [id for id, status in self.statuses().items() if status == "ran"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty workspace; the mark keeps trtbuild from looking further up."""
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "pyproject.toml").write_text("")
    return root


@pytest.fixture
def trtbuild(workspace: Path) -> Callable[..., Ran]:
    """Run trtbuild in the workspace, in a process of its own."""

    def run(*arguments: str, cwd: Path = workspace, timeout: float = 300, **environment: str) -> Ran:
        env = {name: value for name, value in os.environ.items() if not name.startswith("TRTBUILD")}
        env |= {"PYTHONPATH": str(ROOT), **environment}
        done = subprocess.run(
            [sys.executable, "-m", "trtbuild", *arguments],
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run
