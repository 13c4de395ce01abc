"""The stages for real: models of every kind into programs, engines, ONNX and Windows programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.project import Project
from trtbuild.store.local import LocalStore

HEAD = """\
[model]
entry = "models/nets.py:{entry}"

[dims.batch]
min = {min}
opt = {opt}
max = {max}

[inputs.x]
shape = [{shape}]
{more}
[targets.linux]
platform = "linux-x86_64"
compute_capability = ["8.9"]
formats = {formats}
precision = {precision}
"""


def recipe(entry: str = "Net", dims: tuple[int, int, int] = (1, 4, 8), more: str = "", **parts: str) -> str:
    """A recipe of one model, as text."""
    low, opt, high = dims
    return HEAD.format(
        entry=entry,
        min=low,
        opt=opt,
        max=high,
        shape=parts.get("shape", '"batch", 3, 16, 16'),
        more=more or "[compile]\nmin_block_size = 1\n",
        formats=parts.get("formats", '["engine"]'),
        precision=parts.get("precision", '["fp32"]'),
    )


def build(project: Project, recipes: Mapping[str, str], *arguments: str) -> dict[str, dict[str, Any]]:
    """Build recipes in one run; the manifests by their folder in dist/."""
    for name, text in recipes.items():
        (project.root / f"{name}.toml").write_text(text)
    done = project.trtbuild("run", *(f"{name}.toml" for name in recipes), *arguments)
    assert done.code == 0, done.err
    dist = project.root / "dist"
    found = sorted(dist.rglob("manifest.json"))
    return {path.parent.relative_to(dist).as_posix(): json.loads(path.read_bytes()) for path in found}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def source_net(project: Project) -> Any:
    """The model that a recipe of `Net` is built from, under the recipe's seed."""
    import torch

    sys.path.insert(0, str(project.root / "models"))
    try:
        import nets
    finally:
        sys.path.pop(0)
    torch.manual_seed(0)
    return nets.Net().eval()


def blobs(project: Project, manifest: Mapping[str, Any], kind: str) -> dict[str, Path]:
    """The stored outputs of a manifest's stage, by name."""
    key = next(stage["key"] for stage in manifest["stages"] if stage["kind"] == kind)
    store = LocalStore(project.root / "cache")
    entry = store.get(key)
    assert entry is not None
    found = {name: store.path_of(output, project.root) for name, output in entry.outputs.items()}
    return {name: path for name, path in found.items() if path is not None}


def test_every_kind_of_entry_point_and_trace_becomes_one_engine(project: Project) -> None:
    made = build(
        project,
        {
            "module": recipe("Net"),
            "script": recipe("scripted"),
            "graph": recipe("as_graph"),
            "program": recipe("exported"),
            "strict": recipe("Net", more="[compile]\nmin_block_size = 1\n[trace]\nstrict = true\n"),
            "decomposed": recipe("Net", more='[compile]\nmin_block_size = 1\n[trace]\ndecompositions = "tensorrt"\n'),
        },
    )
    assert set(made) == {
        f"{name}/linux/fp32" for name in ("module", "script", "graph", "program", "strict", "decomposed")
    }
    for manifest in made.values():
        engine = manifest["engines"][0]
        assert engine["inputs"][0]["shape"] == [-1, 3, 16, 16] and engine["outputs"][0]["shape"] == [-1, 4]
        assert manifest["whole_engine"]["engine"] == engine["name"]


