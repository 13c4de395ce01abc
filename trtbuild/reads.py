"""What a stage was seen to read, and what the same reads would give now.

The parts of a record that a stage's reads make, each left out where it is empty but for the first and the last:

reads          {file: digest of its content, or None where it was opened in vain}
exists         {path: "file", "folder" or None}, of what was only asked for; of a link also where it points
listings       {folder: digest of the names in it, or None}
modules        {"sys.path" or a package: {"in": folders, "found": {name: paths}}}: where modules were looked for, and
               where those asked for lie, the first winning
distributions  {distribution: version, or None where it was asked for in vain}

Paths are relative to the workspace where they lie inside. Beside these, and in no key, is kept what is needed to look
again: "asked" names the modules that were asked for, found or not, so that a file which would now come first is
noticed; "by" who saw it all, the kernel, or Python alone, which misses what native code reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Any

from trtbuild.toolchain import distributions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trtbuild.signs import Digests

PARTS = ("reads", "exists", "listings", "modules", "distributions")
_ALWAYS = ("reads", "distributions")

# The search for modules that are in no package: in these folders, then in those that PYTHONPATH names at the time.
TOP = "sys.path"

Seen = Mapping[str, Any]

_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES)
# The folder that trtbuild lies in: where it is not installed, workers have it in their PYTHONPATH.
PACKAGE = os.path.abspath(f"{__file__}/../..")
# What trtbuild itself puts into a workspace, which is no more the user's there than a cache of bytecode is.
_OWN = ("cache", "dist")


def parts_of(record: Seen) -> dict[str, Any]:
    """The parts of a record, or of what was seen, that reads made; empty where the stage discovers nothing."""
    if "reads" not in record:
        return {}
    return {part: record[part] for part in PARTS if part in _ALWAYS or record.get(part)}


def present(seen: Seen, workspace_root: os.PathLike[str] | str, digests: Digests) -> dict[str, Any]:
    """What the same reads would give now. A mere record does not say which modules were asked for: they stay."""
    root = os.fspath(workspace_root)
    installed = distributions()
    now = {
        "reads": {path: digests.of(os.path.join(root, path)) for path in seen["reads"]},
        "exists": {path: state(os.path.join(root, path)) for path in seen.get("exists", ())},
        "listings": {path: listing(root, path) for path in seen.get("listings", ())},
        "modules": {name: _again(root, name, search, seen) for name, search in seen.get("modules", {}).items()},
        "distributions": {name: installed.get(name) for name in seen["distributions"]},
    }
    return parts_of(now)


def watched_paths(seen: Seen) -> list[str]:
    """The paths, as recorded, whose signs together tell that none of it changed.

    A sign is what stat says, and for a link where it points. Two things are not told by paths: the installed
    distributions, and the value of PYTHONPATH.
    """
    paths = {*seen["reads"], *seen.get("exists", ()), *seen.get("listings", ())}
    modules: list[str] = []
    for name, search in seen.get("modules", {}).items():
        paths |= {*_folders(name, search["in"])}
        modules += [path for places in search["found"].values() for path in places]
    # A folder becomes a package, or ceases to be one, by a file inside it.
    return sorted(paths | {path.rpartition("/")[0] for path in modules if "/__init__." in path or path[-1] == "/"})


def state(path: str) -> str | None:
    """What asking whether a path exists can tell."""
    try:
        own = os.lstat(path)
    except OSError:
        return None
    if not S_ISLNK(own.st_mode):
        return _kind(own.st_mode)
    try:
        kind = f"a {_kind(os.stat(path).st_mode)}"
    except OSError:
        kind = "nothing"
    return f"link to {os.readlink(path)}, {kind}"


def listing(root: str, folder: str) -> str | None:
    """The digest of the names in a folder, None where there is no such folder."""
    kept = names_in(root, folder)
    if kept is None:
        return None
    from trtbuild.digest import digest_bytes

    return digest_bytes("\0".join(kept).encode(errors="surrogateescape"))


def names_in(root: str, folder: str) -> list[str] | None:
    """The names in a folder that count, sorted; None where there is no such folder."""
    names = _names(os.path.join(root, folder))
    if names is None:
        return None
    ignored = {"__pycache__", *(_OWN if folder == "." else ())}
    return sorted(name for name in names if name not in ignored and not name.endswith(".pyc"))


def found(root: str, search: str, folders: Iterable[str], asked: Iterable[str]) -> dict[str, list[str]]:
    """Where each of the names that were asked for would be found, in the order of the search."""
    places: dict[str, list[str]] = {}
    for folder in dict.fromkeys(relative(root, path) for path in _folders(search, folders)):
        path = os.path.join(root, folder)
        names = _names(path) or frozenset()
        for module in asked if names else ():
            for where in _modules_in(path, module, names):
                places.setdefault(module, []).append(_join(folder, where))
    return dict(sorted(places.items()))


def relative(root: str, path: str) -> str:
    """An absolute path as records write it."""
    return "." if path == root else path.removeprefix(root.rstrip("/") + "/")


def python_path() -> tuple[str, ...]:
    """The folders that the user's PYTHONPATH names; those that packages are installed into are told by versions."""
    return _python_path(os.environ.get("PYTHONPATH", ""))


@cache
def _python_path(value: str) -> tuple[str, ...]:
    given = [os.path.abspath(entry) for entry in value.split(os.pathsep) if entry]
    return tuple(dict.fromkeys(entry for entry in given if entry != PACKAGE and not holds_distributions(entry)))


def holds_distributions(folder: str) -> bool:
    """Whether a folder of sys.path is one that packages are installed into, wherever it lies."""
    return any(name.endswith(".dist-info") for name in _names(folder or ".") or ())


def _again(root: str, name: str, search: Seen, seen: Seen) -> Seen:
    if "asked" not in seen:
        return search
    return {"in": search["in"], "found": found(root, name, search["in"], seen["asked"][name].split())}


def _folders(search: str, folders: Iterable[str]) -> Iterator[str]:
    yield from folders
    if search == TOP:
        yield from python_path()


def _modules_in(folder: str, name: str, names: Iterable[str]) -> list[str]:
    """The file that importing a name would find, as importlib's FileFinder; a folder that is no package comes last."""
    is_folder = name in names and os.path.isdir(f"{folder}/{name}")
    if is_folder:
        inside = _names(f"{folder}/{name}") or ()
        for suffix in _SUFFIXES:
            if f"__init__{suffix}" in inside:
                return [f"{name}/__init__{suffix}"]
    file = next(([f"{name}{suffix}"] for suffix in _SUFFIXES if f"{name}{suffix}" in names), [])
    return [*file, f"{name}/"] if is_folder else file


def _names(folder: str) -> frozenset[str] | None:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return None


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _kind(mode: int) -> str:
    return "folder" if S_ISDIR(mode) else "file" if S_ISREG(mode) else "device"
