from __future__ import annotations

import hashlib
import struct

import pytest
from digest_samples import MakeEngine
from hypothesis import given
from hypothesis import strategies as st

from trtbuild.digests.engine import _canonical_text, describe_engine, digest_engine


@pytest.mark.parametrize("kind", ["conv", "mlp", "mobile", "image"])
def test_engines_of_one_network_have_one_digest(kind: str, make_engine: MakeEngine) -> None:
    engines = [make_engine(kind) for _ in range(6)]
    assert len({digest_engine(engine) for engine in engines}) == 1


def test_engines_of_other_networks_have_other_digests(make_engine: MakeEngine) -> None:
    edits: list[dict[str, object]] = [
        {},
        {"seed": 1},
        {"cc": "SM86"},
        {"max": 16},
        {"times": 3.0},
        {"times": 2.000001},
        # The same constants in other places: sorting words would not see it.
        {"times": 5.0, "plus": 7.0},
        {"times": 7.0, "plus": 5.0},
        {"workspace": 29},
    ]
    digests = [digest_engine(make_engine("mobile", **edit)) for edit in edits]
    assert len(set(digests)) == len(edits)


def test_description_names_version_and_sections(make_engine: MakeEngine) -> None:
    data = make_engine("mlp")
    described = describe_engine(memoryview(data))
    assert described["kind"] == "rtx"
    assert described["magic"] == "vtrt"
    assert described["version"] == tuple(data[0x18:0x1C])
    sections = described["sections"]
    assert isinstance(sections, dict)
    assert list(sections) == ["ENGN", "WGHT"]
    last = sections["WGHT"]
    assert last["offset"] + last["size"] <= len(data) == described["bytes"]


def test_every_byte_of_the_weights_counts(make_engine: MakeEngine) -> None:
    data = make_engine("mlp")
    weights = describe_engine(data)["sections"]["WGHT"]  # type: ignore[index, call-overload]
    for at in (weights["offset"], weights["offset"] + weights["size"] - 1, len(data) - 1):
        flipped = bytearray(data)
        flipped[at] ^= 1
        assert digest_engine(data) != digest_engine(bytes(flipped))


@pytest.mark.parametrize("magic", [b"ptrt", b"ftrt"])
def test_a_standard_plan_has_the_digest_of_its_bytes(magic: bytes) -> None:
    data = magic + bytes(range(100))
    assert describe_engine(data)["kind"] == "raw"
    assert digest_engine(data) == hashlib.sha256(data).hexdigest()


def test_what_is_no_engine_is_refused(make_engine: MakeEngine) -> None:
    data = make_engine("mlp")
    for broken, words in (
        (b"", "no TensorRT engine"),
        (b"PK\x03\x04" + data[4:], "no TensorRT engine"),
        (data[:40], "truncated"),
        (data[:-1], "truncated"),
        (data + b"\0", "unknown layout"),
        (data[:8] + struct.pack("<Q", 10**9) + data[16:], "unknown layout"),
        (data[:0x40] + b"ABCD" + data[0x44:], "no ENGN"),
        (data[:0x48] + struct.pack("<Q", 2**60) + data[0x50:], "unknown layout"),
    ):
        with pytest.raises(ValueError, match=words):
            digest_engine(broken)


TEXT = """header {
  shape_outputs={ "__mye10" "__mye11" }
}
descriptors {
  tensor={ name="__mye10" offset=0 region="shape_system_hmem" type=int64 }
  tensor={ name="__mye11" offset=128 region="shape_system_hmem" type=int64 }
  tensor={ name="__mye12" offset=256 region="devmem_0" type=float }
}
main {
  mul={ name="__mye13" output={"__mye10" } input={"a" "__s^2i64" } }
  sub={ name="__mye14" output={"__mye11" } input={"__mye10" "b" } }
  function={ name=kernel args={ "__mye12" "__mye11" "__mye10" } output_args={ "__mye12" } }
}
"""


