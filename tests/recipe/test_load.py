"""Loading: every mistake at once, in words, with its line."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtbuild.errors import RecipeError, UsageError
from trtbuild.recipe import REFUSED, recipe_from_text, recipe_from_toml

GOOD = """\
[model]
entry = "m.py:net"

[dims.batch]
min = 1
opt = 2
max = 8

[inputs.x]
shape = ["batch", 3]

[compile]
min_block_size = 1

[targets.linux]
platform = "linux-x86_64"
formats = ["engine"]
"""


def said(text: str) -> str:
    """The rendered error of a recipe."""
    with pytest.raises(RecipeError) as caught:
        recipe_from_text(text, "r.toml")
    return caught.value.render()


def changed(old: str, new: str) -> str:
    """The error of the good recipe with one thing changed."""
    assert GOOD.count(old) == 1
    return said(GOOD.replace(old, new))


def test_a_good_recipe_loads() -> None:
    assert recipe_from_text(GOOD, "r.toml").model.entry == "m.py:net"


def test_unknown_key_suggests_the_near_name_with_file_and_line() -> None:
    assert changed("min_block_size", "min_blok_size") == (
        "error: Unknown key `min_blok_size` in [compile]\n  file  r.toml:13\nhint: Did you mean `min_block_size`?"
    )


def test_unknown_key_in_a_nested_table_suggests_the_near_name() -> None:
    text = GOOD + "[inputs.n]\ntuple = [\n  { shape = [1] },\n  { shape = [1], dtipe = 'int64' },\n]\n"
    assert said(text) == (
        "error: Unknown key `dtipe` in `inputs.n.tuple[1]`\n  file  r.toml:21\nhint: Did you mean `dtype`?"
    )
    assert "Did you mean `tuple`?" in said(GOOD + "[inputs.n]\nshape = [1]\ntupel = []\n")


def test_unknown_key_in_a_profile_suggests_the_near_name() -> None:
    assert said(GOOD + "[[profiles]]\nbatch = { maxx = 2 }\n") == (
        "error: Unknown key `maxx` in `profiles[0].batch`\n  file  r.toml:19\nhint: Did you mean `max`?"
    )


def test_mistyped_table_suggests_the_near_table() -> None:
    assert changed("[targets.linux]", "[target.linux]") == (
        "error: The recipe has no [targets.NAME]\n"
        "  file  r.toml:1\n"
        "hint: Add the table [targets.NAME].\n"
        "error: Unknown table [target]\n"
        "  file  r.toml:15\n"
        "hint: Did you mean `targets`?"
    )


def test_missing_key_stands_at_its_table_and_shows_an_example() -> None:
    assert changed('entry = "m.py:net"\n', "") == (
        'error: `entry` is missing in [model]\n  file  r.toml:1\nhint: For example: entry = "models/resnet.py:resnet18"'
    )
    assert changed("max = 8\n", "") == (
        "error: `max` is missing in [dims.batch]\n  file  r.toml:4\nhint: For example: max = 32"
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence", "got"),
    [
        ("min = 1", 'min = "1"', "`min` in [dims.batch] must be an integer", '"1"'),
        ("min = 1", "min = true", "`min` in [dims.batch] must be an integer", "true"),
        ("min = 1", "min = 0", "`min` in [dims.batch] must be at least 1", "0"),
        ("min_block_size = 1", "sparse_weights = 1", "`sparse_weights` in [compile] must be true or false", "1"),
        ("min_block_size = 1", "optimization_level = 6", "`optimization_level` in [compile] must be at most 5", "6"),
        ("[compile]\nmin_block_size = 1", "[[compile]]", "`compile` must be a table", "[{}]"),
        ('["engine"]', '"engine"', "`formats` in [targets.linux] must be a list", '"engine"'),
        ('"m.py:net"', "1979-05-27", "`entry` in [model] must be a string", "1979-05-27"),
        ("min_block_size = 1", "autocast_max_output_threshold = nan",
         "`autocast_max_output_threshold` in [compile] must be finite", "NaN"),
    ],
)  # fmt: skip
def test_wrong_type_or_bound_says_what_it_must_be(old: str, new: str, sentence: str, got: str) -> None:
    rendered = changed(old, new)
    assert rendered.startswith(f"error: {sentence}\n  file  r.toml:") and rendered.endswith(f"\n  got   {got}")


def test_value_outside_the_allowed_names_them_and_the_near_one() -> None:
    assert changed('"linux-x86_64"', '"linux_x86_64"') == (
        "error: `platform` in [targets.linux] is none of the allowed values\n"
        "  file     r.toml:16\n"
        "  allowed  linux-x86_64, windows-x86_64\n"
        '  got      "linux_x86_64"\n'
        "hint: Did you mean `linux-x86_64`?"
    )


def test_dims_out_of_order_name_the_three_numbers() -> None:
    assert changed("opt = 2", "opt = 9") == (
        "error: `opt` in [dims.batch] is out of order: min 1, opt 9, max 8\n"
        "  file  r.toml:6\n"
        "hint: It must be min <= opt <= max."
    )


def test_undeclared_dim_suggests_the_near_one() -> None:
    rendered = changed('["batch", 3]', '[\n  "batch",\n  "bacth",\n]')
    assert rendered == (
        "error: The dim `bacth` is not declared in [dims]\n  file  r.toml:12\nhint: Did you mean `batch`?"
    )


def test_undeclared_dim_where_there_are_none_says_how_to_declare_it() -> None:
    text = GOOD.replace("[dims.batch]\nmin = 1\nopt = 2\nmax = 8\n", "")
    assert "hint: Declare it: [dims.batch] with min, opt and max." in said(text)


def test_unused_dim_is_a_mistake() -> None:
    assert changed('"batch", 3', "3") == (
        "error: No input uses the dim `batch`\n  file  r.toml:4\nhint: Name it in a shape, or remove it."
    )


def test_size_below_one_tells_of_dims() -> None:
    assert changed('"batch", 3', '"batch", -1') == (
        "error: `shape[1]` in [inputs.x] must be at least 1\n"
        "  file  r.toml:10\n"
        "  got   -1\n"
        "hint: A size that varies gets a name, declared as [dims.NAME] with its min and max."
    )


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ('"batchxx3"', "`shape` in [inputs.x] is no shape"),
        ('["batch", "3"]', "`shape[1]` in [inputs.x] must be an integer or the name of a dim"),
        ('["batch", 3.0]', "`shape[1]` in [inputs.x] must be an integer or the name of a dim"),
        ('["batch", true]', "`shape[1]` in [inputs.x] must be an integer or the name of a dim"),
        ("3", "`shape` in [inputs.x] must be a list"),
    ],
)
def test_what_is_no_shape_is_a_mistake(shape: str, sentence: str) -> None:
    assert f"error: {sentence}\n  file  r.toml:10\n" in changed('["batch", 3]', shape)


@pytest.mark.parametrize(
    ("extra", "sentence", "line"),
    [
        ("[inputs.y]\n",
         "`y` in [inputs] must have exactly one of `shape`, `tuple`, `list` and `dict`; it has none", 18),
        ("[inputs.y]\nshape = [1]\nlist = [{ shape = [1] }]\n",
         "`list` in [inputs.y] must have exactly one of `shape`, `tuple`, `list` and `dict`; "
         "it has `shape` and `list`", 20),
        ("[inputs.y]\ndtype = 'int8'\nlist = [{ shape = [1] }]\n", "`dtype` in [inputs.y] describes a tensor", 19),
        ("[inputs.y]\nlist = []\n", "`list` in [inputs.y] must be filled: it is empty", 19),
        ("[inputs.y]\nshape = [1]\nformat = 'channels_last'\n",
         "`format` in [inputs.y] is channels_last, which needs 4 dims; the shape has 1", 20),
        ("[inputs.y]\nshape = [1]\nrange = [1, 1]\n", "`range` in [inputs.y] must rise: 1 is not below 1", 20),
        ("[inputs.y]\nshape = [1]\nrange = [1]\n", "`range` in [inputs.y] must be a list of two numbers", 20),
        ("[inputs.y]\nshape = [1]\nrange = [0, 'a']\n", "`range[1]` in [inputs.y] must be a finite number", 20),
        ("[inputs.y]\nshape = [1]\nrange = [0.0, 1.0]\ndtype = 'int32'\n",
         "`range` in [inputs.y] must be of integers, since dtype is int32", 20),
        ("[inputs.y]\nshape = [1]\nrange = [0, 257]\ndtype = 'uint8'\n", "`range` in [inputs.y] goes beyond uint8", 20),
        ("[inputs.y]\nshape = [1]\nrange = [0, 1]\ndtype = 'bool'\n",
         "`range` in [inputs.y] has no meaning for bool", 20),
        ("[inputs.y]\nlist = [\n{ shape = [1], keyword = true }]\n", "`keyword` is for an entire input", 20),
        ("[inputs.y]\nshape = [1]\nkeyword = true\n[inputs.z]\nshape = [1]\n",
         "The positional input `z` comes after the keyword input `y`", 21),
        ("[inputs.'y-1']\nshape = [1]\n", "The name `y-1` must be a Python identifier", 18),
    ],
)  # fmt: skip
def test_mistaken_input_says_why_at_its_line(extra: str, sentence: str, line: int) -> None:
    assert said(GOOD + extra).startswith(f"error: {sentence}\n  file") and f"r.toml:{line}" in said(GOOD + extra)


@pytest.mark.parametrize("entry", ["net", "m.py", "m.py:", ":net", "m:a b", "models/net:a", "a..b:c", ".py:net"])
def test_entry_without_a_callable_is_a_mistake(entry: str) -> None:
    assert changed('"m.py:net"', f'"{entry}"') == (
        "error: `entry` in [model] names no callable\n"
        "  file  r.toml:2\n"
        f'  got   "{entry}"\n'
        'hint: Write "file.py:name" or "package.module:name".'
    )


@pytest.mark.parametrize("entry", ["m.py:net", "../a b/m.py:Net.make", "torchvision.models:resnet18", "m:f"])
def test_entry_of_a_file_or_module_is_taken(entry: str) -> None:
    assert recipe_from_text(GOOD.replace("m.py:net", entry), "r.toml").model.entry == entry


def test_weights_of_another_kind_are_a_mistake() -> None:
    rendered = changed('"m.py:net"\n', '"m.py:net"\nweights = "w.onnx"\n')
    assert "`weights` in [model] is of a kind that is not read" in rendered
    assert "  allowed  .safetensors, .pt, .pth\n" in rendered


def test_args_must_be_json() -> None:
    rendered = changed('"m.py:net"\n', '"m.py:net"\nargs = { a = [\n1, 07:32:00], b = inf }\n')
    assert rendered.startswith("error: `args.a[1]`") or "`a[1]` in [model.args] is a date or time" in rendered
    assert "r.toml:4" in rendered and 'Write the string "07:32:00".' in rendered


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_setting_says_why_and_what_instead(name: str) -> None:
    reason, hint = REFUSED[name]
    assert changed("min_block_size", name) == (
        f"error: `{name}` cannot be set in [compile]: {reason}\n  file  r.toml:13\nhint: {hint}"
    )


def test_torch_compile_is_refused_with_the_ahead_of_time_way() -> None:
    assert changed("min_block_size = 1", 'ir = "torch_compile"') == (
        'error: `ir` in [compile] cannot be "torch_compile": '
        "torch.compile compiles just in time, in the process that runs the model: its engines cannot be saved\n"
        "  file     r.toml:13\n"
        "  allowed  dynamo, ts\n"
        'hint: Use ir = "dynamo", which compiles ahead of time, or leave it out.'
    )
    assert "deprecated" in changed("min_block_size = 1", 'ir = "fx"')
    assert "frontend of Torch-TensorRT" in changed("min_block_size = 1", 'ir = "ts"\nconverter = "onnx"')


@pytest.mark.parametrize(
    ("settings_text", "sentence"),
    [
        ("opset = 20", '`opset` in [compile] is for converter = "onnx" only'),
        ('require_full_compilation = true\ntorch_executed_ops = ["aten::relu"]',
         "`torch_executed_ops` in [compile] contradicts require_full_compilation = true"),
        ("refit_identical_engine_weights = true",
         "`refit_identical_engine_weights` in [compile] needs weights that can be refitted"),
        ('torch_executed_ops = ["relu"]', "`torch_executed_ops[0]` in [compile] is no operator name"),
        ('autocast_excluded_nodes = ["("]', "`autocast_excluded_nodes[0]` in [compile] is no regular expression"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_mistakes(settings_text: str, sentence: str) -> None:
    assert changed("min_block_size = 1", settings_text).startswith(f"error: {sentence}")


def test_capability_as_a_number_is_told_to_be_a_string() -> None:
    rendered = changed('["engine"]', '["engine"]\ncompute_capability = [8.9, "9.0"]')
    assert rendered == (
        "error: `compute_capability[0]` in [targets.linux] must be a string\n"
        "  file  r.toml:18\n"
        "  got   8.9\n"
        'hint: Write "8.9".\n'
        "error: `compute_capability[1]` in [targets.linux]: TensorRT-RTX does not build for 9.0\n"
        "  file     r.toml:18\n"
        "  allowed  7.5, 8.0, 8.6, 8.9, 12.0, 12.1\n"
        '  got      "9.0"'
    )
    assert 'Write "8.9".' in changed('["engine"]', '["engine"]\ncompute_capability = 8.9')


def test_formats_must_be_given_filled_and_unique() -> None:
    assert "`formats` is missing in [targets.linux]" in changed('formats = ["engine"]\n', "")
    assert "`formats` in [targets.linux] must be filled: it is empty" in changed('["engine"]', "[]")
    assert "`formats[1]` in [targets.linux] is there twice" in changed('["engine"]', '["engine", "engine"]')
    assert "hint: Did you mean `engine`?" in changed('["engine"]', '["engin"]')


def test_target_names_must_be_folders_of_their_own() -> None:
    assert "The target name `a/b` cannot name a folder everywhere" in changed("targets.linux", 'targets."a/b"')
    twin = '[targets.LINUX]\nplatform = "linux-x86_64"\nformats = ["onnx"]\n'
    assert "The targets `linux` and `LINUX` would share a folder" in said(GOOD + twin)


def test_tolerances_are_numbers_or_tables_by_precision() -> None:
    assert "`rtol` in [verify] must be a finite number of at least 0" in said(GOOD + "[verify]\nrtol = -1\n")
    assert said(GOOD + "[verify.rtol]\nfp61 = 1.0\n") == (
        "error: Unknown key `fp61` in [verify.rtol]\n"
        "  file     r.toml:19\n"
        "  allowed  fp32, tf32, fp16, bf16, fp16-mixed, bf16-mixed\n"
        "hint: Did you mean `fp16`?"
    )


def test_profile_beyond_its_dim_says_the_bounds() -> None:
    assert said(GOOD + "[[profiles]]\n[[profiles]]\n[profiles.batch]\nmin = 4\nmax = 9\n") == (
        "error: Profile 2 has the dim `batch` with min 4, opt 9, max 9, beyond [dims.batch]\n"
        "  file     r.toml:22\n"
        "  allowed  1 to 8\n"
        "hint: Widen [dims.batch], or narrow the profile."
    )


def test_profile_out_of_order_or_of_an_unknown_dim_is_a_mistake() -> None:
    rendered = said(GOOD + "[[profiles]]\nbatch = { min = 4, max = 2 }\n[[profiles]]\nbach = { max = 2 }\n")
    assert rendered == (
        "error: Profile 1 has the dim `batch` with min 4, opt 2, max 2\n"
        "  file  r.toml:19\n"
        "hint: It must be min <= opt <= max.\n"
        "error: Profile 2 names the dim `bach`, which is not in [dims]\n"
        "  file  r.toml:21\n"
        "hint: Did you mean `batch`?"
    )


def test_every_mistake_is_told_at_once_in_line_order() -> None:
    text = (
        GOOD.replace("opt = 2", 'opt = "2"').replace('"batch", 3', '"batch", "height"').replace("min_block", "min_blok")
    )
    with pytest.raises(RecipeError) as caught:
        recipe_from_text(text.replace('["engine"]', "[]"), "r.toml")
    assert [dict(mistake.facts)["file"] for mistake in caught.value.mistakes] == [
        "r.toml:6",
        "r.toml:10",
        "r.toml:13",
        "r.toml:17",
    ]
    assert len(caught.value.as_json()["mistakes"]) == 4  # type: ignore[arg-type]


def test_a_mistake_in_an_input_does_not_hide_its_undeclared_dims() -> None:
    rendered = changed('["batch", 3]', '["bacth", 3]\nformat = "channels_last"\ndtipe = 1\nrange = 1')
    assert [line for line in rendered.splitlines() if line.startswith("  file")] == [
        "  file  r.toml:10",
        "  file  r.toml:12",
        "  file  r.toml:13",
    ]


def test_tables_that_need_a_name_say_so() -> None:
    assert changed("[inputs.x]", "[[inputs]]").startswith("error: `inputs` must be a table\n  file  r.toml:9\n  got   ")
    assert "hint: Write [inputs.NAME]." in changed("[inputs.x]", "[[inputs]]")


def test_unknown_key_without_a_near_name_lists_few_but_not_many() -> None:
    assert "hint: Allowed: decompositions, strict." in said(GOOD + "[trace]\nzzz = 1\n")
    assert "hint: `trtbuild schema` tells every key." in changed("min_block_size", "zzz")


def test_one_cause_is_told_once() -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from_text(GOOD.replace("max = 8", 'max = "8"').replace("opt = 2\n", ""), "r.toml")
    assert len(caught.value.mistakes) == 1


def test_toml_that_does_not_parse_says_where() -> None:
    assert said("[model]\nentry = \n") == (
        "error: The recipe is not valid TOML: Invalid value\n  file    r.toml:2\n  column  9"
    )
    assert "  file  r.toml:3" in said("[model]\nx = [\n 1,")
    assert "r.toml:2" in said("a = 1\na = 2\n")


def test_nesting_without_end_is_a_mistake_and_no_crash() -> None:
    assert "r.toml" in said("a = " + "[" * 100_000)


def test_missing_file_suggests_the_near_recipe(tmp_path: Path) -> None:
    (tmp_path / "resnet.toml").write_text(GOOD)
    with pytest.raises(UsageError) as caught:
        recipe_from_toml(tmp_path / "resnt.toml")
    assert caught.value.render() == (
        f"error: There is no recipe `{tmp_path}/resnt.toml`\nhint: Did you mean `resnet.toml`?"
    )


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder, not a recipe"):
        recipe_from_toml(tmp_path)


def test_unreadable_file_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    # Permissions do not bind root, as whom tests may run.
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UsageError, match=r"The recipe `r\.toml` cannot be read: Permission denied"):
        recipe_from_toml(Path("r.toml"))


def test_text_that_is_not_utf_8_says_at_which_line(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b"[model]\nentry = '\xe9'\n")
    with pytest.raises(RecipeError) as caught:
        recipe_from_toml(path)
    assert caught.value.render() == (
        f"error: The recipe is not UTF-8 text\n  file  {path}:2\n  byte  0xe9\nhint: Save it as UTF-8."
    )


def test_a_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert recipe_from_toml(path) == recipe_from_text(GOOD, "r.toml")


# Stands for an integer that TOML can hold and Python does not spell out.
HUGE = "huge"


def toml_of(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml_of(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if value == HUGE:
        return hex(2**20000)
    return f'"{value}"' if isinstance(value, str) else str(value)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


RICH = tomllib.loads(
    GOOD
    + """
