"""The JSON Schema agrees with the models."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from trtbuild.recipe import REFUSED, Recipe, json_schema, recipe_from_text

FULL = """
[model]
entry = "models/resnet.py:resnet18"
args = { num_classes = 1000, nested = [{ a = 1 }] }
weights = "w.pt"
seed = 3
[dims.batch]
min = 1
opt = 8
max = 32
[inputs.x]
shape = ["batch", 3, 224, 224]
format = "channels_last"
range = [0.0, 1.0]
[inputs.y]
keyword = true
[[inputs.y.tuple]]
shape = "batchx3"
[[inputs.y.tuple]]
dict = { a = { shape = [2], dtype = "int64", range = [0, 5] } }
[trace]
decompositions = "tensorrt"
[compile]
min_block_size = 1
torch_executed_ops = ["aten::relu"]
[verify]
rtol = 1e-3
atol = { fp16 = 1e-2 }
[verify.outputs.z]
rtol = { fp32 = 1e-5 }
[targets.linux]
platform = "linux-x86_64"
compute_capability = "8.9"
precision = ["fp32", "fp16-mixed"]
formats = ["engine", "onnx"]
[[profiles]]
batch = { min = 1, opt = 1, max = 1 }
"""


def accepts(text: str) -> bool:
    return bool(jsonschema.Draft202012Validator(json_schema()).is_valid(tomllib.loads(text)))


def objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


def test_the_schema_is_valid_draft_2020_12() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "trtbuild recipe"


def test_a_full_recipe_is_accepted_by_schema_and_models() -> None:
    recipe_from_text(FULL, "full.toml")
    jsonschema.validate(tomllib.loads(FULL), json_schema())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("min_block_size", "min_blok_size"),
        ("min_block_size = 1", "device = 1"),
        ("[trace]", "[tracer]"),
        ("[dims.batch]", '[dims."1 batch"]'),
        ('"linux-x86_64"', '"linux"'),
        ('"8.9"', "8.9"),
        ("seed = 3", 'seed = "3"'),
        ('formats = ["engine", "onnx"]', "formats = []"),
        ("range = [0.0, 1.0]", "range = [0.0]"),
        ("rtol = { fp32 = 1e-5 }", "rtol = { fp8 = 1e-5 }"),
        ('"batch", 3, 224', '"batch", 0, 224'),
    ],
)
def test_what_the_models_refuse_of_one_key_the_schema_refuses_too(old: str, new: str) -> None:
    assert FULL.count(old) >= 1
    assert not accepts(FULL.replace(old, new, 1))


@pytest.mark.filterwarnings("error")
def test_the_json_of_a_recipe_is_plain_and_loads_again() -> None:
    recipe = recipe_from_text(FULL, "full.toml")
    data = json.loads(json.dumps(recipe.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)))
    assert Recipe.model_validate(data) == recipe
    assert data["inputs"]["x"]["range"] == [0.0, 1.0]
    recipe.model_dump(mode="json")


def test_tables_with_fixed_keys_allow_no_others() -> None:
    tables = [node for node in objects(json_schema()) if isinstance(node.get("properties"), dict) and "type" in node]
    assert len(tables) > 8
    assert all(table["additionalProperties"] is False for table in tables)


def test_refused_settings_are_absent_and_null_is_nowhere() -> None:
    schema = json_schema()
    assert not set(REFUSED) & set(schema["$defs"]["Compile"]["properties"])
    assert all(node.get("type") != "null" for node in objects(schema))
    assert all(node.get("default", 0) is not None for node in objects(schema))


def test_settings_carry_description_default_and_unit() -> None:
    setting = json_schema()["$defs"]["Compile"]["properties"]["workspace_size"]
    assert setting["unit"] == "bytes" and setting["default"] == 0 and setting["type"] == "integer"
    assert setting["description"]
