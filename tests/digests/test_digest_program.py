from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from digest_samples import SOURCE, SaveProgram
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trtbuild.digests.archive import Archive, rewrite
from trtbuild.digests.program import (
    canonical_graph,
    describe_program,
    digest_program,
    expression_text,
    program_signature,
)

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"

HELPER = """
    def forward(self, x):
        return self.inner(x)

    def inner(self, x):"""

UNCHANGED: dict[str, dict[str, Any]] = {
    "the same again": {},
    "a comment above": {"above": "# a comment\n\n\n"},
    "a comment within": {
        "source": SOURCE.replace("        hidden = self.first", "        # why\n        hidden = self.first")
    },
    "another module": {"module": "elsewhere"},
    "other example values": {"fill": -7.25},
    "another example batch": {"batch": 17},
    "another name of the dim": {"dim": "n"},
    "another file name": {"stem": "renamed"},
    "another class name": {"source": SOURCE.replace("Net", "Other") + "\n\nNet = Other\n"},
    "another local name": {"source": SOURCE.replace("hidden", "h")},
    "code moved into a helper": {"source": SOURCE.replace("\n    def forward(self, x):", HELPER)},
}


def flip_weight(net: Any) -> None:
    import torch

    bits = net.first.weight.view(torch.int32)
    bits[0, 0] ^= 1


def change_buffer(net: Any) -> None:
    net.offset[3] += 1


def freeze(net: Any) -> None:
    net.first.weight.requires_grad_(False)


def tie(net: Any) -> None:
    import torch

    net.first.weight.copy_(torch.ones(8, 4))
    net.second.weight = torch.nn.Parameter(net.first.weight.view(4, 8))


def equal_but_apart(net: Any) -> None:
    import torch

    net.first.weight.copy_(torch.ones(8, 4))
    net.second.weight = torch.nn.Parameter(torch.ones(4, 8))


def restride(net: Any) -> None:
    import torch

    net.first.weight = torch.nn.Parameter(net.first.weight.t().contiguous().t())


CHANGED: dict[str, dict[str, Any]] = {
    "one bit of a weight": {"edit": flip_weight},
    "a buffer": {"edit": change_buffer},
    "a weight frozen": {"edit": freeze},
    "weights tied": {"edit": tie},
    "weights equal but apart": {"edit": equal_but_apart},
    "other strides": {"edit": restride},
    "a constant": {"source": SOURCE.replace("* 2.0", "* 2.0000000000000004")},
    "a lifted constant": {"source": SOURCE.replace("[1.0, 2.0", "[1.0, 2.5")},
    "the upper bound": {"bounds": (2, 33)},
    "the lower bound": {"bounds": (3, 32)},
    "static": {"bounds": None},
    "an attribute of an op": {"source": SOURCE.replace("gelu(hidden)", "gelu(hidden, approximate='tanh')")},
    "an input name": {"source": SOURCE.replace("forward(self, x)", "forward(self, y)").replace("first(x)", "first(y)")},
    "an output name": {"source": SOURCE.replace('"out"', '"result"')},
    "a parameter name": {"source": SOURCE.replace("second", "last")},
    "a buffer that is not saved": {
        "source": SOURCE.replace("torch.arange(8.0))", "torch.arange(8.0), persistent=False)")
    },
    "an op more": {"source": SOURCE.replace("+ self.offset", "+ self.offset + self.offset")},
    "a dead op": {"source": SOURCE.replace("        return", "        x.cos()\n        return")},
    "decomposed": {"decompose": True},
}


@pytest.mark.parametrize("edit", UNCHANGED)
def test_digest_is_unchanged_by(edit: str, save_program: SaveProgram) -> None:
    assert digest_program(save_program(**UNCHANGED[edit])) == digest_program(save_program())


def test_digest_is_changed_by(save_program: SaveProgram, subtests_of: Callable[[str, str, bool], None]) -> None:
    import torch

    base = save_program()
    digests = {"nothing": digest_program(base)}
    for edit, options in {**CHANGED, "a dtype": {"dtype": torch.float64}}.items():
        digests[edit] = digest_program(save_program(**options))
    for edit, digest in digests.items():
        same = [other for other, found in digests.items() if found == digest and other != edit]
        subtests_of(edit, f"has the digest of {same}", not same)


