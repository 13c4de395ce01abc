"""The members of an archive that torch wrote, as every reader must see them.

torch reads zip files by miniz, Python by zipfile. A file that the two read differently could show a check one content
and torch another, so only the plain form that torch itself writes is read here.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import IO

_END = b"PK\x05\x06"
_END_LENGTH = 22


class UnsafeArchive(ValueError):
    """What an archive holds that a program needs not hold."""


def open_archive(file: IO[bytes], *, compressed: bool = False) -> tuple[zipfile.ZipFile, Mapping[str, str]]:
    """The archive and its members: full name by name without the root folder. UnsafeArchive for an odd form.

    `compressed`: members may be, as the code of TorchScript is.
    """
    file.seek(0, 2)
    length = file.tell()
    file.seek(max(0, length - _END_LENGTH))
    end = file.read()
    file.seek(0)
    if file.read(4) != b"PK\x03\x04" or end[:4] != _END or end[-2:] != b"\0\0":
        raise UnsafeArchive("it is no zip archive in the form that torch writes")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise UnsafeArchive(f"it cannot be read: {error}") from error
    members: dict[str, str] = {}
    roots, seen = set(), set()
    for info in archive.infolist():
        root, slash, name = info.filename.partition("/")
        roots.add(root)
        parts = name.split("/")
        if not slash or not name or "\\" in info.filename or any(part in ("", ".", "..") for part in parts):
            raise UnsafeArchive(f"a member with a strange name: {info.filename!r}")
        stored = info.compress_type == zipfile.ZIP_STORED
        if not (stored or (compressed and info.compress_type == zipfile.ZIP_DEFLATED)) or info.flag_bits & 1:
            raise UnsafeArchive(f"a member that is compressed or encrypted: {name}")
        # miniz finds names without regard to case.
        if name.lower() in seen:
            raise UnsafeArchive(f"two members of one name: {name}")
        seen.add(name.lower())
        members[name] = info.filename
    if len(roots) != 1:
        raise UnsafeArchive("its members do not lie in one folder")
    return archive, members
