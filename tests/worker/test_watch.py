"""What Python itself tells of what a stage read: without the kernel, and of modules and distributions with it too."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.worker.watched import watch_one
from trtbuild.toolchain import normal_name
from trtbuild.worker.owners import owners


def watched(workspace: Path, code: str, level: str = "off", **environment: str) -> dict[str, Any]:
    """What a model of this code is seen to read."""
    (workspace / "net.py").write_text(f"{code}\n")
    found: dict[str, Any] = watch_one(workspace, level, **environment)["seen"]
    return found


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    root.mkdir()
    return root


@pytest.fixture(params=["off", "audit"])
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_imported_modules_and_opened_files_are_seen_and_what_was_written_is_not(workspace: Path, level: str) -> None:
    (workspace / "helper.py").write_text("x = open('data.txt').read()\nopen('out.txt', 'w').write('x')\n")
    (workspace / "data.txt").write_text("1")
    assert set(watched(workspace, "import helper", level)["reads"]) == {"net.py", "helper.py", "data.txt"}


def test_a_file_that_was_looked_for_in_vain_is_seen(workspace: Path, level: str) -> None:
    seen = watched(workspace, "try: open('absent.json')\nexcept OSError: pass", level)
    assert seen["reads"].keys() == {"net.py", "absent.json"} and seen["reads"]["absent.json"] is None


def test_a_source_is_seen_through_its_fresh_pyc(workspace: Path, level: str) -> None:
    (workspace / "helper.py").write_text("x = 1\n")
    subprocess.run([sys.executable, "-c", "import helper"], cwd=workspace, check=True, env={"PATH": os.environ["PATH"]})
    assert (workspace / "__pycache__").is_dir()
    assert set(watched(workspace, "import helper", level)["reads"]) == {"net.py", "helper.py"}
    (workspace / "net.py").write_text("import helper; open('helper.py', 'w').write('x = 22222')\n")
    assert watch_one(workspace, level)["error"][1] == "A file changed while the stage read it"


def test_a_link_is_seen_as_the_link_that_may_point_elsewhere(workspace: Path, level: str) -> None:
    (workspace / "v1.json").write_text("1")
    (workspace / "current.json").symlink_to("v1.json")
    assert set(watched(workspace, "open('current.json')", level)["reads"]) == {"net.py", "current.json"}


def test_packages_are_seen_by_importlib_too_and_in_vain(workspace: Path) -> None:
    code = (
        "import importlib\nimportlib.import_module('hypothesis')\ntry: import not_there_yet\nexcept ImportError: pass"
    )
    found = watched(workspace, code)["distributions"]
    assert found["hypothesis"] and found["not-there-yet"] is None


def test_modules_belong_to_the_distributions_that_importlib_names() -> None:
    found = owners()
    for name, named in packages_distributions().items():
        # The one with a slash is a folder of a package that has no __init__; what it belongs to goes by its first name.
        top = name.partition("/")[0]
        assert {normal_name(one) for one in named} <= found.get(top, set()) | {"trtbuild"}


def test_where_modules_are_looked_for_is_seen(workspace: Path, tmp_path: Path, level: str) -> None:
    (workspace / "package").mkdir()
    (workspace / "package/__init__.py").write_text("from . import inner\n")
    (workspace / "package/inner.py").touch()
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs/other.py").touch()
    code = "import package, other\ntry: import local_opts\nexcept ImportError: pass"
    path = os.pathsep.join([str(tmp_path / "libs"), str(ROOT)])
    seen = watched(workspace, code, level, PYTHONPATH=path)
    assert seen["modules"] == {
        "sys.path": {
            "in": ["."],
            "found": {"other": [str(tmp_path / "libs/other.py")], "package": ["package/__init__.py"]},
        },
        "package": {"in": ["package"], "found": {"inner": ["package/inner.py"]}},
    }
    assert "local_opts" in seen["asked"]["sys.path"].split()


def test_what_is_listed_is_seen_and_what_the_import_system_lists_is_not(workspace: Path, level: str) -> None:
    (workspace / "data").mkdir()
    (workspace / "helper.py").touch()
    code = "import helper, os\nfrom pathlib import Path\nlist(Path('data').iterdir())"
    assert set(watched(workspace, code, level)["listings"]) == {"data"}


def test_a_workspace_in_a_system_folder_is_the_user_s_all_the_same(workspace: Path, tmp_path: Path, level: str) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        f"from trtbuild.worker import ownership\nownership.SYSTEM += ({str(tmp_path)!r},)\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    assert set(watched(workspace, "import os", level, PYTHONPATH=path)["reads"]) == {"net.py"}