@pytest.fixture
def subtests_of() -> Iterator[Callable[[str, str, bool], None]]:
    """Collect what is wrong in each of many cases, and fail once with all of it."""
    wrong: list[str] = []

    def check(case: str, words: str, right: bool) -> None:
        if not right:
            wrong.append(f"{case}: {words}")

    yield check
    assert not wrong


def test_decomposed_programs_differ_in_bytes_and_not_in_digest(save_program: SaveProgram) -> None:
    # from_node holds addresses of objects: the file is never the same twice, not even in one process.
    one, other = save_program(decompose=True), save_program(decompose=True)
    assert digest_program(one) == digest_program(other)


def test_digest_does_not_follow_the_hash_seed(tmp_path: Path) -> None:
    code = (
        "import sys, torch\n"
        f"{SOURCE}\n"
        "torch.manual_seed(0)\n"
        "program = torch.export.export(Net().eval(), (torch.ones(2, 4),), strict=False)\n"
        "torch.export.save(program, sys.argv[1])\n"
    )
    paths = [tmp_path / f"seed{seed}.pt2" for seed in (1, 2)]
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONHASHSEED": path.stem[4:]})
        for path in paths
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    assert digest_program(paths[0]) == digest_program(paths[1])


def test_description_tells_weights_from_graph(save_program: SaveProgram) -> None:
    def parts(path: Path) -> dict[str, Any]:
        model: Any = describe_program(path)["models"]
        return dict(model["model"])

    base, weights = parts(save_program()), parts(save_program(edit=flip_weight))
    constant = parts(save_program(source=SOURCE.replace("[1.0, 2.0", "[1.0, 2.5")))
    graph = parts(save_program(source=SOURCE.replace("* 2.0", "* 3.0")))
    for other, part in ((weights, "weights"), (constant, "constants"), (graph, "graph")):
        assert [key for key in base if base[key] != other[key]] == [part]
    old, new = base["weights"]["tensors"], weights["weights"]["tensors"]
    assert [name for name in old if old[name]["digest"] != new[name]["digest"]] == ["first.weight"]
    assert list(old) == ["first.bias", "first.weight", "offset", "second.bias", "second.weight"]


VIEW = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        storage = torch.arange(100.0)
        storage[:10] = HIDDEN
        self.weight = torch.nn.Parameter(storage[10:18].view(4, 2)[STRETCH])

    def forward(self, x):
        return x @ self.weight
"""


@pytest.mark.filterwarnings("ignore:No complete tensor")
@pytest.mark.parametrize("stretch", [":", ":, :1"])
def test_what_lies_around_a_view_does_not_count(save_program: SaveProgram, stretch: str) -> None:
    source = VIEW.replace("STRETCH", stretch)
    one = save_program(source.replace("HIDDEN", "1.0"), bounds=None)
    other = save_program(source.replace("HIDDEN", "2.0"), bounds=None)
    within = save_program(source.replace("[:10] = HIDDEN", "[10] = 5"), bounds=None)
    assert one.read_bytes() != other.read_bytes()
    assert digest_program(one) == digest_program(other)
    assert digest_program(one) != digest_program(within)


def test_other_members_count(save_program: SaveProgram, tmp_path: Path) -> None:
    base = save_program()
    rewrite(base, tmp_path / "a.pt2", {"archive_version": b"1"})
    assert digest_program(tmp_path / "a.pt2") != digest_program(base)
    rewrite(base, tmp_path / "b.pt2", {".data/serialization_id": b"1", "data/sample_inputs/model.pt": b"2"})
    assert digest_program(tmp_path / "b.pt2") == digest_program(base)


SEVERAL = """
import torch


class Net(torch.nn.Module):
    def forward(self, x):
        return x.half(), x.shape[0], (x * 2).sum() > 0, torch.cat([x, x])[1:]
