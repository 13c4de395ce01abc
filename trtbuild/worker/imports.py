"""Which modules a stage asked for, found or not, and what the import system itself did to files to find them."""

from __future__ import annotations

import builtins
import os
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import _bootstrap_external
from typing import Any

from trtbuild.reads import PACKAGE, TOP, found, python_path
from trtbuild.worker.ownership import Ownership, python_folders


class Imports:
    """Watches imports from when it is made until `end`."""

    def __init__(self, owner: Ownership) -> None:
        self._owner = owner
        self._known = set(sys.modules)
        # Names of packages and modules that an import statement named, whoever it stands in.
        self.names: set[str] = set()
        # By search, "sys.path" or a package: the user's folders in their order, and the names asked for.
        self._folders: dict[str, dict[str, None]] = {}
        self._asked: dict[str, set[str]] = {}
        self._last_path: list[str] = []
        self._user_files: dict[str, bool] = {}
        self._listed: Counter[str] = Counter()
        self._packages = tuple(f"{folder}/" for folder in python_folders())
        self._stats: dict[str, os.stat_result] = {}
        self._stat = getattr(_bootstrap_external, "_path_stat")  # noqa: B009
        # Each import asks for the same folders again, and each question to the kernel is one that is watched.
        setattr(_bootstrap_external, "_path_stat", self._stat_once)  # noqa: B010
        self._import = builtins.__import__
        builtins.__import__ = self._imported
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Watch no more."""
        builtins.__import__ = self._import
        setattr(_bootstrap_external, "_path_stat", self._stat)  # noqa: B010
        sys.meta_path.remove(self)

    def loaded(self) -> list[str]:
        """The modules that were loaded meanwhile."""
        return [name for name in list(sys.modules) if name not in self._known]

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> None:
        """Find nothing, as the first that is asked: what is asked for in vain is seen here alone."""
        if path is None:
            self._note_top(name)
        else:
            package, _, last = name.rpartition(".")
            self._add_folders(package, path)
            self._asked.setdefault(package, set()).add(last)

    def searches(self) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """The searches through the user's folders as `reads` has them: where and what was found; what was asked for."""
        builtin = set(sys.builtin_module_names)
        asked = {name: sorted(self._asked.get(name, set()) - builtin) for name in sorted(self._folders)}
        modules = {}
        for name, names in asked.items():
            folders = [self._owner.relative(folder) for folder in self._folders[name]]
            modules[name] = {"in": folders, "found": found(self._owner.root, name, folders, names)}
        return modules, {name: " ".join(names) for name, names in asked.items()}

    def note_listing(self, folder: str) -> None:
        """The import system listed a folder."""
        self._listed[folder] += 1

    def listed(self, folder: str) -> int:
        """How often the import system listed a folder."""
        return self._listed[folder]

    def covers(self, path: str) -> bool:
        """Whether what was asked of a path is told by where modules are found: the import system asks the same."""
        folder, _, last = path.rpartition("/")
        for name, folders in self._folders.items():
            if path in folders or (folder in folders and last.partition(".")[0] in self._asked.get(name, ())):
                return True
        return last.startswith("__init__.") and self.covers(folder)

    def _note_top(self, name: str) -> None:
        if sys.path != self._last_path:
            self._last_path = list(sys.path)
            self._add_folders(TOP, self._last_path)
        self._asked.setdefault(TOP, set()).add(name)

    def _stat_once(self, path: str) -> os.stat_result:
        """What the import system asks of a path: in the folders of packages nothing changes while a stage runs."""
        known = self._stats.get(path)
        if known is None:
            known = self._stat(path)
            if path.startswith(self._packages):
                self._stats[path] = known
        return known

    def _add_folders(self, search: str, path: Sequence[str]) -> None:
        for entry in path:
            folder = os.path.abspath(entry)
            known = self._folders.get(search, ())
            if folder in known or not self._owner.their_folder(folder):
                continue
            # Those of PYTHONPATH are looked up when they are needed: in another environment there are others. The one
            # that trtbuild itself lies in is only there for the workers.
            if search != TOP or self._owner.inside(folder) or folder not in (*python_path(), PACKAGE):
                self._folders.setdefault(search, {})[folder] = None

    def _imported(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level == 0:
            top = name.partition(".")[0]
            self.names.add(top)
            # What is loaded already is not looked for, but a user's file of that name would be found by plain Python.
            if globals is not None and self._is_users(globals.get("__file__")):
                self._note_top(top)
        return self._import(name, globals, locals, fromlist, level)

    def _is_users(self, file: Any) -> bool:
        if not isinstance(file, str) or file.startswith(self._packages):
            return False
        known = self._user_files.get(file)
        if known is None:
            known = self._user_files[file] = self._owner.theirs(os.path.abspath(file))
        return known
