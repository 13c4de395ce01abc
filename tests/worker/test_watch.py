"""What a stage read, seen in a process of its own, since an audit hook cannot be taken off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

WATCHED = """
import json, sys
from pathlib import Path
from trtbuild.worker.watch import Watch
watch = Watch(Path(sys.argv[1]), [])
sys.path.insert(0, sys.argv[1])
exec(sys.argv[2])
print(json.dumps(watch.finish()))
"""


def watched(workspace: Path, code: str, **environment: str) -> dict[str, Any]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", WATCHED, str(workspace), code]
    done = subprocess.run(command, cwd=workspace, env=env, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_imported_modules_and_opened_files_are_seen_and_what_was_written_is_not(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("x = open('data.txt').read()\nopen('out.txt', 'w').write('x')\n")
    (tmp_path / "data.txt").write_text("1")
    assert set(watched(tmp_path, "import net")["files"]) == {"net.py", "helper.py", "data.txt"}


def test_a_file_that_was_looked_for_in_vain_is_seen(tmp_path: Path) -> None:
    code = "try: open('absent.json')\nexcept OSError: pass"
    assert watched(tmp_path, code)["files"] == {"absent.json": None}


def test_a_source_is_seen_through_its_fresh_pyc(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("x = 1\n")
    subprocess.run([sys.executable, "-c", "import net"], cwd=tmp_path, check=True, env={"PATH": os.environ["PATH"]})
    assert (tmp_path / "__pycache__").is_dir()
    edit = "import net; open('net.py', 'w').write('x = 22222')"
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path), edit],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "A file changed while the stage read it" in done.stderr


def test_a_link_is_seen_as_the_link_that_may_point_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "v1.json").write_text("1")
    (tmp_path / "current.json").symlink_to("v1.json")
    assert set(watched(tmp_path, "open('current.json')")["files"]) == {"current.json"}


def test_packages_are_seen_by_importlib_too_and_in_vain(tmp_path: Path) -> None:
    code = (
        "import importlib\nimportlib.import_module('hypothesis')\ntry: import not_there_yet\nexcept ImportError: pass"
    )
    found = watched(tmp_path, code)["distributions"]
    assert found["hypothesis"] and found["not-there-yet"] is None


def test_a_workspace_in_a_system_folder_is_the_user_s_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("x = 1\n")
    command = WATCHED.replace(
        "watch = Watch", f"import trtbuild.worker.watch as w; w._SYSTEM += ({str(tmp_path.parent)!r},)\nwatch = Watch"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", command, str(tmp_path), "import net"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(json.loads(done.stdout)["files"]) == {"net.py"}
