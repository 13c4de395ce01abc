"""Whose a path is: the user's, or of Python, installed packages and the system, which versions tell of."""

from __future__ import annotations

import contextlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from trtbuild.reads import holds_distributions, relative

SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/proc", "/sys", "/dev", "/run", "/opt/nvidia")


class Ownership:
    """Tells the user's paths from others. Links count for where they lie; folders for where they really are."""

    def __init__(self, workspace: Path, ignore: Iterable[Path] = ()) -> None:
        self.root = os.path.realpath(workspace).rstrip("/")
        self._named = os.path.abspath(workspace)
        given = {*python_folders(), *SYSTEM, *map(str, ignore)}
        self._foreign = tuple({f"{p.rstrip('/')}/" for name in given for p in (name, os.path.realpath(name))})
        # A workspace may itself lie in such a folder (/usr/src/app); then only those inside it are not the user's.
        inside = f"{self.root}/"
        self._foreign_inside = tuple(
            folder for folder in self._foreign if folder.startswith(inside) and folder != inside
        )
        self._folders: dict[str, bool] = {}
        self._reals: dict[str, str] = {}
        self._programs = {os.path.abspath(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder}
        known = {self.root, self._named, *(folder.rstrip("/") for folder in self._foreign)}
        self._above = known | {str(parent) for folder in known for parent in Path(folder).parents}

    def theirs(self, path: str) -> bool:
        """Whether an absolute path is the user's."""
        return self.their_folder(path.rpartition("/")[0]) and not self._is_foreign(f"{path}/")

    def their_folder(self, folder: str) -> bool:
        """Whether what lies in an absolute folder is the user's."""
        known = self._folders.get(folder)
        if known is None:
            real = f"{self._real(folder)}/"
            # Metadata of distributions, also of those installed for editing: their versions are in the record.
            metadata = ".egg-info/" in real or ".dist-info/" in real
            known = self._folders[folder] = not (metadata or self._is_foreign(real))
        return known

    def inside(self, path: str) -> bool:
        """Whether a path is the workspace or lies in it."""
        return f"{path}/".startswith((f"{self.root}/", f"{self._named}/"))

    def always_there(self, path: str) -> bool:
        """Whether a folder is above the workspace or above what is not the user's: it cannot fail to be there."""
        return path in self._above

    def of_programs(self, path: str) -> bool:
        """Whether a path lies in a folder that programs are looked for in, outside the workspace."""
        folder = path.rpartition("/")[0]
        return folder in self._programs and not self.inside(folder)

    def relative(self, path: str) -> str:
        """A path as records write it."""
        shorter = relative(self._named, path)
        return relative(self.root, path) if shorter == path else shorter

    def _real(self, folder: str) -> str:
        """Where a folder really is: what is known of the folders above it is not asked again."""
        known = self._reals.get(folder)
        if known is None:
            above, _, name = folder.rpartition("/")
            known = f"{self._real(above) if above else ''}/{name}" if name else ""
            with contextlib.suppress(OSError):
                known = os.path.realpath(os.path.join(os.path.dirname(known), os.readlink(known or "/")))
            self._reals[folder] = known
        return known

    def _is_foreign(self, real: str) -> bool:
        return real.startswith(self._foreign_inside if real.startswith(f"{self.root}/") else self._foreign)


def python_folders() -> set[str]:
    """The folders of Python itself, of installed packages and of trtbuild."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages(), sys.prefix, sys.base_prefix}
    paths |= {folder for folder in sys.path if holds_distributions(folder)}
    return {*filter(None, paths), str(Path(__file__).parents[1])}
