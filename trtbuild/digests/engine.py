"""Digest of a TensorRT-RTX engine's meaning: equal over builds of one network, also where the bytes are not.

With dynamic shapes TensorRT-RTX names the temporaries of its shape arithmetic with a counter, and lists, initialises,
numbers and lays them out in host memory in an order that differs from run to run. Kernels, weights and device memory do
not differ. Seen in the files of TensorRT-RTX 1.4.0 and 1.6.1, which write

    0x00  "vtrt", u32 0                     0x30  u32 CUDA version (13040), u32 0
    0x08  u64 number of sections            0x40  per section: the tag backwards ("NGNE"), u32 0, u64 offset, u64 size
    0x10  u64 size of the file              ENGN  the engine; WGHT  its weights
    0x18  four bytes of TensorRT version    at the end four bytes in no section

and inside ENGN
- the graph compiler's programs, each as "NLYM", u32 version, u64 length, text. Its lines are statements ("mul={ ... }")
  after a table of tensors ("tensor={ ... }");
- one list of shape expressions: u64 count of words, each an operator (u8) and a value (i32). Four words are one
  instruction: its operator and the register that it sets, then three registers that it reads. Elsewhere in ENGN an i64
  of -(register + 2) stands for a size that is such an expression.

In the digest: every byte of the file, but for what follows.
Out, in the texts of ENGN:
- the numbers in names `__mye123`: each is replaced by what the text says about it, so that the wiring stays;
- `offset=` of host memory (`*hmem`): where a shape temporary lies says nothing about what is computed;
- the order of the tensor table, of `shape_outputs={...}` and of the statements that set a host tensor set nowhere else:
  what they read says all about their order.
Out, in the rest of ENGN: the order of shape expressions, and the numbers of the registers they set; each is replaced,
in the list and where it is meant, by the expression itself.
Where a list does not read as above its bytes are hashed: engines then differ more often than they must, never less.

The identity of an engine is the sha256 of its bytes; this digest is to recognise a rebuild of the same network.
Standard TensorRT's plans ("ptrt", "ftrt") are not known inside: their digest is the sha256 of their bytes.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from trtbuild.digest import Json, digest_bytes, digest_value

VERSION = 1

MAGIC = b"vtrt"
_RAW = (b"ptrt", b"ftrt")

_TABLE = 0x40
_ENTRY = 24
_PROGRAM = b"NLYM"
_NUMBERED = re.compile(rb"(__mye\d+)")
_OFFSET = re.compile(rb"\boffset=\d+")
_HOST = re.compile(rb'\s*tensor=.* name=("[^"]*") .*region="\w*hmem')
_SETS = re.compile(rb'\boutput=\{((?:\s*"[^"]*")*)\s*\}')
_TABLES = (b"tensor=", b"shape_output=")
_LISTED = re.compile(rb'"[^"]*"')

# The list of shape expressions: its tag, the number of registers, its own count; then the words.
_EXPRESSIONS = re.compile(rb"\x35\x80\x01\x00\x07\x80\x01\x00(.{4})\x01\x80\x33\x80\x01\x00(.{8})", re.DOTALL)
_WORD = re.compile(rb"\x32\x80\x01\x00\x02\x80\x01\x00(.)\x06\x80\x01\x00(.{4})\xcc\x7f", re.DOTALL)
_WORD_SIZE = 19
_SIGN = b"\xff" * 6


def describe_engine(data: bytes | memoryview, known: Mapping[tuple[int, int], str] | None = None) -> dict[str, Json]:
    """Kind, magic, versions and sections of an engine, each section with its digest; ValueError where it is none.

    `known` holds digests of stretches of the engine, by their first byte and end.
    """
    view = memoryview(data).cast("B")
    magic = bytes(view[:4])
    if magic in _RAW:
        return {"kind": "raw", "magic": magic.decode(), "bytes": len(view), "digest": digest_bytes(view)}
    version, cuda, sections = _layout(view, magic)
    first = min(start for start, _ in sections.values())
    described: dict[str, Json] = {}
    covered = first
    gaps = []
    for tag, (start, size) in sorted(sections.items(), key=lambda item: item[1]):
        gaps.append(bytes(view[covered:start]).hex())
        covered = start + size
        part = view[start:covered]
        digest = _digest_code(part) if tag == "ENGN" else (known or {}).get((start, covered)) or digest_bytes(part)
        described[tag] = {"offset": start, "size": size, "digest": digest}
    gaps.append(bytes(view[covered:]).hex())
    return {
        "kind": "rtx",
        "magic": magic.decode(),
        "version": version,
        "cuda": cuda,
        "bytes": len(view),
        "header": digest_bytes(view[:first]),
        "sections": described,
        "between": gaps,
    }


def weights_of(data: memoryview) -> tuple[int, int] | None:
    """First byte and end of an engine's weights, where it is of a kind that keeps them apart; ValueError if broken."""
    _, _, sections = _layout(data, bytes(data[:4]))
    start, size = sections.get("WGHT", (0, 0))
    return (start, start + size) if size else None