[inputs.n]
tuple = [{ shape = "batchx3", range = [0.0, 1.0] }, { dict = { k = { shape = [] } } }]
[inputs.k]
keyword = true
shape = [1]
dtype = "int64"
range = [0, 9]
[verify]
rtol = 1.0
atol = { fp16 = 1.0 }
outputs = { y = { rtol = 1.0 } }
[[profiles]]
batch = { min = 1, opt = 1, max = 1 }
"""
)
RICH["model"] |= {"args": {"a": [1, {"b": 2.0}]}, "weights": "w.pt", "seed": 1}
RICH["compile"] |= {
    "torch_executed_ops": ["aten::relu"],
    "autocast_max_output_threshold": 1.0,
    "cpu_memory_budget": 9,
    "ir": "dynamo",
}
RICH["targets"]["linux"] |= {"compute_capability": ["8.9"], "precision": ["fp32"], "runtime": "tensorrt-rtx"}
ANYTHING = st.recursive(
    st.sampled_from([0, 1, -1, 2**64, HUGE, 1.5, float("nan"), float("inf"), True, "", "x", "batch", "8.9", "3x4"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["shape", "min", "é", "[key]"]), inner),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_value_anywhere_leads_to_anything_but_a_recipe_or_its_mistakes(data: st.DataObject) -> None:
    recipe = copy.deepcopy(RICH)
    for path in data.draw(st.lists(st.sampled_from(places(RICH)[1:]), min_size=1, max_size=3, unique=True)):
        table: Any = recipe
        try:
            for key in path[:-1]:
                table = table[key]
            table[path[-1]] = data.draw(ANYTHING)
        except (KeyError, IndexError, TypeError):
            continue
    text = "\n".join(f"{key} = {toml_of(value)}" for key, value in recipe.items())
    try:
        recipe_from_text(text, "r.toml")
    except RecipeError as error:
        assert error.mistakes and "{here}" not in error.render()
        assert all(mistake.facts[0][0] == "file" for mistake in error.mistakes)
        assert "is not valid TOML" not in error.render() and " is not valid: " not in error.render()
