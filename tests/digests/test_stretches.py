"""Where large tensors lie: exact where a format is known, nothing where it is not, and never an error."""

from __future__ import annotations

import random
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trtbuild.digest import digest_bytes, digest_file
from trtbuild.digests import canonical_digest
from trtbuild.digests.outputs import describe_output
from trtbuild.digests.stretches import LARGE, cut, large_tensors


def content(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return [data[slice(*stretch)] for stretch in large_tensors(path)]


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def engine(code: bytes = b"code" * 20, weights: bytes = b"") -> bytes:
    """An engine's frame: header, table, two sections."""
    start = 0x40 + 2 * 24
    table = b"".join(
        struct.pack("<4sIQQ", tag, 0, at, len(part))
        for tag, at, part in ((b"NGNE", start, code), (b"THGW", start + len(code), weights))
    )
    size = start + len(code) + len(weights) + 4
    head = struct.pack("<4sIQQ4s", b"vtrt", 0, 2, size, bytes([1, 6, 1, 120])).ljust(0x30, b"\0")
    return head + struct.pack("<Q", 13040).ljust(0x10, b"\0") + table + code + weights + b"end."


def test_large_stored_members_of_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/models/model.json", b"{}" * LARGE)
        file.writestr("a/small", noise(LARGE - 1))
        file.writestr("a/large", noise(LARGE))
        file.writestr("a/packed", noise(LARGE), zipfile.ZIP_DEFLATED)
    assert content(path) == [b"{}" * LARGE, noise(LARGE)]


def test_a_zip_of_text_alone_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/models/model.json", b"{}" * LARGE)
    assert content(path) == []


@pytest.mark.parametrize("external", [False, True])
def test_large_initializers_of_an_onnx_model(tmp_path: Path, external: bool) -> None:
    onnx = pytest.importorskip("onnx")
    names = {"a": LARGE, "b": 40, "c": 2 * LARGE}
    tensors = [
        onnx.helper.make_tensor(name, onnx.TensorProto.UINT8, [size], noise(size, size), raw=True)
        for name, size in names.items()
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], tensors))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=external, location="m.onnx.data", size_threshold=0)
    wanted = [noise(LARGE, LARGE), noise(2 * LARGE, 2 * LARGE)]
    assert content(tmp_path / ("m.onnx.data" if external else "m.onnx")) == wanted


def test_weights_of_an_engine(tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(engine(weights=noise(LARGE)))
    assert content(path) == [noise(LARGE)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9), kind=st.sampled_from(["zip", "onnx", "engine"]))
def test_damaged_files_have_stretches_within_them_or_none(tmp_path: Path, seed: int, kind: str) -> None:
    random_ = random.Random(seed)
    path = tmp_path / f"m.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a/one", noise(LARGE))
            file.writestr("a/two", noise(LARGE, 1))
        data = bytearray(path.read_bytes())
    elif kind == "engine":
        data = bytearray(engine(weights=noise(LARGE)))
    else:
        tensor = b"\x4a\x80\x80\x04" + noise(LARGE)
        data = bytearray(b"\x3a\x87\x80\x04\x2a\x84\x80\x04" + tensor)
    for _ in range(random_.randrange(1, 20)):
        at = random_.choice(
            [random_.randrange(len(data)), random_.randrange(60), len(data) - random_.randrange(1, 200)]
        )
        data[at] ^= 1 << random_.randrange(8)
    path.write_bytes(data[: len(data) - random_.choice([0, 0, random_.randrange(200)])])
    size = path.stat().st_size
    stretches = large_tensors(path)
    assert all(start >= 0 and start + LARGE <= stop <= size for start, stop in stretches)
    assert b"".join(path.read_bytes()[slice(*one)] for one in cut(size, stretches)) == path.read_bytes()
    found = describe_output(path, meaning=True)
    assert found["digest"] == digest_file(path) and found["canonical"] == canonical_digest(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    members=st.lists(
        st.tuples(st.sampled_from([0, 1, 500, LARGE, LARGE + 7, 3 * LARGE]), st.booleans(), st.booleans()), max_size=8
    )
)
def test_what_is_said_of_an_output_is_true_of_its_bytes(tmp_path: Path, members: list[tuple[int, bool, bool]]) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for index, (size, packed, same) in enumerate(members):
            method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
            file.writestr(f"a/{index}", noise(size, 0 if same else index + 1), method)
    found = describe_output(path, meaning=True)
    assert (found["digest"], found["canonical"]) == (digest_file(path), canonical_digest(path))
    data, at = path.read_bytes(), 0
    for digest, size in found.get("parts", ()):
        assert digest_bytes(data[at : at + size]) == digest
        at += size
    assert at in (0, len(data))
    assert ("parts" in found) == any(size >= LARGE and not packed for size, packed, _ in members)