def digest_engine(data: bytes | memoryview, known: Mapping[tuple[int, int], str] | None = None) -> str:
    """The digest of an engine's meaning, in hex; for a standard TensorRT plan the sha256 of its bytes."""
    described = describe_engine(data, known)
    if described["kind"] == "raw":
        return str(described["digest"])
    return digest_value({"digest": "engine", "version": VERSION, "engine": described})


def _layout(view: memoryview, magic: bytes) -> tuple[tuple[int, ...], int, dict[str, tuple[int, int]]]:
    if magic != MAGIC:
        raise ValueError("This is no TensorRT engine: it does not begin as one.")
    if len(view) < _TABLE:
        raise ValueError("The engine is truncated: it ends within its header.")
    count, size = struct.unpack_from("<QQ", view, 8)
    if size != len(view):
        wrong = "truncated" if size > len(view) else "of an unknown layout"
        raise ValueError(f"The engine is {wrong}: its header says {size} bytes, and there are {len(view)}.")
    table_end = _TABLE + count * _ENTRY
    if not 0 < count <= 64 or table_end > size:
        raise ValueError(f"The engine is of an unknown layout: its header says that it has {count} sections.")
    sections: dict[str, tuple[int, int]] = {}
    end = table_end
    for at in range(_TABLE, table_end, _ENTRY):
        tag = bytes(view[at : at + 4])[::-1].decode("latin-1")
        start, length = struct.unpack_from("<QQ", view, at + 8)
        if tag in sections or not tag.isalnum() or start < end or start + length > size:
            raise ValueError(f"The engine is of an unknown layout: {length} bytes of section {tag!r} at {start}.")
        sections[tag] = (start, length)
        end = start + length
    if "ENGN" not in sections:
        raise ValueError(f"The engine is of an unknown layout: it has the sections {', '.join(sections)}, and no ENGN.")
    (cuda,) = struct.unpack_from("<I", view, 0x30)
    return tuple(view[0x18:0x1C]), cuda, sections


def _digest_code(part: memoryview) -> str:
    data = bytes(part)
    digest = hashlib.sha256()
    programs = _programs(data)
    expressions = [found for start, end in _between(programs, len(data)) for found in _expressions(data, start, end)]
    # A number cannot be told from its register where there are two lists; none was seen to have more than one.
    registers = expressions[0].registers if len(expressions) == 1 else {}
    at = 0
    for start, end, text in sorted(
        [(start, end, _canonical_text(data[start:end])) for start, end in programs]
        + [(found.start, found.end, found.canonical) for found in expressions[:1] if registers]
    ):
        _hash_binary(digest, data, at, start, registers)
        digest.update(b"text %d\n" % len(text))
        digest.update(text)
        at = end
    _hash_binary(digest, data, at, len(data), registers)
    return digest.hexdigest()


def _between(parts: list[tuple[int, int]], end: int) -> list[tuple[int, int]]:
    bounds = [0, *(bound for part in parts for bound in part), end]
    return list(zip(bounds[::2], bounds[1::2], strict=True))


@dataclass(frozen=True)
class _Expressions:
    """The shape expressions: where they lie, a digest by register set, and all of them in one order."""

    start: int
    end: int
    registers: dict[int, bytes]
    canonical: bytes


def _expressions(data: bytes, start: int, end: int) -> list[_Expressions]:
    found = []
    for match in _EXPRESSIONS.finditer(data, start, end):
        (count,) = struct.unpack("<Q", match[2])
        stop = match.end() + count * _WORD_SIZE
        if count % 4 or not 0 < count <= 4 * 0x8000 or stop > end:
            continue
        words = [_WORD.fullmatch(data, at, at + _WORD_SIZE) for at in range(match.end(), stop, _WORD_SIZE)]
        read = [(word[1], *struct.unpack("<i", word[2])) for word in words if word]
        registers = _by_meaning(read) if len(read) == count else None
        if registers:
            found.append(_Expressions(match.end(), stop, registers, b"".join(sorted(registers.values()))))
    return found