def test_the_traced_program_gives_the_model_s_numbers_at_batch_1_and_at_max(project: Project) -> None:
    torch = pytest.importorskip("torch")
    made = build(project, {"net": recipe("Net")}, "--format", "engine")
    program = torch.export.load(blobs(project, made["net/linux/fp32"], "trace")["program.pt2"]).module()
    source = source_net(project)
    for batch in (1, 8):
        x = torch.rand(batch, 3, 16, 16)
        torch.testing.assert_close(program(x), source(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [(1, 1, 8), (1, 8, 8), (1, 1, 1), (3, 3, 5)], ids=str)
def test_opt_may_be_min_or_max_and_a_batch_of_one_is_static(project: Project, dims: tuple[int, int, int]) -> None:
    manifest = build(project, {"net": recipe("Net", dims)})["net/linux/fp32"]
    low, opt, high = dims
    engine = manifest["engines"][0]
    assert engine["inputs"][0]["shape"][0] == (low if low == high else -1)
    assert engine["ranges"] == ([] if low == high else [{"x": [[n, 3, 16, 16] for n in dims]}])
    assert manifest["inputs"][0]["ranges"]["batch"] == {"min": low, "opt": opt, "max": high}


def test_precision_is_in_the_types_of_inputs_outputs_and_layers(project: Project) -> None:
    precisions = ["fp32", "tf32", "fp16", "bf16", "fp16-mixed", "bf16-mixed"]
    made = build(project, {"net": recipe("Net", precision=json.dumps(precisions))})
    types = {
        precision: (
            made[f"net/linux/{precision}"]["engines"][0]["inputs"][0]["dtype"],
            next(t for t in made[f"net/linux/{precision}"]["engines"][0]["layer_types"] if t.startswith("CONVOLUTION")),
        )
        for precision in precisions
    }
    assert types == {
        "fp32": ("float32", "CONVOLUTION float32"),
        "tf32": ("float32", "CONVOLUTION float32"),
        "fp16": ("float16", "CONVOLUTION float16"),
        "bf16": ("bfloat16", "CONVOLUTION bfloat16"),
        "fp16-mixed": ("float32", "CONVOLUTION float16"),
        "bf16-mixed": ("float32", "CONVOLUTION bfloat16"),
    }


def test_attention_over_a_dynamic_batch_and_length_is_one_engine(project: Project) -> None:
    more = "[compile]\nmin_block_size = 1\n[dims.tokens]\nmin = 2\nopt = 8\nmax = 16\n"
    text = recipe("Attention", more=more, shape='"batch", "tokens", 32', precision='["fp32", "fp16"]')
    for manifest in build(project, {"attention": text}).values():
        assert manifest["engines"][0]["inputs"][0]["shape"] == [-1, -1, 32]
        assert manifest["partitions"]["pytorch"] == []


NESTED = """\
[model]
entry = "models/nets.py:Sum"

[dims.batch]
min = 1
opt = 4
max = 8

[inputs.a]
shape = "batchx8"

[inputs.pair]
tuple = [{ shape = ["batch", 8] }, { list = [{ shape = ["batch", 8] }] }]

[inputs.named.dict]
z = { shape = ["batch", 8] }

[inputs.gain]
shape = ["batch", 1]
keyword = true

[compile]
min_block_size = 1

[targets.linux]
platform = "linux-x86_64"
compute_capability = ["8.9"]
formats = ["engine"]

[targets.windows]
platform = "windows-x86_64"
compute_capability = ["8.9"]
formats = ["exported_program"]
"""


def test_nested_and_keyword_inputs_share_a_dim_and_keep_the_model_s_signature(project: Project) -> None:
    made = build(project, {"nested": NESTED})
    engine = made["nested/linux/fp32"]["engines"][0]
    assert sorted(found["name"] for found in engine["inputs"]) == ["a", "gain", "named_z", "pair_0", "pair_1_0"]
    assert all(found["shape"][0] == -1 for found in engine["inputs"])
    assert [found["name"] for found in made["nested/linux/fp32"]["inputs"]] == [
        "a",
        "pair_0",
        "pair_1_0",
        "named_z",
        "gain",
    ]
    program = json.loads(member(project.root / "dist/nested/windows/fp32/model.pt2", "models/model.json"))
    spec = program["graph_module"]["module_call_graph"][0]["signature"]
    assert all(name in spec["in_spec"] for name in ("gain", "z")) and "total" in spec["out_spec"]


def member(archive: Path, name: str) -> bytes:
    """The bytes of a member of a .pt2 archive."""
    from trtbuild.digests.archive import Archive

    with Archive(archive) as opened:
        return bytes(opened[name])


def test_a_second_profile_tunes_the_engine_for_single_requests(project: Project) -> None:
    more = "[compile]\nmin_block_size = 1\n{}[[profiles]]\nbatch = {{ min = 1, opt = 1, max = 1 }}\n"
    made = build(
        project,
        {
            "net": recipe(more=more.format("")),
            "by_onnx": recipe(more=more.format('converter = "onnx"\n').replace("min_block_size = 1\n", "")),
        },
    )
    for manifest in made.values():
        assert [found["x"] for found in manifest["engines"][0]["ranges"]] == [
            [[1, 3, 16, 16], [4, 3, 16, 16], [8, 3, 16, 16]],
            [[1, 3, 16, 16], [1, 3, 16, 16], [1, 3, 16, 16]],
        ]


def test_onnx_has_the_recipe_s_names_and_the_model_s_numbers(project: Project) -> None:
    torch, onnx = pytest.importorskip("torch"), pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    build(project, {"net": recipe("Net", formats='["onnx"]')})
    model = onnx.load(project.root / "dist/net/linux/fp32/model.onnx")
    assert [size.dim_param or size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        16,
        16,
    ]
    assert [value.name for value in model.graph.output] == ["output0"]
    source = source_net(project)
    x = torch.rand(3, 3, 16, 16)
    (found,) = ReferenceEvaluator(model).run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), source(x).detach(), rtol=1e-3, atol=1e-4)


HYBRID = recipe("Hybrid").replace("linux", "windows").replace('["engine"]', '["exported_program"]')

