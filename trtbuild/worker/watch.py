"""What a stage really read: files, what it asked of others, folders it listed, modules, installed distributions.

Files are seen by an `Observer` at the kernel, or where there is none by an audit hook, which sees those that Python
opens and no others. Which modules were asked for, and which folders were listed to find them, only Python can tell.
What belongs to Python itself, to installed packages and to the system is covered by the versions of the distributions
that were imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from importlib.util import source_from_cache
from pathlib import Path
from typing import Any

from trtbuild import reads
from trtbuild.digest import digest_file
from trtbuild.errors import StageError
from trtbuild.toolchain import distributions, normal_name
from trtbuild.worker.imports import Imports
from trtbuild.worker.observe import Facts, Observer, sign
from trtbuild.worker.owners import owners
from trtbuild.worker.ownership import Ownership

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_LISTING = frozenset({"os.listdir", "os.scandir"})
_OPENING = frozenset({"open", "ctypes.dlopen", "sqlite3.connect"})


class Watch:
    """Starts to watch when made. An audit hook cannot be taken off, so one process watches one stage."""

    def __init__(self, owner: Ownership, observer: Observer | None = None, declared: Iterable[Path] = ()) -> None:
        self._owner = owner
        # Those of the recipe are in the key as such.
        self._declared = {os.path.abspath(path) for path in declared}
        self._observer = observer
        self._facts = Facts()
        self._imports = Imports(owner)
        self._events = _LISTING | _OPENING
        if observer is not None:
            observer.begin()
        else:
            sys.addaudithook(self._audit)

    def finish(self) -> dict[str, Any]:
        """What was read, as `reads` has it.

        StageError where a file changed while the stage ran: its output belongs to no state of the sources.
        """
        self._events = frozenset()
        self._imports.end()
        facts = self._observer.facts() if self._observer else self._facts
        if facts.trouble:
            raise StageError(
                "What the stage read could not be told",
                [("reason", facts.trouble)],
                "Run again; with --sandbox off only files that Python opens are told.",
            )
        if self._observer is None:
            self._add_sources(facts)
        files = self._files(facts)
        listings = self._listings(facts)
        modules, asked = self._imports.searches()
        seen = {
            "reads": {self._owner.relative(path): digest for path, digest in sorted(files.items())},
            "exists": self._existing(facts, files, listings),
            "listings": {self._owner.relative(path): digest for path, digest in sorted(listings.items())},
            "modules": modules,
            "distributions": self._distributions(),
        }
        return {**reads.parts_of(seen), "asked": asked, "by": "kernel" if self._observer else "python"}

    def _add_sources(self, facts: Facts) -> None:
        """Add the files of modules, of which not all are opened by Python itself."""
        for name in self._imports.loaded():
            source = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(source, str) and not source.endswith(".pyc"):
                path = os.path.abspath(source)
                if self._owner.theirs(path):
                    facts.opened.setdefault(path, sign(path))

    def _files(self, facts: Facts) -> dict[str, str | None]:
        files: dict[str, str | None] = {}
        for path, first in sorted(facts.opened.items()):
            now = sign(path)
            if path in facts.born or (path in facts.both and now != first):
                # The stage's own: what it left behind is read the next time, what it removed is not.
                if now is None or path in facts.both:
                    continue
            elif first is None and path in facts.changed:
                if path not in self._declared:
                    files[path] = None
                continue
            elif now != first:
                raise StageError("A file changed while the stage read it", [("file", path)], "Run the command again.")
            if path not in self._declared:
                files[path] = _digest(path) if now is not None else None
        return files

    def _existing(
        self, facts: Facts, files: dict[str, str | None], listings: dict[str, str | None]
    ) -> dict[str, str | None]:
        """What was asked for and is not told by anything else that was seen."""
        there = {path for path, found in (files | facts.asked | listings).items() if found}
        told = {*listings, *(parent for path in there for parent in _parents(path))}
        kept: dict[str, str | None] = {}
        for path, found in sorted(facts.asked.items()):
            temporary = found is None and path in facts.changed and reads.state(path) is None
            # The names that Python gives to code without a file are looked for as if they were files.
            unnamed = path.rpartition("/")[2].startswith("<")
            folder = found == "folder" and (path in told or self._owner.always_there(path))
            told_else = path in files or path in self._declared or self._imports.covers(path)
            if not (told_else or temporary or unnamed or folder):
                kept[self._owner.relative(path)] = found
        return kept

    def _listings(self, facts: Facts) -> dict[str, str | None]:
        return {path: digest for path, (digest, count) in facts.listed.items() if count > self._imports.listed(path)}

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        # Most events are others, and there are many: a trace of ResNet-50 has some hundred thousand.
        if event not in self._events:
            return
        with contextlib.suppress(Exception):
            if event in _LISTING:
                self._note_listing(args[0])
            elif args[0] and not (event == "open" and isinstance(args[2], int) and args[2] & _WRITING):
                self._note_open(args[0])

    def _note_open(self, target: Any) -> None:
        path = _path(target)
        if not self._owner.theirs(path):
            return
        if path.endswith(".pyc"):
            # A fresh .pyc is opened in place of the source that it stands for.
            path = source_from_cache(path)
        if path not in self._facts.opened and not os.path.isdir(path):
            self._facts.opened[path] = sign(path)

    def _note_listing(self, target: Any) -> None:
        folder = _path(target if target is not None else ".")
        if self._owner.theirs(folder):
            known = self._facts.listed.get(folder)
            digest, count = known or (reads.listing(self._owner.root, self._owner.relative(folder)), 0)
            self._facts.listed[folder] = digest, count + 1

    def _distributions(self) -> dict[str, str | None]:
        names = self._imports.names()
        installed = distributions()
        # Not every import goes through a statement: those by importlib and relative ones are told by what they loaded.
        used = names | {name.partition(".")[0] for name in self._imports.loaded()}
        owned = owners()
        owning = {owner for name in used for owner in owned.get(name, ())}
        # Asked for in vain: a later installation may change what the model does.
        absent = {normal_name(name) for name in names if name not in sys.modules and name not in owned}
        found = {name: installed.get(name) for name in sorted(owning | absent)}
        return {name: version for name, version in found.items() if name != "trtbuild" and (version or name in absent)}


def _path(target: Any) -> str:
    if isinstance(target, int):
        target = os.readlink(f"/proc/self/fd/{target}")
    return os.path.abspath(os.fsdecode(target))


def _digest(path: str) -> str | None:
    try:
        return digest_file(Path(path))
    except PermissionError:
        return None


def _parents(path: str) -> list[str]:
    return [str(parent) for parent in Path(path).parents]