"""


def test_signature(save_program: SaveProgram) -> None:
    assert program_signature(save_program(SEVERAL)) == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["s77", 4], "ranges": {"s77": [2, 32]}}],
        "outputs": [
            {"name": "output0", "dtype": "float16", "shape": ["s77", 4]},
            {"name": "output1", "dtype": "int64", "shape": []},
            {"name": "output2", "dtype": "bool", "shape": []},
            {"name": "output3", "dtype": "float32", "shape": ["2*s77 - 1", 4]},
        ],
        "structure": {"tuple": [0, 1, 2, 3]},
    }
    fixed: Any = program_signature(save_program(SEVERAL, bounds=None))["inputs"]
    assert fixed == [{"name": "x", "dtype": "float32", "shape": [3, 4], "ranges": {}}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Symbol('s0', positive=True, integer=True)", "s0"),
        ("Mul(Integer(2), Add(Symbol('s0'), Integer(-1)))", "2*(s0 - 1)"),
        ("FloorDiv(Add(Symbol('s0'), Integer(3)), Integer(4))", "(s0 + 3)//4"),
        ("Pow(Mul(Integer(2), Symbol('s0')), Integer(2))", "(2*s0)**2"),
        ("Mod(Symbol('s0'), Integer(8))", "Mod(s0, 8)"),
        ("Max(Integer(1), Symbol('u0'))", "Max(1, u0)"),
        ("not python (", "not python ("),
        ("__import__('os').system('x')", "__import__('os').system('x')"),
    ],
)
def test_expressions_are_written_as_people_write_them(text: str, words: str) -> None:
    assert expression_text(text) == words


@pytest.mark.parametrize(
    ("member", "data", "words"),
    [
        (MODEL, b"{", "is no JSON"),
        (MODEL, b"{}", "no program as torch.export saves it"),
        (MODEL, b"[" * 100_000, "no program as torch.export saves it"),
        (WEIGHTS, b'{"config": {"w": {"path_name": "gone"}}}', "has no member data/weights/gone"),
        ("data/weights/weight_0", b"short", "truncated"),
    ],
)
def test_damaged_programs_are_refused(
    save_program: SaveProgram, tmp_path: Path, member: str, data: bytes, words: str
) -> None:
    rewrite(save_program(), tmp_path / "bad.pt2", {member: data})
    with pytest.raises(ValueError, match=words):
        digest_program(tmp_path / "bad.pt2")


def test_resnet18_is_the_same_with_another_example_batch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    net = models.resnet18().eval()
    digests = []
    for batch in (2, 3):
        dims = ({0: torch.export.Dim("batch", min=1, max=8)},)
        path = tmp_path / f"r{batch}.pt2"
        torch.export.save(torch.export.export(net, (torch.randn(batch, 3, 64, 64),), dynamic_shapes=dims), path)
        digests.append(digest_program(path))
    assert digests[0] == digests[1]
    with torch.no_grad():
        net.layer4[1].bn2.running_var[-1] += 1
    torch.export.save(torch.export.export(net, (torch.randn(2, 3, 64, 64),), dynamic_shapes=dims), path)
    assert digest_program(path) != digests[0]


# What random edits of a program's JSON do. The program is made once, and each edit is of a copy.

SLOW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
DROPPED = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


@pytest.fixture
def base(save_program: SaveProgram) -> Path:
    return save_program()


def load(path: Path, member: str) -> Any:
    with Archive(path) as opened:
        return json.loads(bytes(opened[member]))


def with_json(path: Path, target: Path, member: str, value: Any) -> Path:
    rewrite(path, target, {member: json.dumps(value).encode()})
    return target


def shuffled(value: Any, generator: random.Random) -> Any:
    """The value with the keys of every mapping in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        generator.shuffle(items)
        return {key: shuffled(item, generator) for key, item in items}
    return [shuffled(item, generator) for item in value] if isinstance(value, list) else value


