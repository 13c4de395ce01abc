"""Recipes: TOML in, a frozen Recipe out, or every mistake with its line."""

from trtbuild.recipe.compile_settings import REFUSED, SINCE, Compile
from trtbuild.recipe.inputs import Dim, Input, ProfileRange
from trtbuild.recipe.load import recipe_from_text, recipe_from_toml
from trtbuild.recipe.model import ModelSection, OutputTolerance, Profile, Recipe, Trace, Verify
from trtbuild.recipe.schema import json_schema
from trtbuild.recipe.targets import Target

__all__ = [
    "REFUSED",
    "SINCE",
    "Compile",
    "Dim",
    "Input",
    "ModelSection",
    "OutputTolerance",
    "Profile",
    "ProfileRange",
    "Recipe",
    "Target",
    "Trace",
    "Verify",
    "json_schema",
    "recipe_from_text",
    "recipe_from_toml",
]
