"""What two files of one kind differ in, in words: in meaning for `explain`, in bytes where only these differ.

Of a program the op, tensor or range is named, of an engine the section, of an ONNX model the node or initializer.
Nothing but the standard library is needed.
"""

from __future__ import annotations

import json
import mmap
import os
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, BinaryIO

from trtbuild.changes import changes, cut_pair
from trtbuild.digests import onnx_parts
from trtbuild.digests.engine import describe_engine
from trtbuild.digests.program import canonical_graph, dtype_name
from trtbuild.insides import tensors

_SHOWN = 6
_WIDTH = 90
_CHUNK = 1 << 20
# Beyond this many ops two graphs are compared from both ends only: what lies between would take quadratic time.
_MANY_OPS = 4000
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile)
_SECTIONS = {"ENGN": "the engine's code", "WGHT": "weights"}


def meaning_differences(before: BinaryIO, after: BinaryIO, kind: str) -> list[str]:
    """What the meaning of one file of a kind (`program`, `engine`, `onnx`, `json`) differs in from another's.

    Empty where that cannot be said; a program's tensors are told apart by the checksums in the archive.
    """
    known = {"program": _program, "engine": _engine, "onnx": _onnx, "json": _json}
    if kind not in known:
        return []
    try:
        return _few(known[kind](before, after))
    except _UNREADABLE:
        # Damaged, or of a layout that is not known: then only the digests can be told.
        return []


def byte_differences(before: BinaryIO, after: BinaryIO, kind: str) -> list[str]:
    """Where the bytes of two files lie apart, by the parts of their kind; empty where they do not."""
    try:
        known = {"program": _program_bytes, "engine": _engine_bytes}
        if kind in known and (found := known[kind](before, after)):
            return _few(found)
    except _UNREADABLE:
        pass
    return _stretch("", _mapped(before), _mapped(after))


def _few(said: Sequence[str]) -> list[str]:
    more = len(said) - _SHOWN
    return [*said[:_SHOWN], *([f"{more} more differences"] if more > 0 else [])]


def _mapped(file: BinaryIO) -> memoryview:
    """A file's bytes, mapped where it is one on disk.

    The mapping is not closed: it ends with its last view, and an error's traceback may hold one.
    """
    try:
        number = file.fileno()
    except OSError:
        file.seek(0)
        return memoryview(file.read())
    if os.fstat(number).st_size == 0:
        return memoryview(b"")
    return memoryview(mmap.mmap(number, 0, access=mmap.ACCESS_READ))


def _stretch(what: str, old: memoryview, new: memoryview) -> list[str]:
    """Where two runs of bytes differ: the first place and how many."""
    first, count = _parting(old, new)
    if first is None:
        return []
    said = f"{count:,} byte{'s' if count > 1 else ''} from offset {first:,}"
    if len(old) != len(new):
        said = f"{len(old):,} -> {len(new):,} bytes, the first difference at {first:,}"
    return [f"{what}: {said}" if what else said]