def nodes_and_hints(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        if "expr_str" in value:
            yield "hint", value
        if "target" in value:
            yield "node", value
        for item in value.values():
            yield from nodes_and_hints(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes_and_hints(item)


@given(data=st.data(), generator=st.randoms(use_true_random=False))
@SLOW
def test_what_has_no_meaning_never_counts(base: Path, tmp_path: Path, data: Any, generator: random.Random) -> None:
    model = load(base, MODEL)
    for kind, found in list(nodes_and_hints(model)):
        if kind == "hint":
            found["hint"] = data.draw(st.none() | st.integers(0, 99).map(lambda size: {"as_int": size}))
        else:
            changes = data.draw(st.dictionaries(st.sampled_from(DROPPED), st.none() | st.text(max_size=5), max_size=3))
            metadata = {**found["metadata"], **changes}
            found["metadata"] = {key: text for key, text in metadata.items() if text is not None}
    model["torch_version"] = data.draw(st.text(max_size=5))
    model["schema_version"]["minor"] = data.draw(st.integers(0, 99))
    symbol = data.draw(st.from_regex(r"s[0-9]{1,3}", fullmatch=True))
    text = json.dumps(shuffled(model, generator)).replace("s77", symbol)
    rewrite(base, tmp_path / "edited.pt2", {MODEL: text.encode()})
    assert digest_program(tmp_path / "edited.pt2") == digest_program(base)
    numbers = load(base, WEIGHTS)
    names = [entry["path_name"] for entry in numbers["config"].values()]
    renamed = dict(zip(names, data.draw(st.permutations(names)), strict=True))
    for entry in numbers["config"].values():
        entry["path_name"] = renamed[entry["path_name"]]
    with Archive(base) as opened:
        moved = {f"data/weights/{new}": bytes(opened[f"data/weights/{old}"]) for old, new in renamed.items()}
    moved[WEIGHTS] = json.dumps(shuffled(numbers, generator)).encode()
    rewrite(base, tmp_path / "edited.pt2", moved)
    assert digest_program(tmp_path / "edited.pt2") == digest_program(base)


def scalars(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all scalars that are kept."""
    if isinstance(value, dict):
        for key, item in value.items():
            dropped = key in ("hint", "torch_version", "minor", "path_name", "storage_offset") or key in DROPPED
            if not dropped or "tensor_values" in path:
                yield from scalars(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from scalars(item, (*path, index))
    else:
        yield path


def flipped(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 1.0
    return "x" if value is None else value + "x"


def edited(value: Any, path: tuple[Any, ...]) -> Any:
    result = copy.deepcopy(value)
    inner = result
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = flipped(inner[path[-1]])
    return result


@given(data=st.data(), member=st.sampled_from([MODEL, MODEL, WEIGHTS, CONSTANTS]))
@SLOW
def test_every_kept_scalar_counts(base: Path, tmp_path: Path, data: Any, member: str) -> None:
    value = load(base, member)
    paths = [path for path in scalars(value) if "hint" not in path]
    path = data.draw(st.sampled_from(paths))
    target = with_json(base, tmp_path / "edited.pt2", member, edited(value, path))
    try:
        digest = digest_program(target)
    except ValueError:
        return
    assert digest != digest_program(base), path


@given(places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4), cut=st.floats(0, 1))
@SLOW
def test_damage_is_a_value_error_or_another_content(
    base: Path, tmp_path: Path, places: list[tuple[float, int]], cut: float
) -> None:
    data = bytearray(base.read_bytes())
    for place, byte in places:
        # Most of what can be wrong with a zip is wrong in its directory, at the end.
        data[-1 - int(place**4 * (len(data) - 1))] = byte
    (tmp_path / "bad.pt2").write_bytes(data if cut < 0.9 else data[: int((cut - 0.9) * 10 * len(data))])
    for read in (digest_program, program_signature):
        try:
            read(tmp_path / "bad.pt2")
        except ValueError as error:
            assert "\n" not in str(error)


def test_every_kept_scalar_of_the_graph_counts(base: Path) -> None:
    model = load(base, MODEL)
    before = json.dumps(canonical_graph(model))
    for path in scalars(model):
        if "hint" not in path:
            try:
                assert json.dumps(canonical_graph(edited(model, path))) != before, path
            except (TypeError, AttributeError):
                continue
