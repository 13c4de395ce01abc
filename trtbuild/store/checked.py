"""JSON files that tell whether they are as they were written.

    {"sha256": "<of what follows, up to the last brace>",
    "content": ...
    }

The digest is of the text, so that checking costs no second look at the value.
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
    write_whole(path, b"".join((_HEAD, digest_bytes(text).encode(), _MIDDLE, text, _TAIL)))


def read_checked(path: Path) -> Any:
    """The value of a file, or None where it is absent or not what was written."""
    try:
        return value_of(path.read_bytes())
    except (OSError, ValueError):
        return None


def value_of(data: bytes) -> Any:
    """The value in a file's bytes; ValueError where they are not what was written."""
    text = data[_FROM + len(_MIDDLE) : -len(_TAIL)]
    digest = digest_bytes(text).encode()
    if data != b"".join((_HEAD, digest, _MIDDLE, text, _TAIL)):
        raise ValueError("the file is not what was written")
    return json.loads(text)


def as_read(value: Any) -> Any:
    """A value as it will be when it is read back."""
    return json.loads(json.dumps(value, sort_keys=True))
