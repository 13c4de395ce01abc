"""Digest of a saved torch.export program's meaning, read from the .pt2 archive without torch.

In the digest, by model of the archive:
- graph: all of models/<name>.json but what is named below, so operators with their overloads, arguments, the names of
  values (they become names of TensorRT layers), shapes, ranges, guards, signature, call structure, `custom` metadata;
- weights and constants: by name, each tensor's bytes, dtype, sizes, strides, device, requires_grad, whether it is a
  parameter, and which tensors share a storage;
- every other member of the archive, by its name and bytes.
Out, because it says where a program came from and not what it computes:
- per node: stack_trace, nn_module_stack, source_fn_stack, torch_fn, from_node (which holds addresses of objects);
- hints of symbolic sizes (those of the example inputs), and the names of shape symbols: they are renamed by first use;
- torch_version and the minor schema version (the major one stays);
- data/sample_inputs/, .data/serialization_id, the name of the root folder, the numbers of payload files;
- storage around a tensor: of a view, the stretch from its first to its last element counts, not where in the storage
  it lies (unless others share that storage). Graphs name the offset too, so a view still differs from its clone there.

Schema: torch/_export/serde/schema.py; seen in torch 2.11 to 2.14 (8.17 to 8.20).
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trtbuild.digest import Json, digest_value
from trtbuild.digests.archive import Archive
from trtbuild.structure import in_order, output_names, structure_of

VERSION = 1

_NODE_METADATA = frozenset({"stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"})
_ASIDE = frozenset({"torch_version", "schema_version", "range_constraints"})
_DROPPED_MEMBERS = ("data/sample_inputs/", ".data/serialization_id")
_SYMBOL = re.compile(r"Symbol\('([^']*)'")
_WORD = re.compile(r"[A-Za-z_]\w*")

# torch._export.serde.schema.ScalarType: name and bytes of an element.
_DTYPES = {
    1: ("uint8", 1),
    2: ("int8", 1),
    3: ("int16", 2),
    4: ("int32", 4),
    5: ("int64", 8),
    6: ("float16", 2),
    7: ("float32", 4),
    8: ("float64", 8),
    9: ("complex32", 4),
    10: ("complex64", 8),
    11: ("complex128", 16),
    12: ("bool", 1),
    13: ("bfloat16", 2),
    28: ("uint16", 2),
    29: ("float8_e4m3fn", 1),
    30: ("float8_e5m2", 1),
    31: ("float8_e4m3fnuz", 1),
    32: ("float8_e5m2fnuz", 1),
    33: ("float8_e8m0fnu", 1),
    34: ("uint32", 4),
    35: ("uint64", 8),
}
_STRIDED = 7

_TABLES = {
    "as_tensor": "tensor_values",
    "as_sym_int": "sym_int_values",
    "as_sym_float": "sym_float_values",
    "as_sym_bool": "sym_bool_values",
}
_SYMBOLIC = {"as_sym_int": "int64", "as_sym_float": "float64", "as_sym_bool": "bool"}


def describe_program(path: Path, known: Mapping[tuple[int, int], str] | None = None) -> dict[str, Json]:
    """What `digest_program` digests: per model digests of graph, weights, constants and of each tensor; other members.

    {"version", "models": {name: {"graph", "weights": {"digest", "tensors": {name: facts}}, "constants": as weights}},
    "members": {name: digest}}; the facts of a tensor hold its "digest". `known`: digests of stretches of the file.
    """
    with Archive(path, known) as archive, _schema_errors(path):
        used: set[str] = set()
        models: dict[str, Json] = {}
        for name in _models(archive):
            member = f"models/{name}.json"
            used.add(member)
            models[name] = {
                "graph": _digest("graph", canonical_graph(_load(archive, member))),
                "weights": _tensors(archive, f"data/weights/{name}_weights_config.json", used),
                "constants": _tensors(archive, f"data/constants/{name}_constants_config.json", used),
            }
        used.update(name for name in archive.names if name.startswith(_DROPPED_MEMBERS))
        others = {name: (name, 0, len(archive[name])) for name in archive.names if name not in used}
        return {"version": VERSION, "models": models, "members": dict(sorted(archive.digests(others).items()))}


def digest_program(path: Path, known: Mapping[tuple[int, int], str] | None = None) -> str:
    """The digest of a saved program's meaning, in hex; ValueError where the file is no program."""
    return _digest("program", describe_program(path, known))