# Torch-TensorRT's own loader, on a machine without a GPU: only what needs one is replaced, the engine's constructor
# and the machine's name. Devices are turned back to the CPU's, since there is no other here.
STOCK_LOADER = """
import json, sys
from trtbuild.digests.archive import rewrite
from trtbuild.stages import gpuless
from pathlib import Path

def on_cpu(data):
    return data.replace(b'{"type": "cuda", "index": 0}', b'{"type": "cpu", "index": null}')

source, target = Path(sys.argv[1]), Path(sys.argv[2])
configs = ("models/model.json", "data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
rewrite(source, target, {name: on_cpu for name in configs})
gpuless.import_torch_tensorrt()
import platform, torch, torch_tensorrt
from torch_tensorrt.dynamo import _compiler, _exporter

seen = []

class Engine(torch.nn.Module):
    def __init__(self, info):
        super().__init__()
        seen.append(list(info))

platform.system, platform.machine = lambda: "Windows", lambda: "AMD64"
torch.classes.tensorrt.Engine = Engine
try:
    _compiler.load_cross_compiled_exported_program(str(target))
except Exception as error:
    if len(seen) == 0:
        raise
    print("after the engines:", type(error).__name__, error, file=sys.stderr)
ops = torch.ops.tensorrt
import hashlib
print(json.dumps([{
    "fields": len(info), "expected": ops.SERIALIZATION_LEN(), "name": info[ops.NAME_IDX()],
    "engine": hashlib.sha256(info[ops.ENGINE_IDX()]).hexdigest(), "platform": info[ops.TARGET_PLATFORM_IDX()],
    "device": info[ops.DEVICE_IDX()], "inputs": info[ops.INPUT_BINDING_NAMES_IDX()],
    "compatible": info[ops.HW_COMPATIBLE_IDX()],
} for info in seen]))
"""


def test_torch_tensorrt_s_own_loader_takes_the_windows_program_apart(project: Project, tmp_path: Path) -> None:
    made = build(project, {"hybrid": HYBRID})
    manifest = made["hybrid/windows/fp32"]
    left = {part["op"]: part["reason"] for part in manifest["partitions"]["pytorch"]}
    assert left["torch.ops.aten.special_bessel_j0.default"] == "Torch-TensorRT has no converter for it"
    assert len(manifest["engines"]) == 2 and manifest["whole_engine"] is None
    path = project.root / "dist/hybrid/windows/fp32/model.pt2"
    done = subprocess.run(
        [sys.executable, "-c", STOCK_LOADER, str(path), str(tmp_path / "cpu.pt2")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    digests = {name: blob.name for name, blob in blobs(project, manifest, "compile").items()}
    assert [found["engine"] for found in seen] == [digests[engine["file"]] for engine in manifest["engines"]]
    for found in seen:
        assert found["fields"] == found["expected"]
        assert found["platform"] == "windows_x86_64" and found["device"].startswith("0%8%9%0%")
        assert found["compatible"] == "0"


def test_a_program_for_several_gpus_may_run_on_each_of_them(project: Project) -> None:
    text = HYBRID.replace('["8.9"]', '["8.6", "8.9"]')
    build(project, {"hybrid": text})
    program = json.loads(member(project.root / "dist/hybrid/windows/fp32/model.pt2", "models/model.json"))
    nodes = [node for node in program["graph_module"]["graph"]["nodes"] if "no_op_placeholder" in node["target"]]
    flags = {
        item["arg"]["as_string"]
        for node in nodes
        for item in node["inputs"]
        if item["name"] == "serialized_hardware_compatible"
    }
    assert flags == {"1"}


def test_weights_of_the_pytorch_parts_are_addressed_to_the_gpu(project: Project) -> None:
    text = HYBRID.replace("min_block_size = 1\n", 'min_block_size = 1\ntorch_executed_ops = ["aten::mul.Tensor"]\n')
    manifest = build(project, {"hybrid": text})["hybrid/windows/fp32"]
    reasons = {part["op"]: part["reason"] for part in manifest["partitions"]["pytorch"]}
    assert reasons["torch.ops.aten.mul.Tensor"] == "torch_executed_ops names it"
    path = project.root / "dist/hybrid/windows/fp32/model.pt2"
    config = json.loads(member(path, "data/weights/model_weights_config.json"))["config"]
    assert config and all(found["tensor_meta"]["device"] == {"type": "cuda", "index": 0} for found in config.values())
    assert b'"cpu"' not in member(path, "models/model.json")


def test_one_trace_serves_all_targets_and_formats(project: Project) -> None:
    text = recipe("Net", formats='["engine", "onnx"]', precision='["fp32", "tf32"]')
    text += '\n[targets.windows]\nplatform = "windows-x86_64"\ncompute_capability = ["8.9"]\nformats = ["engine"]\n'
    (project.root / "net.toml").write_text(text)
    (project.root / "same.toml").write_text(text)
    planned = project.trtbuild("plan", "net.toml", "same.toml", "--json").json
    kinds = [stage["kind"] for stage in planned["stages"]]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "trace": 1,
        "onnx": 1,
        "compile": 2,
        "export": 2,
        "cross-compile": 1,
        "verify": 5,
    }
    assert len(planned["cells"]) == 10


def test_an_error_that_tensorrt_only_logs_fails_the_stage_and_is_shown(project: Project) -> None:
    (project.root / "gated.toml").write_text(recipe("Gated", shape='"batch", 16', precision='["bf16-mixed"]'))
    done = project.trtbuild("run", "gated.toml")
    assert done.code == 1
    assert "TensorRT reported an error while it built an engine" in done.err
    assert "must have same input types" in done.err
    assert not (project.root / "dist").is_dir() or not any((project.root / "dist").rglob("*.engine"))
