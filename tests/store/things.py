"""Things to store, and ways to damage and to age what is stored."""

from __future__ import annotations

import os
import random
import time
import uuid
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_bytes
from trtbuild.digests.outputs import describe_output
from trtbuild.keys import key_of
from trtbuild.store.entry import Entry, Output
from trtbuild.store.local import LocalStore

LARGE = 1 << 16


@cache
def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def archive(path: Path, *tensors: bytes) -> Path:
    """A zip with stored members, as programs are."""
    with zipfile.ZipFile(path, "w") as file:
        for index, tensor in enumerate(tensors):
            file.writestr(zipfile.ZipInfo(f"model/data/{index}"), tensor)
    return path


def put_file(store: LocalStore, source: Path, folder: Path | None = None) -> Output:
    """Store a file as a job's output is stored."""
    return store.put_output(source, describe_output(source, meaning=False), folder)


def put(store: LocalStore, data: bytes, canonical: str | None = None) -> Output:
    """Store bytes, under a meaning."""
    source = store.root / f"incoming-{uuid.uuid4().hex}"
    source.write_bytes(data)
    digest = digest_bytes(data)
    return store.put_output(source, {"digest": digest, "canonical": canonical or f"raw:{digest}", "bytes": len(data)})


def put_archive(store: LocalStore, *tensors: bytes) -> Output:
    """Store an archive of tensors."""
    return put_file(store, archive(store.root / f"incoming-{uuid.uuid4().hex}", *tensors))


def put_entry(store: LocalStore, name: str, outputs: dict[str, Output], **more: Any) -> Entry:
    """Store an entry whose key is that of its record."""
    record = {"kind": "null", "settings": {"name": name}, **more}
    return store.put(Entry(key=key_of(record), record=record, outputs=outputs))


def bytes_of(store: LocalStore, output: Output) -> bytes | None:
    """An output as it is read, or None where it is a miss."""
    target = store.root / f"read-{uuid.uuid4().hex}"
    if not store.write(output, target):
        assert not target.exists()
        return None
    data = target.read_bytes()
    target.unlink()
    return data


def files(root: Path, *kinds: str) -> list[Path]:
    """The files of a store, or of some of its folders."""
    places = [root / kind for kind in kinds] if kinds else [root]
    return sorted(path for place in places for path in place.rglob("*") if path.is_file())


def overwrite(path: Path, data: bytes) -> None:
    """Damage a file in its place."""
    if path.exists():
        path.chmod(0o644)
    path.write_bytes(data)


def flip(path: Path, random_: random.Random) -> None:
    """Turn over one bit."""
    data = bytearray(path.read_bytes())
    data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    overwrite(path, bytes(data))


def age(paths: Sequence[Path], seconds: float) -> None:
    """Make files look as if they were last used this long ago."""
    for path in paths:
        os.utime(path, (time.time() - seconds,) * 2)