def program_signature(path: Path) -> dict[str, Json]:
    """The program's inputs and outputs, as manifests give them.

    inputs: name, dtype, shape (a number or an expression of symbols) and ranges {symbol: [min, max or None]};
    outputs: name, dtype and shape; structure: how they lie in the result (see `structure`). Sizes that are passed or
    given back themselves have the dtype int64 and no shape; constants that tracing has fixed are no inputs.
    """
    with Archive(path) as archive, _schema_errors(path):
        names = _models(archive)
        if len(names) > 1 and "model" not in names:
            raise ValueError(f"{path.name} holds several programs: {', '.join(names)}.")
        model = _load(archive, f"models/{'model' if 'model' in names else names[0]}.json")
        graph, ranges = model["graph_module"]["graph"], model["range_constraints"]
        signature = model["graph_module"]["signature"]
        inputs = [spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec]
        outputs = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
        structure = structure_of(model["graph_module"]["module_call_graph"][0]["signature"]["out_spec"], outputs)
        names = output_names(structure, len(outputs))
        return {
            "inputs": [
                {"name": _name(arg), **_value(arg, graph), "ranges": _ranges(arg, graph, ranges)} for arg in inputs
            ],
            "outputs": [{"name": name, **_value(arg, graph)} for name, arg in zip(names, outputs, strict=True)],
            "structure": in_order(structure),
        }


def canonical_graph(model: Mapping[str, Any]) -> Json:
    """The part of a models/*.json that has a meaning; symbols renamed by first use, the inputs first in their order."""
    symbols: dict[str, str] = {}
    graph = model["graph_module"]["graph"]
    for argument in graph["inputs"]:
        _kept(_meta(argument, graph), symbols)
    body = _kept({key: value for key, value in model.items() if key not in _ASIDE}, symbols)
    ranges = {
        _WORD.sub(lambda word: symbols.get(word[0], word[0]), expression): bounds
        for expression, bounds in model["range_constraints"].items()
    }
    return {"model": body, "ranges": ranges, "schema": model["schema_version"]["major"]}


def _kept(value: Any, symbols: dict[str, str]) -> Any:
    """A part of the model without what has no meaning. Keys are walked sorted, so that there is one first use."""
    if isinstance(value, list):
        return [_kept(item, symbols) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("expr_str"), str):

        def renamed(found: re.Match[str]) -> str:
            return f"Symbol('{symbols.setdefault(found[1], f'${len(symbols)}')}'"

        value = {**value, "expr_str": _SYMBOL.sub(renamed, value["expr_str"])}
        value.pop("hint", None)
    if isinstance(value.get("target"), str) and isinstance(value.get("metadata"), dict):
        metadata = {key: item for key, item in value["metadata"].items() if key not in _NODE_METADATA}
        value = {**value, "metadata": metadata}
    return {key: _kept(item, symbols) for key, item in sorted(value.items())}


def _tensors(archive: Archive, config_name: str, used: set[str]) -> Json:
    """The digests of the tensors that a payload config lists. Every member it names is added to `used`."""
    if config_name not in archive:
        return {"digest": _digest("tensors", {}), "tensors": {}}
    used.add(config_name)
    config: dict[str, dict[str, Any]] = _load(archive, config_name)["config"]
    folder = config_name.rpartition("/")[0]
    members = {name: f"{folder}/{entry['path_name']}" for name, entry in config.items()}
    used.update(members.values())
    sharing = Counter(members.values())
    first: dict[str, str] = {}
    for name in sorted(config):
        first.setdefault(members[name], name)
    # Tied weights are hashed once: parts are told apart by member and stretch.
    described: dict[str, dict[str, Any]] = {}
    part_of: dict[str, tuple[str, int, int]] = {}
    for name, entry in sorted(config.items()):
        member = members[name]
        part_of[name] = (member, *_stretch(name, entry, len(archive[member])))
        shared = sharing[member] > 1
        described[name] = {**_facts(entry, shared), "shares_storage_with": first[member] if shared else None}
    digests = archive.digests({part: part for part in part_of.values()})
    tensors = {name: {**facts, "digest": digests[part_of[name]]} for name, facts in described.items()}
    return {"digest": _digest("tensors", tensors), "tensors": tensors}


def _facts(entry: Mapping[str, Any], shared: bool) -> dict[str, Any]:
    facts = {key: value for key, value in entry.items() if key not in ("path_name", "tensor_meta")}
    meta = entry["tensor_meta"]
    if meta is None:
        return facts
    facts |= _kept(meta, {})
    facts["dtype"] = dtype_name(meta["dtype"])
    facts["shape"] = [_plain(size) for size in facts.pop("sizes")]
    facts["strides"] = [_plain(size) for size in facts["strides"]]
    if not shared:
        del facts["storage_offset"]
    return facts


