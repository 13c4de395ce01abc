"""Keys are the same on every machine: nothing of where, when and as whom a build runs may be in them."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.project import Project

# What machines differ in, as far as one process can be made to see it.
MACHINES: list[dict[str, str]] = [
    {},
    {
        "PYTHONHASHSEED": "1",
        "LC_ALL": "C",
        "LANG": "C",
        "TZ": "Pacific/Auckland",
        "USER": "someone",
        "HOME": "/nowhere",
    },
    {"PYTHONHASHSEED": "4242", "LC_ALL": "C.UTF-8", "TZ": "UTC", "OMP_NUM_THREADS": "7", "COLUMNS": "40", "CI": "true"},
]
PLACES = ["one", "another place/with späces/deep/er", "x" * 60]


def build(root: Path, environment: dict[str, str], seed: int) -> dict[str, Any]:
    """Build a workspace whose files were written in an order of their own; returns keys and digests by stage."""
    project = Project(root)
    texts = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    (root / "models" / "helpers.py").write_text("SCALE = 2\n")
    order = [*texts, root / "notes.txt", root / "models" / "zz.py", root / "models" / "aa.py"]
    for path in texts:
        path.unlink()
    random.Random(seed).shuffle(order)
    for path in order:
        path.write_bytes(texts.get(path, b""))
        os.utime(path, (seed * 1e8, seed * 1e8))
    kept = {**project.environment(), **environment}
    done = subprocess.run(
        [*project.command("run", "net.toml", "--json", "-j", str(seed + 1))],
        cwd=root if seed % 2 else root / "models" / "..",
        env=kept,
        umask=(0o022, 0o077, 0o002)[seed % 3],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((root / "dist/net/linux/fp32/manifest.json").read_text())
    return {
        "keys": {stage["id"]: stage["key"] for stage in json.loads(done.stdout)["stages"]},
        "records": {stage["id"]: stage["key_inputs"] for stage in manifest["stages"]},
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return build(tmp_path_factory.mktemp("m0") / PLACES[0], MACHINES[0], 0)


@pytest.mark.parametrize("machine", [1, 2])
def test_two_machines_have_the_same_keys(first: dict[str, Any], tmp_path: Path, machine: int) -> None:
    found = build(tmp_path / PLACES[machine], MACHINES[machine], machine)
    assert found["records"] == first["records"]
    assert found["keys"] == first["keys"]
