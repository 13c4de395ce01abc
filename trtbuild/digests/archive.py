"""The .pt2 archive of torch.export, read and rewritten without torch.

A zip as torch's own writer (miniz, through PyTorchFileWriter) makes it:
- every member is stored, dated 1980-00-00 and lies below one root folder, which is named for the file;
- a member's bytes begin at a multiple of 64: the local header's extra field is "FB", u16 length, then as many "Z" as it
  takes (after a zip64 field, where size or offset needs one);
- sizes and CRC follow the bytes, in a data descriptor; a zip64 end record is always written.
`rewrite` writes just that, so that an archive rewritten with nothing replaced is the same file, byte for byte.
`.data/serialization_id`, which nothing reads back, stays as it was unless it is replaced too.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import BinaryIO, TypeVar

Key = TypeVar("Key", bound=Hashable)

ALIGNMENT = 64

# From this size or offset on a number goes into a zip64 field.
_ZIP64_FROM = 0xFFFF_FFFF
_MANY = 0xFFFF

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4sHHHHIIH")

# Sizes follow the bytes; names are UTF-8.
_FLAGS = 0x0808


@dataclass(frozen=True)
class _Member:
    start: int
    size: int
    crc: int


class Archive:
    """The members of a .pt2 archive by their names below its root folder, mapped from disk and never copied.

    Views end with the archive: use it in a `with`. ValueError where the file is not such an archive, or is one that
    two readers could read as two different things.
    """

    def __init__(self, path: Path, known: Mapping[tuple[int, int], str] | None = None) -> None:
        """`known`: digests of stretches of the file, by their first byte and end, that need not be made again."""
        self.path = path
        self._known = known or {}
        try:
            with zipfile.ZipFile(path) as opened:
                infos, end = opened.infolist(), opened.start_dir
        except (zipfile.BadZipFile, NotImplementedError, struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} is no zip archive, or a truncated one: {error}.") from error
        if not infos:
            raise ValueError(f"{path.name} is an empty archive.")
        self.root = infos[0].filename.split("/", 1)[0]
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._views: list[memoryview] = []
        try:
            self._members = self._read(infos, end)
        except BaseException:
            self.close()
            raise

    def _read(self, infos: list[zipfile.ZipInfo], end: int) -> dict[str, _Member]:
        members: dict[str, _Member] = {}
        taken: list[tuple[int, int]] = []
        for info in infos:
            name = self._checked_name(info)
            if name in members:
                raise ValueError(f"{self.path.name} holds {name} twice.")
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise ValueError(f"{self.path.name} holds {name} compressed; torch stores every member as it is.")
            if info.flag_bits & 0x1:
                raise ValueError(f"{self.path.name} holds {name} encrypted.")
            start = self._start(info, name)
            if start + info.file_size > end:
                raise ValueError(f"{self.path.name} is truncated: {name} goes beyond its end.")
            members[name] = _Member(start, info.file_size, info.CRC)
            taken.append((info.header_offset, start + info.file_size))
        taken.sort()
        if any(after[0] < before[1] for before, after in pairwise(taken)):
            raise ValueError(f"{self.path.name} holds members that overlap.")
        return members

    def _checked_name(self, info: zipfile.ZipInfo) -> str:
        # zipfile cuts a name at its first NUL, where other readers do not.
        if info.orig_filename != info.filename:
            raise ValueError(f"{self.path.name} holds {info.orig_filename!r}, a name that readers read differently.")
        root, *parts = info.filename.split("/")
        strange = any(part in ("", ".", "..") for part in (root, *parts)) or "\\" in info.filename
        if strange or not parts or root != self.root:
            raise ValueError(f"{self.path.name} holds {info.filename!r}, which does not lie below {self.root!r}.")
        return "/".join(parts)

    def _start(self, info: zipfile.ZipInfo, name: str) -> int:
        offset = info.header_offset
        if not 0 <= offset <= len(self._map) - _LOCAL.size:
            raise ValueError(f"{self.path.name} is truncated: {name} begins beyond its end.")
        header = _LOCAL.unpack_from(self._map, offset)
        signature, method = header[0], header[3]
        name_size: int = header[9]
        extra_size: int = header[10]
        here = self._map[offset + _LOCAL.size : offset + _LOCAL.size + name_size]
        if signature != b"PK\x03\x04" or method != zipfile.ZIP_STORED or here != info.filename.encode():
            raise ValueError(f"{self.path.name} says one thing about {name} in its directory, another where it lies.")
        return offset + _LOCAL.size + name_size + extra_size

    @property
    def names(self) -> list[str]:
        """The members in the order in which the archive lists them."""
        return list(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> memoryview:
        """The bytes of a member, not copied. ValueError where there is no such member."""
        member = self._member(name)
        whole = memoryview(self._map)
        view = whole[member.start : member.start + member.size]
        self._views += [whole, view]
        return view

    def _member(self, name: str) -> _Member:
        try:
            return self._members[name]
        except KeyError:
            raise ValueError(f"{self.path.name} has no member {name}.") from None

    def checked(self, name: str) -> tuple[memoryview, int]:
        """The bytes of a member and their CRC, once that is found to be the one recorded."""
        view, recorded = self[name], self._member(name).crc
        if zlib.crc32(view) != recorded:
            raise ValueError(f"{self.path.name} is damaged: {name} does not match its checksum.")
        return view, recorded

    def digests(self, parts: Mapping[Key, tuple[str, int, int]]) -> dict[Key, str]:
        """sha256 of stretches of members, each given as the member's name, its first byte and its end."""
        found: dict[Key, str] = {}
        views: dict[Key, memoryview] = {}
        for key, (name, start, stop) in parts.items():
            at = self._member(name).start
            if (digest := self._known.get((at + start, at + stop))) is not None:
                found[key] = digest
            else:
                views[key] = self[name][start:stop]
        self._views += views.values()
        return found | digest_payloads(views)

    def close(self) -> None:
        for view in reversed(self._views):
            view.release()
        self._views.clear()
        # Where a slice of a view is still held, the mapping ends with it.
        with suppress(BufferError):
            self._map.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rewrite(
    source: Path,
    target: Path,
    replace: Mapping[str, bytes | Callable[[bytes], bytes]],
    add: Mapping[str, Iterable[tuple[str, bytes]]] = MappingProxyType({}),
) -> None:
    """Write the archive at `source` to `target`, some members replaced by bytes, or by what a function makes of theirs.

    `add`: new members, by the member that each is written ahead of; they are asked for one by one, as they are written.
    Members are named without the root folder. Everything else stays: order, root folder, bytes. On a failure no target
    is left. ValueError where a member to be replaced is not there, or where the source is damaged.
    """
    with Archive(source) as archive:
        for name in (*replace, *add):
            if name not in archive:
                raise ValueError(f"{source.name} has no member {name} to replace.")
        if target.exists() and os.path.samefile(source, target):  # noqa: PTH121
            raise ValueError(f"{source.name} cannot be rewritten in its own place.")
        try:
            with target.open("wb") as file:
                writer = _Writer(file)
                for name in archive.names:
                    for added, data in add.get(name, ()):
                        writer.add(f"{archive.root}/{added}".encode(), memoryview(data), zlib.crc32(data))
                    new = replace.get(name)
                    if callable(new):
                        new = new(bytes(archive[name]))
                    view, crc = archive.checked(name) if new is None else (memoryview(new), zlib.crc32(new))
                    writer.add(f"{archive.root}/{name}".encode(), view, crc)
                writer.finish()
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def write_archive(file: BinaryIO, members: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive of these members, named with their root folder, to an open file."""
    writer = _Writer(file)
    for name, data in members:
        writer.add(name.encode(), memoryview(data), zlib.crc32(data))
    writer.finish()


class _Writer:
    """Members one after the other into a file that need not be read back, as torch's writer lays them out."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0
        self._directory: list[bytes] = []

    def add(self, name: bytes, data: memoryview, crc: int) -> None:
        offset, size = self._at, len(data)
        large, far = size >= _ZIP64_FROM, offset >= _ZIP64_FROM
        # Where a member lies, miniz leaves its stored size 0; readers take it from the directory.
        zip64, here = (_zip64(size, stored, offset, large, far) for stored in (size, 0))
        fixed = offset + _LOCAL.size + len(name) + len(zip64) + 4
        padding = -fixed % ALIGNMENT
        extra = here + struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        self._write(_LOCAL.pack(b"PK\x03\x04", 0, _FLAGS, 0, 0, 0, 0, 0, 0, len(name), len(extra)))
        self._write(name + extra)
        self._write(data)
        self._write(struct.pack("<4sIQQ" if zip64 else "<4sIII", b"PK\x07\x08", crc, size, size))
        size32, offset32 = 0xFFFF_FFFF if large else size, 0xFFFF_FFFF if far else offset
        lengths = (len(name), len(zip64), 0)
        head = _CENTRAL.pack(b"PK\x01\x02", 0, 0, _FLAGS, 0, 0, 0, crc, size32, size32, *lengths, 0, 0, 0, offset32)
        self._directory.append(head + name + zip64)

    def finish(self) -> None:
        start, count = self._at, len(self._directory)
        for entry in self._directory:
            self._write(entry)
        size, end = self._at - start, self._at
        self._write(_END64.pack(b"PK\x06\x06", _END64.size - 12, 0x031E, 45, 0, 0, count, count, size, start))
        self._write(_LOCATOR.pack(b"PK\x06\x07", 0, end, 1))
        few = min(count, _MANY)
        self._write(_END.pack(b"PK\x05\x06", 0, 0, few, few, min(size, 0xFFFF_FFFF), min(start, 0xFFFF_FFFF), 0))

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._at += len(data)


def _zip64(size: int, stored: int, offset: int, large: bool, far: bool) -> bytes:
    numbers = [*((size, stored) if large else ()), *((offset,) if far else ())]
    return struct.pack(f"<HH{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""


def digest_payloads(payloads: Mapping[Key, memoryview]) -> dict[Key, str]:
    """sha256 of each payload, in hex. Two threads or more at once: hashlib lets go of the interpreter's lock."""
    order = sorted(payloads, key=lambda key: len(payloads[key]), reverse=True)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 1))) as pool:
        return dict(zip(order, pool.map(lambda key: hashlib.sha256(payloads[key]).hexdigest(), order), strict=True))