def _stretch(name: str, entry: Mapping[str, Any], size: int) -> tuple[int, int]:
    """Where in its payload a tensor lies, from its first byte to its last; all of it where that cannot be said."""
    meta = entry["tensor_meta"]
    if meta is None or entry["use_pickle"] or meta["layout"] != _STRIDED or meta["dtype"] not in _DTYPES or size == 0:
        return 0, size
    sizes, strides = [_plain(item) for item in meta["sizes"]], [_plain(item) for item in meta["strides"]]
    offset = _plain(meta["storage_offset"])
    if not all(isinstance(number, int) and number >= 0 for number in (*sizes, *strides, offset)):
        return 0, size
    item = _DTYPES[meta["dtype"]][1]
    if not all(sizes):
        return 0, 0
    elements = 1 + sum((length - 1) * stride for length, stride in zip(sizes, strides, strict=True))
    start, stop = offset * item, (offset + elements) * item
    if stop > size:
        raise ValueError(f"The tensor {name} is truncated: it takes {stop} bytes, and its payload has {size}.")
    return start, stop


def _plain(size: Mapping[str, Any]) -> Any:
    return size.get("as_int", size)


def dtype_name(number: int) -> str:
    """torch's name of a dtype by its number in the archive."""
    return _DTYPES[number][0] if number in _DTYPES else f"scalar_type_{number}"


def _name(arg: Mapping[str, Any]) -> str:
    (value,) = arg.values()
    return str(value.get("name", value.get("as_name", ""))) if isinstance(value, dict) else ""


def _meta(arg: Mapping[str, Any], graph: Mapping[str, Any]) -> Any:
    """What the graph says about the value that an argument names."""
    tables = [graph.get(table, {}) for kind, table in _TABLES.items() if kind in arg]
    return tables[0].get(_name(arg)) if tables else None


def _value(arg: Mapping[str, Any], graph: Mapping[str, Any]) -> dict[str, Json]:
    if "as_tensor" in arg:
        meta = _meta(arg, graph)
        return {"dtype": dtype_name(meta["dtype"]), "shape": [_size(size) for size in meta["sizes"]]}
    kind = next(iter(arg))
    return {"dtype": _SYMBOLIC.get(kind, kind.removeprefix("as_")), "shape": []}


def _size(size: Mapping[str, Any]) -> int | str:
    return int(size["as_int"]) if "as_int" in size else expression_text(size["as_expr"]["expr_str"])


def _ranges(arg: Mapping[str, Any], graph: Mapping[str, Any], ranges: Mapping[str, Any]) -> Json:
    found = dict.fromkeys(symbol for text in _expressions(_meta(arg, graph)) for symbol in _SYMBOL.findall(text))
    return {symbol: [ranges[symbol]["min_val"], ranges[symbol]["max_val"]] for symbol in found if symbol in ranges}


def _expressions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("expr_str"), str):
            yield value["expr_str"]
        else:
            for item in value.values():
                yield from _expressions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _expressions(item)


def expression_text(text: str) -> str:
    """A size as people write it, from sympy's constructor text: "Mul(Integer(2), Symbol('s0'))" is "2*s0"."""
    try:
        return _text(ast.parse(text, mode="eval").body)[0]
    except (SyntaxError, ValueError):
        return text


_JOINED: dict[str, tuple[str, int]] = {"Add": (" + ", 1), "Mul": ("*", 2), "FloorDiv": ("//", 2), "Pow": ("**", 3)}


def _text(node: ast.expr) -> tuple[str, int]:
    """Text and how tightly it binds."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return ast.unparse(node), 4
    name = node.func.id
    if name in ("Symbol", "Integer") and node.args and isinstance(node.args[0], ast.Constant | ast.UnaryOp):
        value = ast.literal_eval(node.args[0])
        return str(value), 1 if isinstance(value, int) and value < 0 else 4
    parts = [_text(arg) for arg in node.args]
    if name in _JOINED and len(parts) > 1:
        sign, binds = _JOINED[name]
        # // and ** do not associate: what binds as they do is bracketed too.
        least = binds if name in ("Add", "Mul") else binds + 1
        joined = sign.join(f"({text})" if tight < least else text for text, tight in parts)
        return joined.replace(" + -", " - ") if name == "Add" else joined, binds
    return f"{name}({', '.join(text for text, _ in parts)})", 4


def _models(archive: Archive) -> list[str]:
    members = [name for name in archive.names if name.startswith("models/") and name.endswith(".json")]
    names = sorted(name.removeprefix("models/").removesuffix(".json") for name in members)
    if not names:
        raise ValueError(f"{archive.path.name} is no saved program: it holds no models/*.json.")
    return names


def _load(archive: Archive, name: str) -> Any:
    try:
        # Python's json knows NaN and Infinity, canonical text does not; torch writes them as strings.
        return json.loads(bytes(archive[name]), parse_constant=lambda text: {"not_finite": text})
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{archive.path.name} is damaged: {name} is no JSON ({error}).") from error


@contextmanager
def _schema_errors(path: Path) -> Iterator[None]:
    """A program that lacks what the schema promises, or nests beyond reason, as one ValueError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = f"{type(error).__name__} {error}"
        raise ValueError(f"{path.name} is no program as torch.export saves it: {reason}.") from error


def _digest(kind: str, value: Json) -> str:
    return digest_value({"digest": kind, "version": VERSION, "value": value})
