"""The models: what a sound recipe becomes."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trtbuild.recipe import REFUSED, SINCE, Compile, Dim, Recipe, recipe_from_text
from trtbuild.recipe.shapes import split_shape

BASE = """
[model]
entry = "m.py:net"
[dims.batch]
max = 8
[inputs.x]
shape = ["batch", 3]
[targets.linux]
platform = "linux-x86_64"
formats = ["engine"]
"""


def recipe(extra: str = "") -> Recipe:
    return recipe_from_text(BASE + extra, "r.toml")


def test_what_is_left_out_has_its_default() -> None:
    made = recipe()
    assert made.dims["batch"] == Dim(min=1, opt=8, max=8)
    assert made.model.args == {} and made.model.weights is None and made.model.seed == 0
    assert made.inputs["x"].dtype == "float32" and made.inputs["x"].format == "contiguous"
    assert made.trace.strict is False and made.trace.decompositions == "default"
    assert made.compile.converter == "torch-tensorrt" and made.compile.given() == {}
    assert made.verify.samples == 3 and made.verify.rtol == {}
    target = made.targets["linux"]
    assert target.runtime == "tensorrt-rtx" and target.precision == ("fp32",)
    assert target.compute_capability == ("8.0", "8.6", "8.9", "12.0")


def test_inputs_keep_the_order_of_the_text() -> None:
    made = recipe("[inputs.b]\nshape = [1]\n[inputs.a]\nshape = [1]\n")
    assert list(made.inputs) == ["x", "b", "a"]


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        recipe().model.seed = 1


def test_opt_may_equal_min_or_max() -> None:
    assert Dim(min=2, opt=2, max=4).opt == 2
    assert Dim(min=2, opt=4, max=4).opt == 4


@pytest.mark.parametrize(
    ("text", "dims", "pieces"),
    [
        ("batchx3x224x224", ["batch"], ["batch", 3, 224, 224]),
        ("5", [], [5]),
        ("maxx3", ["max"], ["max", 3]),
        ("boxxx2", ["boxx", "box"], ["boxx", 2]),
        ("axb", ["a", "b", "axb"], ["axb"]),
        ("axbx3", ["a", "b"], ["a", "b", 3]),
        # The longest name first, yet never at the price of a word that is not declared.
        ("axbxc", ["axb", "a", "bxc"], ["a", "bxc"]),
        ("maxxfoox3", ["max"], ["max", "foo", 3]),
        ("-1x3", [], [-1, 3]),
    ],
)
def test_trtexec_shapes_are_split(text: str, dims: list[str], pieces: list[int | str]) -> None:
    assert split_shape(text, dims) == pieces


@pytest.mark.parametrize("text", ["", "x", "3x", "x3", "3xx4"])
def test_what_is_no_trtexec_shape_is_not_split(text: str) -> None:
    assert split_shape(text, ["batch"]) is None


def test_a_shape_text_is_the_same_as_its_list() -> None:
    assert recipe('[inputs.y]\nshape = "batchx4"\n').inputs["y"].shape == ("batch", 4)


def test_inputs_nest() -> None:
    made = recipe(
        '[inputs.n]\ntuple = [{ list = [{ shape = "batchx1" }] }, { dict = { k = { shape = [], dtype = "int64" } } }]\n'
    )
    leaves = [(path, item.shape) for path, item in made.inputs["n"].walk() if item.shape is not None]
    assert leaves == [(("tuple", 0, "list", 0), ("batch", 1)), (("tuple", 1, "dict", "k"), ())]


def test_capabilities_are_in_numeric_order_and_once() -> None:
    made = recipe('compute_capability = ["12.0", "8.9", "8.0", "8.9"]\nprecision = "fp16"\n')
    assert made.targets["linux"].compute_capability == ("8.0", "8.9", "12.0")
    assert made.targets["linux"].precision == ("fp16",)


def test_standard_tensorrt_takes_any_capability_and_has_no_default() -> None:
    text = '[targets.t]\nplatform = "linux-x86_64"\nruntime = "tensorrt"\nformats = ["onnx"]\n'
    assert recipe(text).targets["t"].compute_capability == ()
    assert recipe(text + 'compute_capability = "9.0"\n').targets["t"].compute_capability == ("9.0",)


def test_one_tolerance_stands_for_every_precision() -> None:
    made = recipe("[verify]\nrtol = 1e-3\natol = { fp16 = 1 }\n[verify.outputs.y]\nrtol = 0\n")
    assert made.verify.rtol["bf16-mixed"] == 1e-3 and len(made.verify.rtol) == 6
    assert made.verify.atol == {"fp16": 1.0}
    assert made.verify.outputs["y"].rtol["fp32"] == 0.0


def test_profiles_fill_in_from_the_dims() -> None:
    made = recipe("[[profiles]]\nbatch = { max = 2 }\n[[profiles]]\n[[profiles]]\n[profiles.batch]\nmin = 4\nopt = 6\n")
    assert made.optimisation_profiles() == [
        {"batch": Dim(max=8)},
        {"batch": Dim(min=1, opt=2, max=2)},
        {"batch": Dim(min=1, opt=8, max=8)},
        {"batch": Dim(min=4, opt=6, max=8)},
    ]
    assert recipe().optimisation_profiles() == [{"batch": Dim(max=8)}]


def test_given_holds_what_the_recipe_sets_and_nothing_else() -> None:
    made = recipe('[compile]\nopset = 20\nconverter = "onnx"\nir = "dynamo"\nworkspace_size = 5\nmin_block_size = 1\n')
    assert made.compile.given() == {"min_block_size": 1, "workspace_size": 5}
    assert list(made.compile.given()) == ["min_block_size", "workspace_size"]


def test_operator_names_have_one_spelling_and_one_order() -> None:
    names = ["torch.ops.aten.special_bessel_j0.default", "aten::add.Tensor", "aten.relu.default", "aten::relu"]
    made = Compile.model_validate({"torch_executed_ops": names})
    assert made.given() == {
        "torch_executed_ops": [
            "torch.ops.aten.add.Tensor",
            "torch.ops.aten.relu.default",
            "torch.ops.aten.special_bessel_j0.default",
        ]
    }


def _compiler_parameters() -> set[str]:
    spec = find_spec("torch_tensorrt")
    if spec is None or spec.origin is None:
        pytest.skip("Torch-TensorRT is not installed")
    # Read, not imported: it cannot be imported without a GPU.
    tree = ast.parse((Path(spec.origin).parent / "dynamo" / "_compiler.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    wanted = [node for node in functions if node.name in ("compile", "cross_compile_for_windows")]
    return {arg.arg for node in wanted for arg in (*node.args.args, *node.args.kwonlyargs)}


def test_every_setting_of_torch_tensorrt_is_a_field_or_refused() -> None:
    assert _compiler_parameters() - set(Compile.model_fields) - set(REFUSED) == set()


def test_no_setting_is_both_a_field_and_refused() -> None:
    assert set(Compile.model_fields) & set(REFUSED) == set()


def test_since_is_in_the_metadata_of_its_fields() -> None:
    extras: dict[str, Any] = {name: field.json_schema_extra or {} for name, field in Compile.model_fields.items()}
    assert {name: extra["since"] for name, extra in extras.items() if "since" in extra} == SINCE


def test_every_field_of_every_model_is_described() -> None:
    def models(cls: type[Any]) -> set[type[Any]]:
        return {cls}.union(*(models(sub) for sub in cls.__subclasses__()))

    from trtbuild.recipe.fields import Section

    bare = [(m.__name__, n) for m in models(Section) for n, f in m.model_fields.items() if not f.description]
    assert bare == []
