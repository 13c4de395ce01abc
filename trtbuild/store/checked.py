"""JSON files that tell whether they are as they were written.

    {"sha256": "<of the file's name, a line break and the text of the content>",
    "content": ...
    }

The digest is of the text, so that checking costs no second look at the value; the name is in it, so that a file that
lies in the place of another is damaged too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_bytes
from trtbuild.files import write_whole

_HEAD, _MIDDLE, _TAIL = b'{"sha256": "', b'",\n"content": ', b"\n}\n"
_FROM = len(_HEAD) + 64


def write_checked(path: Path, value: Any) -> None:
    """Write a value whole, with its check."""
    text = json.dumps(value, indent=1, sort_keys=True).encode()
    write_whole(path, _framed(path.name, text))


def read_checked(path: Path) -> Any:
    """The value of a file, or None where it is absent or not what was written."""
    try:
        return value_of(path.name, path.read_bytes())
    except (OSError, ValueError):
        return None


def value_of(name: str, data: bytes) -> Any:
    """The value in the bytes of a file of this name; ValueError where they are not what was written."""
    text = data[_FROM + len(_MIDDLE) : -len(_TAIL)]
    if data != _framed(name, text):
        raise ValueError("the file is not what was written")
    return json.loads(text)


def _framed(name: str, text: bytes) -> bytes:
    digest = digest_bytes(name.encode(errors="surrogateescape") + b"\n" + text)
    return b"".join((_HEAD, digest.encode(), _MIDDLE, text, _TAIL))


def as_read(value: Any) -> Any:
    """A value as it will be when it is read back."""
    return json.loads(json.dumps(value, sort_keys=True))