def _by_meaning(words: list[tuple[bytes, int]]) -> dict[int, bytes] | None:
    """A digest of each register's expression, down to given registers; None where the words are no expressions."""
    known: dict[int, bytes] = {}
    given: set[int] = set()
    for at in range(0, len(words), 4):
        (operator, target), *sources = words[at : at + 4]
        given |= {source for _, source in sources} - known.keys()
        if target in known or target in given or not 0 <= target < 0xFFFD or any(kind != b"\0" for kind, _ in sources):
            return None
        text = operator + b"".join(known.get(source, b"register %d" % source) + b"," for _, source in sources)
        known[target] = hashlib.sha256(text).digest()
    return known


def _programs(data: bytes) -> list[tuple[int, int]]:
    """Where the graph compiler's texts lie."""
    found = []
    at = data.find(_PROGRAM)
    while at >= 0:
        after = at + 4
        start = at + 16
        if start <= len(data):
            (length,) = struct.unpack_from("<Q", data, at + 8)
            if start + length <= len(data) and data.startswith(b"header {", start):
                after = start + length
                found.append((start, after))
        at = data.find(_PROGRAM, after)
    return found


def _hash_binary(digest: hashlib._Hash, data: bytes, start: int, end: int, registers: dict[int, bytes]) -> None:
    """Hash what is no text, each number of a register that is set replaced by its expression."""
    # The length goes first, so that no piece can pass for the end of another.
    digest.update(b"binary %d\n" % (end - start))
    at = start
    sign = data.find(_SIGN, start, end) if registers else -1
    while sign >= 0:
        after = sign
        while after < end and data[after] == 0xFF:
            after += 1
        number = after - 8
        if at <= number < sign:
            register = -struct.unpack_from("<q", data, number)[0] - 2
            if register in registers:
                digest.update(data[at:number])
                digest.update(b"register" + registers[register])
                at = after
        sign = data.find(_SIGN, after, end)
    digest.update(data[at:end])


def _canonical_text(text: bytes) -> bytes:
    """The text with run-independent names, and what has no order of its own in one order."""
    lines: list[bytes] = []
    for line in text.split(b"\n"):
        if b"offset=" in line and b"hmem" in line:
            line = _OFFSET.sub(b"offset=host", line)
        if line.lstrip().startswith(b"shape_outputs="):
            lines.append(_LISTED.sub(b"*", line))
            lines += [b"shape_output=" + item for item in _LISTED.findall(line)]
        else:
            lines.append(line)
    named = _named_by_use(lines)
    host = {name[1] for line in named if (name := _HOST.match(line))}
    sets = [_LISTED.findall(found[1]) if (found := _SETS.search(line)) else [] for line in named]
    times = Counter(name for names in sets for name in names)
    ordered: list[bytes] = []
    free: list[bytes] = []
    for line, names in zip(named, sets, strict=True):
        once = bool(names) and all(name in host and times[name] == 1 for name in names)
        (free if once or line.lstrip().startswith(_TABLES) else ordered).append(line)
    return b"\n".join([*ordered, b"unordered", *sorted(free)])


def _named_by_use(lines: list[bytes]) -> list[bytes]:
    """The lines with each numbered name replaced by a digest of all lines it is in, and of the names beside it there.

    Names start equal and are told apart round by round by the lines that hold them (colour refinement), so no name's
    number and no order of lines has a part in it.
    """
    split = [_NUMBERED.split(line) for line in lines]
    holders = [parts for parts in split if len(parts) > 1]
    colours = {name: b"" for parts in holders for name in parts[1::2]}
    classes = 0
    while classes < (classes := len(set(colours.values()))):
        seen: dict[bytes, list[bytes]] = defaultdict(list)
        for parts in holders:
            line = hashlib.sha256(_painted(parts, colours)).digest()
            for place, name in enumerate(parts[1::2]):
                seen[name].append(line + place.to_bytes(4, "little"))
        colours = {
            name: hashlib.sha256(colours[name] + b"".join(sorted(places))).digest()[:16]
            for name, places in seen.items()
        }
    return [_painted(parts, colours) for parts in split]


def _painted(parts: list[bytes], colours: dict[bytes, bytes]) -> bytes:
    painted = list(parts)
    painted[1::2] = [b"__mye<" + colours[name].hex().encode() + b">" for name in parts[1::2]]
    return b"".join(painted)
