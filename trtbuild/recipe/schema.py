"""The JSON Schema of recipes, with which editors complete them."""

from __future__ import annotations

from typing import Any

from trtbuild.recipe.model import Recipe


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a recipe."""
    schema: dict[str, Any] = _tidy(Recipe.model_json_schema(by_alias=True, mode="validation"))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "trtbuild recipe",
    }


def _tidy(node: Any) -> Any:
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = _without_null(node)
    result = {key: value if key in ("default", "examples", "enum") else _tidy(value) for key, value in node.items()}
    if isinstance(result.get("title"), str):
        del result["title"]
    if "patternProperties" in result:
        result["additionalProperties"] = False
    return result


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    """A node that does not allow null: TOML has none."""
    rest = {key: value for key, value in node.items() if not (key == "default" and value is None)}
    options = [option for option in rest.get("anyOf", ()) if option != {"type": "null"}]
    if not options:
        return rest
    if len(options) > 1:
        return {**rest, "anyOf": options}
    del rest["anyOf"]
    return {**options[0], **rest}
