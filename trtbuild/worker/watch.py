"""What a stage really read: the user's Python files, data files, and installed distributions.

An audit hook sees every file that Python opens; modules tell their source files. Files of Python itself, of installed
packages and of the system are covered by the versions of the distributions that were imported. Not seen: files opened
by native code (safetensors, memory maps) unless they are declared in the recipe, and files that were only stat-ed.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_file
from trtbuild.errors import StageError
from trtbuild.toolchain import distributions, normal_name

_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/dev", "/run", "/opt/nvidia")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Watch:
    """Starts to watch when made; an audit hook cannot be taken off, so one process watches one stage."""

    def __init__(self, workspace: Path, ignore: Iterable[Path]) -> None:
        self._workspace = workspace
        packages = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
        packages |= {*site.getsitepackages(), site.getusersitepackages(), sys.prefix, sys.base_prefix}
        packages |= {folder for folder in sys.path if _holds_distributions(folder)}
        packages.add(str(Path(__file__).parents[1]))
        self._root = os.path.realpath(workspace).rstrip("/") + "/"
        self._foreign = tuple(os.path.realpath(p).rstrip("/") + "/" for p in {*packages, *_SYSTEM, *map(str, ignore)})
        # A workspace may itself lie in such a folder (/usr/src/app); then only those inside it are not the user's.
        self._foreign_inside = tuple(
            folder for folder in self._foreign if folder.startswith(self._root) and folder != self._root
        )
        self._opened: dict[str, tuple[int, int] | None] = {}
        self._names: set[str] = set()
        self._known_modules = set(sys.modules)
        self._import = builtins.__import__
        builtins.__import__ = self._imported
        sys.addaudithook(self._audit)

    def finish(self) -> dict[str, Any]:
        """{"files": {path: digest or None}, "distributions": {name: version}}.

        Raises StageError where a file changed while the stage ran: its output belongs to no state of the sources.
        """
        builtins.__import__ = self._import
        opened, self._opened = dict(self._opened), {}
        for name, module in list(sys.modules.items()):
            source = getattr(module, "__file__", None)
            if name not in self._known_modules and isinstance(source, str) and (path := self._ours(source)):
                opened.setdefault(path, _sign(path))
        files: dict[str, str | None] = {}
        for path, sign in sorted(opened.items()):
            if _sign(path) != sign:
                raise StageError(
                    "A file changed while the stage read it",
                    [("file", path)],
                    "Run the command again.",
                )
            files[self._relative(path)] = digest_file(Path(path)) if sign is not None else None
        return {"files": files, "distributions": self._distributions()}

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            target, _, flags = args
            if isinstance(flags, int) and flags & _WRITING:
                return
            with contextlib.suppress(Exception):
                self._note(target)
        elif event in ("ctypes.dlopen", "sqlite3.connect") and args and args[0]:
            with contextlib.suppress(Exception):
                self._note(args[0])

    def _note(self, target: Any) -> None:
        if isinstance(target, int):
            target = os.readlink(f"/proc/self/fd/{target}")
        name = os.fsdecode(target)
        if name.endswith(".pyc"):
            # A fresh .pyc is opened in place of the source that it stands for.
            name = importlib.util.source_from_cache(name)
        path = self._ours(name)
        if path and path not in self._opened and not os.path.isdir(path):
            self._opened[path] = _sign(path)

    def _ours(self, name: str) -> str | None:
        """The absolute path of a file that is the user's. A link is kept as such: it may come to point elsewhere."""
        real = os.path.realpath(name)
        foreign = real.startswith(self._foreign_inside if real.startswith(self._root) else self._foreign)
        # Metadata of distributions, also of those installed for editing: their versions are in the record.
        return None if foreign or ".egg-info/" in real or ".dist-info/" in real else os.path.abspath(name)

    def _relative(self, path: str) -> str:
        for root in (os.path.abspath(self._workspace) + "/", self._root):
            if path.startswith(root):
                return path.removeprefix(root)
        return path

    def _imported(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level == 0:
            self._names.add(name.partition(".")[0])
        return self._import(name, globals, locals, fromlist, level)

    def _distributions(self) -> dict[str, str | None]:
        from importlib.metadata import packages_distributions

        installed = distributions()
        owners = packages_distributions()
        # Not every import goes through the hook: those by importlib and relative ones are told by what they loaded.
        used = self._names | {name.partition(".")[0] for name in set(sys.modules) - self._known_modules}
        names = {normal_name(owner) for name in used for owner in owners.get(name, ())}
        # Asked for in vain: a later installation may change what the model does.
        absent = {normal_name(name) for name in self._names if name not in sys.modules and name not in owners}
        found = {name: installed.get(name) for name in sorted(names | absent)}
        return {name: version for name, version in found.items() if name != "trtbuild" and (version or name in absent)}


def _holds_distributions(folder: str) -> bool:
    """Whether a folder of sys.path is one that packages are installed into, wherever it lies."""
    try:
        return any(name.endswith(".dist-info") for name in os.listdir(folder or "."))
    except OSError:
        return False


def _sign(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
