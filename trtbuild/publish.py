"""Artifacts into `dist/`: every file whole, the manifest last, nothing touched that is as it should be."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtbuild.errors import MachineError
from trtbuild.files import aside_of, left_aside, read_json, saying_what, write_whole
from trtbuild.manifest import manifest_of
from trtbuild.plans import Cell, Plan
from trtbuild.proofs import Pending
from trtbuild.signs import Digests
from trtbuild.store.entry import Entry, Output
from trtbuild.store.local import LocalStore
from trtbuild.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact in dist/. `path` is relative to the workspace where it lies inside."""

    recipe: str
    target: str
    precision: str
    format: str
    path: str
    digest: str
    bytes: int
    verification: str

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Damaged(Exception):
    """A blob that was to be published is damaged or gone: the step that made it must run again."""

    def __init__(self, step: str, name: str, output: Output) -> None:
        super().__init__(f"The blob of {name} ({output.digest[:12]}) of {step} is damaged or gone")
        self.step = step


def check_writable(workspace: Workspace) -> None:
    """MachineError where dist/ cannot be written: better said before hours of building."""
    with saying_what("write to the output folder", workspace.dist):
        workspace.dist.mkdir(parents=True, exist_ok=True)
        # A file without a name, of which nothing is left whenever this process is killed.
        try:
            os.close(os.open(workspace.dist, os.O_TMPFILE | os.O_WRONLY, 0o600))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                raise


def publish(
    plan: Plan,
    entries: Mapping[str, Entry],
    pending: Mapping[str, Pending],
    workspace: Workspace,
    store: LocalStore,
    digests: Digests,
) -> list[Artifact]:
    """Publish every cell whose step has an entry; `pending` are the comparisons not made here.

    Damaged where a blob is not what its digest says.
    """
    artifacts: list[Artifact] = []
    store.keep_dist(workspace.dist)
    for cells in _by_folder(plan):
        built = [cell for cell in cells if cell.step in entries]
        if built:
            artifacts += _publish_folder(plan, built, entries, pending, workspace, store, digests)
    return artifacts


def _by_folder(plan: Plan) -> Iterator[list[Cell]]:
    folders: dict[str, list[Cell]] = {}
    for cell in plan.buildable():
        folders.setdefault(str(Path(cell.path).parent), []).append(cell)
    yield from folders.values()


def _publish_folder(
    plan: Plan,
    cells: Sequence[Cell],
    entries: Mapping[str, Entry],
    pending: Mapping[str, Pending],
    workspace: Workspace,
    store: LocalStore,
    digests: Digests,
) -> list[Artifact]:
    folder = workspace.dist / Path(cells[0].path).parent
    manifest_path = folder / "manifest.json"
    wanted = {name: (cell, output) for cell in cells for name, output in entries[cell.step].outputs.items()}

    def state() -> tuple[dict[str, Any], bytes, list[str]]:
        old = read_json(manifest_path)
        made = manifest_of(plan, cells, entries, pending, old if isinstance(old, dict) else {}, folder)
        stale = [name for name, (_, output) in wanted.items() if digests.of(folder / name) != output.digest]
        return made, (json.dumps(made, indent=2) + "\n").encode(), stale

    manifest, data, stale = state()
    if stale or left_aside(folder) or not _holds(manifest_path, data):
        lock = lock_of(cells[0].recipe, cells[0].target, cells[0].precision)
        with saying_what("write an artifact", folder), store.lock(lock):
            # Another process may have published here meanwhile, other formats of the same cells perhaps.
            manifest, data, stale = state()
            folder.mkdir(parents=True, exist_ok=True)
            # Who publishes here holds the lock, so that who wrote these is dead.
            for half in left_aside(folder):
                half.unlink(missing_ok=True)
            # The manifest goes first and comes back last: it never describes files that are not there.
            if stale:
                manifest_path.unlink(missing_ok=True)
            for name in stale:
                cell, output = wanted[name]
                _copy(store, output, folder / name, cell.step, digests)
            if not _holds(manifest_path, data):
                write_whole(manifest_path, data)
    status = {file["path"]: str(file["verification"]["status"]) for file in manifest["files"] if "verification" in file}
    return [
        Artifact(
            cell.recipe,
            cell.target,
            cell.precision,
            cell.format,
            workspace.relative(workspace.dist / cell.path),
            output.digest,
            output.bytes,
            status[name],
        )
        for cell in cells
        for name, output in entries[cell.step].outputs.items()
        if name == Path(cell.path).name
    ]


def lock_of(recipe: str, target: str, precision: str) -> str:
    """The store's lock that whoever writes into a folder of artifacts holds."""
    return f"dist-{recipe}~{target}~{precision}"


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _copy(store: LocalStore, output: Output, target: Path, step: str, digests: Digests) -> None:
    aside = aside_of(target)
    try:
        if not store.write(output, aside):
            raise Damaged(step, target.name, output)
        written = aside.stat()
        aside.replace(target)
        digests.learn(target, written, output.digest)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError) and error.errno == 28:
            raise MachineError(
                "No space is left for the artifacts",
                [("path", str(target)), ("bytes", f"{output.bytes:,}")],
                "Free some space, or choose another folder with --dist.\n"
                "What was built is in the cache: the next run copies it.",
            ) from error
        raise