def _parting(old: memoryview, new: memoryview) -> tuple[int | None, int]:
    first: int | None = None
    count = abs(len(old) - len(new))
    shorter = min(len(old), len(new))
    for at in range(0, shorter, _CHUNK):
        a, b = old[at : min(at + _CHUNK, shorter)], new[at : min(at + _CHUNK, shorter)]
        if a == b:
            continue
        apart = (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")
        if first is None:
            first = at + len(apart) - len(apart.lstrip(b"\0"))
        count += len(apart) - apart.count(0)
    return (first if first is not None or not count else shorter), count


# programs


def _program(before: BinaryIO, after: BinaryIO) -> list[str]:
    old, new = _program_parts(before), _program_parts(after)
    said = _ops(old.pop("ops"), new.pop("ops"))
    for group in ("weights", "constants"):
        if old[group] != new[group]:
            said += [f"{group} {text}" for text in tensors.compared(old[group], new[group])]
    for name in sorted({*old["ranges"], *new["ranges"]}):
        a, b = old["ranges"].get(name), new["ranges"].get(name)
        if a != b:
            said.append(f"range of the dynamic size {name.lstrip('$')}: {_range(a)} -> {_range(b)}")
    said += [
        str(change) for group in ("inputs", "outputs") for change in changes(*({group: s[group]} for s in (old, new)))
    ]
    # What the graph says about its values follows from its ops, where these differ.
    return said or [str(change) for change in changes(old["rest"], new["rest"])]


def _range(bounds: Any) -> str:
    return f"{bounds['min_val']}..{bounds['max_val']}" if bounds else "none"


def _program_parts(file: BinaryIO) -> dict[str, Any]:
    # Read member by member, so that of a program kept in parts the tensors stay where they are.
    with zipfile.ZipFile(file) as opened:
        members = _members(opened)
        member = next(name for name in members if name.startswith("models/") and name.endswith(".json"))
        model = member.removeprefix("models/").removesuffix(".json")
        graph: Any = canonical_graph(json.loads(opened.read(members[member])))

        def group(kind: str) -> dict[str, str]:
            config = f"data/{kind}/{model}_{kind}_config.json"
            entries = json.loads(opened.read(members[config]))["config"] if config in members else {}
            return {
                name: _tensor(entry, members[f"data/{kind}/{entry['path_name']}"].CRC)
                for name, entry in entries.items()
            }

        weights, constants = group("weights"), group("constants")
    module = graph["model"]["graph_module"]
    body = module.pop("graph")
    return {
        "ops": [_text(node) for node in body["nodes"]],
        "inputs": [_argument(argument) for argument in body["inputs"]],
        "outputs": [_argument(argument) for argument in body["outputs"]],
        "ranges": graph["ranges"],
        "weights": weights,
        "constants": constants,
        "rest": {**graph["model"], "values": {name: body[name] for name in body if name.endswith("_values")}},
    }


def _tensor(entry: Mapping[str, Any], checksum: int) -> str:
    meta = entry["tensor_meta"]
    if meta is None:
        return f"object [] {checksum:08x}"
    sizes = [size.get("as_int", size) for size in meta["sizes"]]
    return f"{dtype_name(meta['dtype'])} {sizes} {checksum:08x}"


def _members(opened: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by their names below the root folder."""
    return {info.filename.partition("/")[2]: info for info in opened.infolist()}


def _ops(old: list[str], new: list[str]) -> list[str]:
    said: list[str] = []
    for what, a, b, c, d in _opcodes(old, new):
        if what == "equal":
            continue
        paired = min(b - a, d - c)
        for one, other in zip(old[a:b], new[c:d], strict=False):
            made = one.partition(" = ")[0]
            # Of an op that makes the same value the name is said once.
            other = other.removeprefix(f"{made} = ") if one.startswith(made) else other
            said.append("op {} -> {}".format(*cut_pair(one, other, _WIDTH)))
        said += [f"op {text[:_WIDTH]} removed" for text in old[a + paired : b]]
        said += [f"op {text[:_WIDTH]} added" for text in new[c + paired : d]]
    more = len(said) - _SHOWN + 2
    # The tensors and ranges that follow are to be seen as well.
    return [*said[: _SHOWN - 2], *([f"{more} more ops"] if more > 0 else [])]


def _opcodes(old: list[str], new: list[str]) -> list[tuple[str, int, int, int, int]]:
    if max(len(old), len(new)) <= _MANY_OPS:
        return list(SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes())
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    tail = next((at for at in range(shorter - head) if old[-1 - at] != new[-1 - at]), shorter - head)
    return [("replace", head, len(old) - tail, head, len(new) - tail)]


def _text(node: Mapping[str, Any]) -> str:
    given = ", ".join(_argument(item["arg"]) for item in node["inputs"])
    made = ", ".join(_argument(output) for output in node["outputs"])
    return f"{made} = {node['target'].removeprefix('torch.ops.')}({given})"


def _argument(argument: Any) -> str:
    """An argument of a node as Python would write it, tensors by their names."""
    if isinstance(argument, Mapping) and len(argument) == 1:
        ((kind, value),) = argument.items()
        if kind == "as_none":
            return "None"
        if kind.startswith("as_") or kind == "name":
            return _argument(value)
    if isinstance(argument, list):
        return f"[{', '.join(_argument(item) for item in argument)}]"
    return argument if isinstance(argument, str) else json.dumps(argument)


def _program_bytes(before: BinaryIO, after: BinaryIO) -> list[str]:
    said = []
    with zipfile.ZipFile(before) as one, zipfile.ZipFile(after) as other:
        old, new = _members(one), _members(other)
        for name in sorted({*old, *new}):
            # An archive's id follows any other difference.
            if name == ".data/serialization_id":
                continue
            if name not in old or name not in new:
                said.append(f"{name} {'added' if name in new else 'removed'}")
            elif (old[name].CRC, old[name].file_size) != (new[name].CRC, new[name].file_size):
                data = one.read(old[name]), other.read(new[name])
                if name.startswith("models/"):
                    said += [f"{name}: {text}" for text in _json_places(*data)]
                else:
                    said += _stretch(name, memoryview(data[0]), memoryview(data[1]))
    return said


def _json_places(before: bytes, after: bytes) -> list[str]:
    """Which names the values that differ have, and how often: metadata is spread over all ops."""
    found = changes({"": json.loads(before)}, {"": json.loads(after)})
    named: Counter[str] = Counter()
    for change in found:
        way = [part for part in change.way if isinstance(part, str)]
        at = way.index("metadata") if "metadata" in way else -1
        named[" ".join(way[at : at + 2]) if 0 <= at < len(way) - 1 else way[-1]] += 1
    return [f"{name} of {count} ops" if name.startswith("metadata") else name for name, count in named.items()]


# engines


def _engine(before: BinaryIO, after: BinaryIO) -> list[str]:
    old, new = _mapped(before), _mapped(after)
    one, other = describe_engine(old), describe_engine(new)
    said = [
        f"{what} {_dotted(one.get(key))} -> {_dotted(other.get(key))}"
        for key, what in (("version", "TensorRT-RTX"), ("cuda", "CUDA"))
        if one.get(key) != other.get(key)
    ]
    sections: Any = one.get("sections") or {}
    others: Any = other.get("sections") or {}
    for tag in sorted({*sections, *others}):
        if sections.get(tag, {}).get("digest") == others.get(tag, {}).get("digest"):
            continue
        if tag not in sections or tag not in others:
            said.append(f"section {tag} {'added' if tag in others else 'removed'}")
            continue
        said += _stretch(_SECTIONS.get(tag, f"section {tag}"), *_sections(old, new, sections[tag], others[tag]))
    return said or _stretch("", old, new)


def _dotted(value: Any) -> str:
    return ".".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _sections(old: memoryview, new: memoryview, one: Any, other: Any) -> tuple[memoryview, memoryview]:
    return (
        old[one["offset"] : one["offset"] + one["size"]],
        new[other["offset"] : other["offset"] + other["size"]],
    )


def _engine_bytes(before: BinaryIO, after: BinaryIO) -> list[str]:
    old, new = _mapped(before), _mapped(after)
    one, other = describe_engine(old), describe_engine(new)
    sections: Any = one.get("sections") or {}
    others: Any = other.get("sections") or {}
    said: list[str] = []
    for tag in sorted({*sections} & {*others}):
        same = sections[tag]["digest"] == others[tag]["digest"]
        # What may differ in an engine of one meaning: see `digests.engine`.
        what = "names, order and places of shape temporaries" if same else _SECTIONS.get(tag, "")
        said += _stretch(f"{what} in {tag}" if what else tag, *_sections(old, new, sections[tag], others[tag]))
    return said


# ONNX models and JSON


def _onnx(before: BinaryIO, after: BinaryIO) -> list[str]:
    old, new = onnx_parts.parts_of(_mapped(before)), onnx_parts.parts_of(_mapped(after))
    said = []
    for name in dict.fromkeys([*old["nodes"], *new["nodes"]]):
        a, b = old["nodes"].get(name), new["nodes"].get(name)
        if a is None or b is None:
            said.append(f"node {name} {'added' if a is None else 'removed'}, {(a or b)['is']}")
        elif a["is"] != b["is"]:
            said.append("node {}: {} -> {}".format(name, *cut_pair(a["is"], b["is"], _WIDTH)))
        elif a != b:
            differing = [change.path for change in changes(a["attributes"], b["attributes"])]
            said.append(f"node {name}: attribute {', '.join(differing)}")
    if old["initializers"] != new["initializers"]:
        said += [f"initializer {text}" for text in tensors.compared(old["initializers"], new["initializers"])]
    for group in ("inputs", "outputs", "opsets"):
        for change in changes(old[group], new[group]):
            noun = {"inputs": "input", "outputs": "output", "opsets": "opset"}[group]
            kind = "type" if change.kind == "changed" else change.kind
            said.append(f"{noun} {change.way[0]} {change.what() if group == 'opsets' else kind}")
    return said


def _json(before: BinaryIO, after: BinaryIO) -> list[str]:
    found = changes({"": json.load(before)}, {"": json.load(after)})
    return [str(change).removeprefix('[""]').removeprefix(".") for change in found]
