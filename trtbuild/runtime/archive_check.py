"""Whether a saved torch.export program holds what could run code as torch.export.load opens it. Standard library only.

torch.export.load unpickles what it cannot read safely, evaluates sizes as Python (sympify), turns guards into
functions, imports modules that structures name, hands out any function of torch that an argument names, and writes the
graph down as Python with the names that the file gives its values. Here every such place is allowed only what an honest
program has there; the rest is refused. It is a filter and no proof. Measured on torch 2.11, 2.13 and 2.14.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from trtbuild.runtime.archive_zip import UnsafeArchive, open_archive
from trtbuild.runtime.expressions import fault_of_guard, fault_of_size
from trtbuild.runtime.pickles import check_tensors, engine_fields

_PLAIN = frozenset(
    {
        "archive_format",
        "archive_version",
        "byteorder",
        "version",
        ".data/version",
        ".data/serialization_id",
        ".format_version",
        ".storage_alignment",
    }
)
_OPS = re.compile(r"torch\.ops\.(?P<space>\w+)\.(?P<name>\w+)(?:\.\w+)?")
# Ops of other namespaces come from libraries that the file cannot bring along, and may do anything.
_SPACES = frozenset({"aten", "prims", "torchvision", "quantized_decomposed"})
_NAMED_OPS = {
    "tensorrt": {"execute_engine", "no_op_placeholder_for_execute_engine"},
    "higher_order": {
        "cond",
        "while_loop",
        "map_impl",
        "scan",
        "associative_scan",
        "wrap_with_set_grad_enabled",
        "wrap_with_autocast",
        "auto_functionalized",
        "auto_functionalized_v2",
        "with_effects",
    },
}
_FORBIDDEN = frozenset({"from_file", "save", "load"})
_PYTHON = re.compile(
    r"_operator\.(?:getitem|add|sub|mul|mod|pow|neg|pos|abs|floordiv|truediv|eq|ne|lt|le|gt|ge|and_|or_|not_|xor|lshift"
    r"|rshift)|math\.(?:ceil|floor|trunc|sqrt|log|log2|exp|pow)|torch\.(?:sym_\w+|_sym_\w+|_check\w*)"
)
_TYPE = re.compile(r"[A-Za-z_][\w.]*")

# Where a program's JSON names a value of its graph, and where it names a tensor or a module by its path in the model.
_NAMES = frozenset({"name", "as_name", "user_input_name"})
_PATHS = frozenset({"parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name", "fqn"})
_NAMED = frozenset({"tensor_values", "sym_int_values", "sym_float_values", "sym_bool_values", "custom_obj_values"})
# What torch puts between double quotes where it is no name of Python: keys of a ModuleDict may be any text.
_PATH = re.compile(r"[\w.:/ +-]*")


def check_archive(path: Path | str) -> None:
    """UnsafeArchive with the first thing found that an honest program does not hold."""
    with open(path, "rb") as file:
        check_file(file)


def check_file(file: IO[bytes]) -> None:
    """`check_archive` of an open file."""
    archive, members = open_archive(file)
    with archive:
        for name, full in members.items():
            try:
                _check_member(name, partial(archive.read, full))
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                raise UnsafeArchive(f"{name} cannot be read: {error}") from error


def _check_member(name: str, read: Callable[[], bytes]) -> None:
    if name in _PLAIN or name.startswith("extra/"):
        return
    if re.fullmatch(r"models/[^/]+\.json", name):
        _check_model(_json(read(), name))
    elif re.fullmatch(r"data/(?:weights|constants)/[^/]+_config\.json", name):
        _check_payloads(_json(read(), name), name)
    elif re.fullmatch(r"data/sample_inputs/[^/]+\.pt", name):
        check_tensors(read(), name)
    elif re.fullmatch(r"data/constants/custom_obj_\d+", name):
        engine_fields(read(), name)
    elif not re.fullmatch(r"data/(?:weights/weight_\d+|constants/tensor_\d+)", name):
        native = name.endswith((".so", ".o", ".dll", ".cubin", ".pyd")) or name.startswith("data/aotinductor/")
        raise UnsafeArchive(f"{'native code' if native else 'a member that programs do not have'}: {name}")


def _json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnsafeArchive(f"{name} is no JSON") from error


def _check_payloads(config: Any, name: str) -> None:
    """Weights and constants are plain bytes; only engines of Torch-TensorRT are objects."""
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise UnsafeArchive(f"{name} is no list of tensors")
    for key, entry in entries.items():
        path = str(entry.get("path_name"))
        if re.fullmatch(r"custom_obj_\d+", path):
            continue
        if entry.get("use_pickle") is not False:
            raise UnsafeArchive(f"{name}: `{key}` is a pickle")
        if not re.fullmatch(r"(?:weight|tensor)_\d+", path):
            raise UnsafeArchive(f"{name}: `{key}` lies in {path!r}")


def _check_model(model: Any) -> None:
    if not isinstance(model, dict):
        raise UnsafeArchive("the program is no JSON object")
    for guard in model.get("guards_code") or ():
        fault = fault_of_guard(str(guard))
        if fault:
            raise UnsafeArchive(f"a guard that is code: {fault}: {str(guard)[:80]}")
    for key in model.get("range_constraints") or {}:
        fault = fault_of_size(str(key))
        if fault:
            raise UnsafeArchive(f"a range of what is no size: {fault}: {str(key)[:80]}")
    for key, value in _pairs(model):
        if key == "expr_str":
            fault = fault_of_size(str(value))
            if fault:
                raise UnsafeArchive(f"a size that is code: {fault}: {str(value)[:80]}")
        elif key in ("target", "as_operator") and isinstance(value, str):
            if not _allowed_target(value):
                raise UnsafeArchive(f"a call of {value[:80]}")
        elif key in ("in_spec", "out_spec", "as_spec") and isinstance(value, str):
            _check_structure(value)
            if key == "in_spec":
                _check_keywords(value)
        else:
            _check_names(key, value)


def _check_names(key: str, value: Any) -> None:
    """Names and paths end up in Python that torch writes and runs."""
    if key in _PATHS and isinstance(value, str) and not _PATH.fullmatch(value):
        raise UnsafeArchive(f"a path that is code: {value[:80]}")
    if key in _NAMES:
        _check_identifiers([value])
    elif key in _NAMED or key == "forward_arg_names":
        _check_identifiers(value or ())


def _check_identifiers(names: Any) -> None:
    for name in names:
        # A constant's name may be a path, which calls nothing.
        if isinstance(name, str) and name and not all(part.isidentifier() for part in name.split(".")):
            raise UnsafeArchive(f"a name that is code: {name[:80]}")


def _check_keywords(text: str) -> None:
    """Of a call's structure, (args, kwargs), the keywords become parameters."""
    spec = _json(text.encode(), "a structure") if text else None
    call = spec[1] if isinstance(spec, list) and len(spec) > 1 else None
    children = call.get("children_spec") if isinstance(call, dict) else None
    for child in children[1:] if isinstance(children, list) else ():
        context = child.get("context") if isinstance(child, dict) else None
        _check_identifiers(_json(context.encode(), "a structure") or () if isinstance(context, str) else ())


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of nested JSON."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield from item.items()
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _allowed_target(target: str) -> bool:
    if _PYTHON.fullmatch(target):
        return True
    found = _OPS.fullmatch(target)
    if found is None:
        return False
    space, name = found["space"], found["name"]
    if space in _NAMED_OPS:
        return name in _NAMED_OPS[space]
    return space in _SPACES and name not in _FORBIDDEN


def _check_structure(text: str) -> None:
    """A structure (treespec) names types, which torch looks up, but imports the factory of a defaultdict and enums."""
    if not text:
        return
    for key, value in _pairs(_json(text.encode(), "a structure")):
        if key == "type" and value is not None and (not isinstance(value, str) or not _TYPE.fullmatch(value)):
            raise UnsafeArchive(f"a structure of a strange type: {value!r}")
        if key == "type" and value == "collections.defaultdict":
            raise UnsafeArchive("a structure with a defaultdict, which imports a module")
        if key == "context" and ("__enum__" in str(value) or "default_factory" in str(value)):
            raise UnsafeArchive(f"a structure that imports a module: {str(value)[:80]}")
