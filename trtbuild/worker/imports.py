"""Which modules a stage asked for, found or not, and what the import system itself did to files to find them."""

from __future__ import annotations

import builtins
import importlib.metadata
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import _bootstrap_external
from importlib.machinery import FileFinder
from typing import Any

from trtbuild.reads import PACKAGE, TOP, found, python_path
from trtbuild.worker.ownership import Ownership, python_folders


class Imports:
    """Watches imports from when it is made until `end`.

    What it puts into Python's import system does little: a trace runs some hundred thousand import statements.
    """

    def __init__(self, owner: Ownership) -> None:
        self._owner = owner
        self._known = set(sys.modules)
        self._named: set[str] = set()
        # By search, "sys.path" or a package: the user's folders in their order, and the names asked for.
        self._folders: dict[str, dict[str, None]] = {}
        self._asked: dict[str, set[str]] = {}
        self._last_path: list[str] = []
        self._others: set[str | None] = {None}
        self._listed: Counter[str] = Counter()
        self._packages = tuple(f"{folder}/" for folder in python_folders())
        self._replaced: list[tuple[Any, str, Any]] = []
        # Each import asks for the same folders again, and each question to the kernel is one that is watched.
        self._replace(_bootstrap_external, "_path_stat", self._stat_once)
        # Who lists a folder of sys.path for modules, or for the metadata of distributions, does not read its names.
        self._replace(FileFinder, "_fill_cache", lambda fill: self._counted(fill, "path"))
        metadata: Any = importlib.metadata
        self._replace(metadata.FastPath, "children", lambda children: self._counted(children, "root"))
        self._replace(builtins, "__import__", self._noted)
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Watch no more."""
        for owner, name, original in self._replaced:
            setattr(owner, name, original)
        sys.meta_path.remove(self)

    def names(self) -> set[str]:
        """The names of packages and modules that import statements named, whoever they stand in."""
        return {name.partition(".")[0] for name in self._named}

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

    def _stat_once(self, ask: Callable[[str], os.stat_result]) -> Callable[[str], os.stat_result]:
        """What the import system asks of a path: in the folders of packages nothing changes while a stage runs."""
        known: dict[str, os.stat_result] = {}

        def stat(path: str) -> os.stat_result:
            found = known.get(path)
            if found is None:
                found = ask(path)
                if path.startswith(self._packages):
                    known[path] = found
            return found

        return stat

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

    def _replace(self, owner: Any, name: str, replacement: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        self._replaced.append((owner, name, original))
        setattr(owner, name, replacement(original))

    def _counted(self, function: Callable[..., Any], attribute: str) -> Callable[..., Any]:
        def counted(of: Any) -> Any:
            self._listed[os.path.abspath(getattr(of, attribute) or ".")] += 1
            return function(of)

        return counted

    def _noted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        named, others = self._named.add, self._others

        def imported(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
            if level == 0:
                named(name)
                if globals is not None and (file := globals.get("__file__")) not in others:
                    self._note_import(name, file)
            return function(name, globals, locals, fromlist, level)

        return imported

    def _note_import(self, name: str, file: Any) -> None:
        if (
            not isinstance(file, str)
            or file.startswith(self._packages)
            or not self._owner.theirs(os.path.abspath(file))
        ):
            self._others.add(file)
        else:
            # What is loaded already is not looked for, but a user's file of that name would be found by plain Python.
            self._note_top(name.partition(".")[0])