@given(st.permutations(range(10, 15)), st.booleans())
def test_numbers_of_names_and_order_of_host_statements_do_not_count(numbers: list[int], swap: bool) -> None:
    text = TEXT
    for old, new in zip(range(10, 15), numbers, strict=True):
        text = text.replace(f"__mye{old}", f"__new{new + 90}")
    text = text.replace("__new", "__mye")
    if swap:
        lines = text.split("\n")
        for at in (4, 9):
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        text = "\n".join(lines)
    assert _canonical_text(text.encode()) == _canonical_text(TEXT.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"__mye12" "__mye11" "__mye10" }', '"__mye12" "__mye10" "__mye11" }'),
        ('{"__mye10" "b" }', '{"b" "__mye10" }'),
        ("__s^2i64", "__s^3i64"),
        ("offset=256", "offset=512"),
        ("mul={", "add={"),
    ],
)
def test_wiring_and_device_memory_count(old: str, new: str) -> None:
    assert _canonical_text(TEXT.replace(old, new).encode()) != _canonical_text(TEXT.encode())


def _expressions(*instructions: tuple[int, int, int, int]) -> bytes:
    def word(operator: int, value: int) -> bytes:
        tag = b"\x32\x80\x01\x00\x02\x80\x01\x00" + bytes([operator])
        return tag + b"\x06\x80\x01\x00" + struct.pack("<i", value) + b"\xcc\x7f"

    words = [
        word(0x11 if place == 0 else 0, value)
        for instruction in instructions
        for place, value in enumerate(instruction)
    ]
    count = struct.pack("<Q", len(words))
    return b"\x35\x80\x01\x00\x07\x80\x01\x00\x0a\x00\x00\x00\x01\x80\x33\x80\x01\x00" + count + b"".join(words)


def _engine(code: bytes) -> bytes:
    start = 0x58
    size = start + len(code)
    head = b"vtrt" + struct.pack("<IQQ", 0, 1, size) + bytes([1, 6, 1, 120]) + b"vtrt" + bytes(0x20)
    return head + b"NGNE" + struct.pack("<IQQ", 0, start, len(code)) + code


def _refer(*registers: int) -> bytes:
    return b"".join(b"\x09\x80" + struct.pack("<q", -(register + 2)) for register in registers)


def test_order_and_numbers_of_shape_expressions_do_not_count() -> None:
    one = _engine(_refer(7, 9) + _expressions((7, 2, 3, 0), (8, 5, 6, 0), (9, 1, 8, 0)) + _refer(7, 8))
    other = _engine(_refer(8, 9) + _expressions((7, 5, 6, 0), (8, 2, 3, 0), (9, 1, 7, 0)) + _refer(8, 7))
    assert digest_engine(one) == digest_engine(other)


@pytest.mark.parametrize(
    "code",
    [
        _refer(8, 9) + _expressions((7, 2, 3, 0), (8, 5, 6, 0), (9, 1, 8, 0)),
        _refer(9, 7) + _expressions((7, 2, 3, 0), (8, 5, 6, 0), (9, 1, 8, 0)),
        _refer(7, 9) + _expressions((7, 2, 3, 0), (8, 5, 6, 0), (9, 1, 7, 0)),
        _refer(7, 9) + _expressions((7, 3, 2, 0), (8, 5, 6, 0), (9, 1, 8, 0)),
        _refer(7, 9) + _expressions((7, 2, 3, 0), (8, 5, 6, 0)),
        # Not set once: read as bytes.
        _refer(7, 9) + _expressions((7, 2, 3, 0), (7, 5, 6, 0), (9, 1, 8, 0)),
    ],
)
def test_what_shape_expressions_say_counts(code: bytes) -> None:
    base = _engine(_refer(7, 9) + _expressions((7, 2, 3, 0), (8, 5, 6, 0), (9, 1, 8, 0)))
    assert digest_engine(_engine(code)) != digest_engine(base)
