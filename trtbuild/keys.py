"""Keys: the digest of a named record of everything a stage's output depends on.

The record is kept beside the outputs and in the history, so `explain` is the difference of two records and cannot
drift from the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trtbuild.digest import Json, digest_value
from trtbuild.plans import Step
from trtbuild.reads import parts_of
from trtbuild.toolchain import toolchain

SCHEMA = 2

KeyInputs = dict[str, Any]


def key_inputs(
    step: Step, code: str, tools: tuple[str, ...], inputs: Mapping[str, Json], files: Mapping[str, str]
) -> KeyInputs:
    """The record of a step.

    `code` is the version of the stage's own code, `inputs` the canonical digests of what other steps made for it,
    `files` the digests of its declared input files.
    """
    return {
        "schema": SCHEMA,
        "kind": step.kind,
        "code": code,
        "settings": dict(step.settings),
        "inputs": dict(inputs),
        "files": dict(files),
        "toolchain": toolchain().versions(tools),
    }


def declared_of(record: KeyInputs) -> KeyInputs:
    """The record without what the stage was seen to read."""
    declared = ("schema", "kind", "code", "settings", "inputs", "files", "toolchain")
    return {name: record[name] for name in declared if name in record}


def with_reads(record: KeyInputs, seen: Mapping[str, Any]) -> KeyInputs:
    """The record completed by what the stage was seen to read (see `reads`)."""
    return {**record, **parts_of(seen)}


def key_of(record: KeyInputs) -> str:
    """The key of a record."""
    return digest_value(record)
