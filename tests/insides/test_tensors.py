"""Which tensors of a file of weights changed; that such a file is read, and never run."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtbuild.insides import Insides, compared, insides_of

torch = pytest.importorskip("torch")
Save = Callable[[dict[str, Any]], Insides]


@pytest.fixture(params=["safetensors", "pt", "wrapped"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Save:
    """Save a state dict and give what is inside of the file."""

    def saved(state: dict[str, Any]) -> Insides:
        path = tmp_path / ("w.safetensors" if request.param == "safetensors" else "w.pt")
        if request.param == "safetensors":
            from safetensors.torch import save_file

            save_file(state, path)
        else:
            torch.save({"state_dict": state, "epoch": 3} if request.param == "wrapped" else state, path)
        inside = insides_of(path)
        assert inside is not None
        return inside

    return saved


def state() -> dict[str, Any]:
    torch.manual_seed(0)
    return {f"layer{at}.weight": torch.randn(4, 3) for at in range(8)} | {"steps": torch.tensor(7)}


def test_every_tensor_is_noted_with_dtype_and_shape(save: Save) -> None:
    parts = save({"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "c": torch.zeros(0, 5)})["parts"]
    specs = {name: text.rpartition(" ")[0] for name, text in parts.items()}
    assert specs == {"a": "float32 [2, 3]", "b": "bfloat16 [4]", "c": "float32 [0, 5]"}


def test_the_very_tensors_are_named(save: Save) -> None:
    before = save(state())
    for changed, said in (
        (["layer3.weight"], "layer3.weight"),
        (["layer3.weight", "steps"], "layer3.weight, steps"),
        (
            [f"layer{at}.weight" for at in range(6)],
            "layer0.weight, layer1.weight, layer2.weight and 3 more tensors (of 9)",
        ),
    ):
        other = state()
        for name in changed:
            other[name] += 1
        assert compared(before, save(other)) == [said]


def test_one_bit_is_seen(save: Save) -> None:
    before = save(state())
    other = state()
    other["layer5.weight"].view(torch.int32)[3, 2] ^= 1
    assert compared(before, save(other)) == ["layer5.weight"]


def test_another_shape_or_dtype_is_told_as_such(save: Save) -> None:
    before = save(state())
    other = state()
    other["layer0.weight"] = torch.zeros(4, 5)
    other["layer1.weight"] = other["layer1.weight"].half()
    assert compared(before, save(other)) == [
        "layer0.weight float32 [4, 3] -> float32 [4, 5]",
        "layer1.weight float32 [4, 3] -> float16 [4, 3]",
    ]


def test_tensors_that_come_and_go_are_named(save: Save) -> None:
    before = save(state())
    other = state()
    other["head.bias"] = other.pop("layer7.weight")
    assert compared(before, save(other)) == ["head.bias added", "layer7.weight removed"]


def test_equal_tensors_in_another_order_are_no_change_of_a_tensor(save: Save) -> None:
    other = dict(reversed(state().items()))
    assert compared(save(state()), save(other)) == ["no tensor, only the layout of the file"]


def test_a_view_is_told_by_its_own_stretch_of_the_storage(tmp_path: Path) -> None:
    whole = torch.arange(12.0)

    def inside() -> Insides | None:
        torch.save({"tail": whole[8:], "rows": whole[:8].view(2, 4).t()}, tmp_path / "w.pt")
        return insides_of(tmp_path / "w.pt")

    before = inside()
    whole[9] = -1
    assert compared(before, inside()) == ["tail"]


def test_metadata_of_safetensors_is_told_apart(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    found = []
    for by in ("a", "b"):
        save_file({"x": torch.zeros(2)}, tmp_path / "w.safetensors", {"by": by})
        found.append(insides_of(tmp_path / "w.safetensors"))
    assert compared(*found) == ["no tensor, only its metadata"]


def test_parameters_and_modules_saved_whole(tmp_path: Path) -> None:
    torch.save({"p": torch.nn.Parameter(torch.ones(2)), "other": 1}, tmp_path / "w.pt")
    inside = insides_of(tmp_path / "w.pt")
    assert inside is not None and list(inside["parts"]) == ["p"]
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pt")
    assert insides_of(tmp_path / "m.pt") is None


class Runs:
    """Pickles as a call of a function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def zipped(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", b"\0" * 16)
    return path


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    import os

    mark = tmp_path / "ran"
    for call in (Runs(os.mkdir, str(mark)), Runs(eval, f"open({str(mark)!r}, 'w')"), Runs(__import__, "antigravity")):
        for pickled in ({"x": call}, call, [call]):
            insides_of(zipped(tmp_path / "w.pt", pickle.dumps(pickled)))
    assert not mark.exists()
    import sys

    assert "antigravity" not in sys.modules


def test_a_pickle_cannot_change_what_reads_it(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(3)}, tmp_path / "good.pt")
    before = insides_of(tmp_path / "good.pt")
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    # BUILD with a dict of slots sets attributes of whatever is on the stack.
    for thing in (rebuild, b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n", b"cos\nsystem\n"):
        for attribute in (b"__code__", b"__defaults__", b"__init__", b"__call__", b"__getitem__"):
            pickled = b"\x80\x02" + thing + b"N}X" + len(attribute).to_bytes(4, "little") + attribute + b"K\x01s\x86b."
            insides_of(zipped(tmp_path / "bad.pt", pickled))
    assert insides_of(tmp_path / "good.pt") == before


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_no_pickle_raises(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    insides_of(zipped(tmp_path_factory.getbasetemp() / "noise.pt", b"\x80\x02" + noise))


def test_damaged_files_have_no_insides(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    header = {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}

    def written(header: Any, body: bytes, length: int | None = None) -> Insides | None:
        text = json.dumps(header).encode()
        path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)
        return insides_of(path)

    assert written(header, b"\0" * 16) is not None
    assert written(header, b"\0" * 15) is None
    assert written(header, b"\0" * 16, 1 << 60) is None
    assert written([], b"") is None
    assert written({"x": 3}, b"") is None
    assert written({"x": {**header["x"], "data_offsets": [-4, 12]}}, b"\0" * 16) is None
    assert written({"x": {**header["x"], "data_offsets": ["a", "b"]}}, b"\0" * 16) is None
    for content in (b"", b"1234567"):
        path.write_bytes(content)
        assert insides_of(path) is None
