"""The manifest that describes an artifact, checked against the file it describes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_file
from trtbuild.errors import UsageError


def manifest_at(path: Path) -> dict[str, Any]:
    """The manifest of an artifact or of its folder. UsageError where the file is not the one it describes."""
    if not path.exists():
        raise UsageError("There is no such file", [("missing", str(path))])
    manifest_path = path if path.name == "manifest.json" else (path if path.is_dir() else path.parent) / "manifest.json"
    if not manifest_path.is_file():
        raise UsageError(
            "The artifact has no manifest",
            [("file", str(path)), ("missing", str(manifest_path))],
            "trtbuild writes one beside every artifact it builds.",
        )
    try:
        manifest: dict[str, Any] = json.loads(manifest_path.read_bytes())
        files = {file["path"]: file["digest"] for file in manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "The manifest cannot be read", [("file", str(manifest_path)), ("reason", str(error))]
        ) from error
    if path.is_file() and path != manifest_path:
        if path.name not in files:
            raise UsageError("The manifest does not know the file", [("file", str(path)), ("knows", ", ".join(files))])
        found = f"sha256:{digest_file(path)}"
        if found != files[path.name]:
            raise UsageError(
                "The file is not the one that the manifest describes",
                [("file", str(path)), ("digest", found), ("manifest", files[path.name])],
                "It was changed or replaced after the build: build it again.",
            )
    return manifest
