"""Artifacts loaded and run on this machine's GPU, beside their source models.

    python -m pytest tests/runtime/test_gpu.py -n0

The GPU need not be one that NVIDIA lists for TensorRT-RTX: engines are loaded with other_gpu=True.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.models.nets import Hybrid, Net, Sum
from tests.project import RECIPE, Project
from tests.runtime.samples import artifact, tensor
from trtbuild.runtime import InputError, LoadError, load

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

WINDOWS = """
[targets.windows]
platform = "windows-x86_64"
compute_capability = ["8.9"]
precision = ["fp32"]
formats = ["exported_program"]
"""

# TensorRT-RTX computes fp32 in TF32 on GPUs that it does not list.
TOLERANCE = {"rtol": 5e-3, "atol": 5e-3}


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """The source model in float32 without TF32, and without gradients."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with torch.no_grad():
        yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def trt() -> Any:
    return pytest.importorskip("tensorrt_rtx")


@pytest.fixture(scope="module")
def torch_tensorrt() -> Any:
    return pytest.importorskip("torch_tensorrt")


def built(root: Path, recipe: str) -> Path:
    project = Project(root / "net", recipe)
    done = project.run()
    assert done.code in (0, 1), done.err
    return project.root / "dist/net"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, trt: Any) -> Path:
    """Net as a raw engine with a batch of 1 to 8."""
    return built(tmp_path_factory.mktemp("net"), RECIPE) / "linux/fp32/model.engine"


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory, trt: Any) -> Path:
    """Hybrid as a Windows program: two engines with an op of PyTorch between."""
    recipe = RECIPE[: RECIPE.index("[targets.linux]")].replace("models/nets.py:Net", "models/nets.py:Hybrid")
    recipe = recipe.replace("args = {{ classes = 4 }}\n", "") + WINDOWS
    return built(tmp_path_factory.mktemp("hybrid"), recipe) / "windows/fp32/model.pt2"


def source(kind: type[torch.nn.Module]) -> torch.nn.Module:
    torch.manual_seed(0)
    return kind().eval().cuda()


def images(batch: int) -> torch.Tensor:
    return torch.rand(batch, 3, 16, 16, device="cuda")


def check(loaded: Any, model: torch.nn.Module, batches: tuple[int, ...] = (4, 1, 8, 4)) -> None:
    for batch in batches:
        x = images(batch)
        torch.testing.assert_close(loaded(x), model(x), **TOLERANCE)


def test_an_engine_gives_the_models_numbers(net: Path) -> None:
    loaded = load(net, other_gpu=True)
    check(loaded, source(Net))
    assert list(loaded.engines) == ["model"]
    with pytest.raises(InputError, match="beyond the range"):
        loaded(images(9))
    with pytest.raises(InputError, match="another device"):
        loaded(images(4).cpu())
    turned = images(4).transpose(2, 3)
    torch.testing.assert_close(loaded(turned), source(Net)(turned), **TOLERANCE)
    last = images(4).to(memory_format=torch.channels_last)
    torch.testing.assert_close(loaded(last), source(Net)(last), **TOLERANCE)


def test_streams_of_the_caller_are_kept_to(net: Path) -> None:
    loaded, model = load(net, other_gpu=True), source(Net)
    streams = [torch.cuda.default_stream(), torch.cuda.Stream(), torch.cuda.Stream()]
    expected, found = [], []
    for turn in range(60):
        stream = streams[turn % 3]
        with torch.cuda.stream(stream):
            x = images(1 + turn % 8)
            # Work that is still running when the engine is called, and memory that is used again at once.
            for _ in range(5):
                x = x * 1.5 - x * 0.5
            found.append(loaded(x))
            expected.append(model(x.clone()))
            del x
    torch.cuda.synchronize()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)


def test_threads_may_share_an_engine(net: Path) -> None:
    loaded, model = load(net, other_gpu=True), source(Net)
    failed: list[BaseException] = []

    def call(batch: int) -> None:
        try:
            with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
                for _ in range(30):
                    x = images(batch)
                    torch.testing.assert_close(loaded(x), model(x), **TOLERANCE)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=call, args=(batch,)) for batch in (1, 2, 5, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]


def test_an_engine_in_cuda_graphs_of_ours_and_of_the_callers(net: Path) -> None:
    model = source(Net)
    loaded = load(net, other_gpu=True, cuda_graph=True)
    check(loaded, model, (4, 8, 4, 8, 1))
    x = images(4)
    first = loaded(x)
    kept = first.clone()
    loaded(images(4))
    assert torch.equal(first, kept)

    plain, stream = load(net, other_gpu=True), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            plain(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        captured = plain(x)
    x.copy_(images(4))
    graph.replay()
    torch.testing.assert_close(captured, model(x), **TOLERANCE)


def test_a_gpu_that_the_engine_was_not_built_for_is_refused(net: Path) -> None:
    here = ".".join(map(str, torch.cuda.get_device_capability()))
    if here == "8.9":
        pytest.skip("this GPU is the one that it was built for")
    with pytest.raises(LoadError, match="not built for this GPU") as caught:
        load(net)
    assert here in str(caught.value)


def test_a_cut_engine_never_reaches_tensorrt(net: Path, tmp_path: Path) -> None:
    manifest = json.loads((net.parent / "manifest.json").read_text())
    (tmp_path / net.name).write_bytes(net.read_bytes()[:-10])
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LoadError, match="not the one that its manifest tells of"):
        load(tmp_path / net.name, other_gpu=True)


@pytest.mark.parametrize("runtime", ["Torch-TensorRT", "TensorRT"])
def test_a_windows_program_for_verification(hybrid: Path, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    if runtime == "Torch-TensorRT":
        pytest.importorskip("torch_tensorrt")
    else:
        monkeypatch.setattr("trtbuild.runtime.partition.torch_tensorrt_installed", lambda runtime: False)
    with pytest.raises(LoadError, match="another platform"):
        load(hybrid, other_gpu=True)
    loaded = load(hybrid, other_gpu=True, for_verification=True)
    check(loaded, source(Hybrid))
    assert len(loaded.engines) == (0 if runtime == "Torch-TensorRT" else 2)


FRESH = """
import sys, torch
sys.modules["torch_tensorrt"] = None
import trtbuild
loaded = trtbuild.load(sys.argv[1], other_gpu=True, for_verification=True)
x = torch.load(sys.argv[2]).cuda()
torch.save(loaded(x).cpu(), sys.argv[3])
"""


@pytest.mark.parametrize("which", ["net", "hybrid"])
def test_in_a_fresh_process_without_torch_tensorrt(net: Path, hybrid: Path, tmp_path: Path, which: str) -> None:
    path, model = (net, source(Net)) if which == "net" else (hybrid, source(Hybrid))
    x = images(3)
    torch.save(x.cpu(), tmp_path / "x.pt")
    files = [str(path), str(tmp_path / "x.pt"), str(tmp_path / "y.pt")]
    done = subprocess.run([sys.executable, "-c", FRESH, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.load(tmp_path / "y.pt").cuda(), model(x), **TOLERANCE)


def compiled(torch_tensorrt: Any, model: torch.nn.Module) -> tuple[Any, torch.Tensor]:
    x = images(4)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    shapes = {f"{bound}_shape": (size, 3, 16, 16) for bound, size in (("min", 1), ("opt", 4), ("max", 8))}
    inputs = [torch_tensorrt.Input(**shapes, dtype=torch.float32, name="x")]
    return torch_tensorrt.dynamo.compile(program, arg_inputs=inputs, min_block_size=1), x


def here(**more: Any) -> dict[str, Any]:
    """A manifest's target and toolchain for what this process makes."""
    import tensorrt_rtx

    target = {"name": "here", "runtime": "tensorrt-rtx", "device": "cuda", "compute_capability": []}
    versions = {"torch": str(torch.__version__), "tensorrt-rtx": str(tensorrt_rtx.__version__)}
    return {"target": {**target, "platform": "linux-x86_64"}, "toolchain": versions, **more}


@pytest.mark.parametrize("runtime", ["Torch-TensorRT", "TensorRT"])
@pytest.mark.parametrize("retrace", [False, True])
def test_a_stock_program(
    torch_tensorrt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, retrace: bool
) -> None:
    model = source(Hybrid)
    module, x = compiled(torch_tensorrt, model)
    path = tmp_path / "model.pt2"
    again = {"arg_inputs": [x], "dynamic_shapes": {"x": {0: torch.export.Dim("batch", min=1, max=8)}}}
    torch_tensorrt.save(module, str(path), retrace=retrace, **(again if retrace else {}))
    artifact(path, "exported_program", [tensor("x", ["batch", 3, 16, 16])], **here())
    if runtime == "TensorRT":
        monkeypatch.setattr("trtbuild.runtime.partition.torch_tensorrt_installed", lambda runtime: False)
    loaded = load(path)
    check(loaded, model)
    assert len(loaded.engines) == (0 if runtime == "Torch-TensorRT" else 2)


def test_torchscript_with_engines(torch_tensorrt: Any, tmp_path: Path) -> None:
    model = source(Hybrid)
    module, x = compiled(torch_tensorrt, model)
    path = tmp_path / "model.ts"
    torch_tensorrt.save(module, str(path), output_format="torchscript", arg_inputs=[x])
    artifact(path, "torchscript", [tensor("x", ["batch", 3, 16, 16])], **here())
    check(load(path), model, (4,))


def test_a_program_of_torch_alone_on_the_gpu(tmp_path: Path) -> None:
    model = source(Sum)
    t = [torch.randn(4, 8, device="cuda") for _ in range(5)]
    program = torch.export.export(model, (t[0], (t[1], [t[2]]), {"z": t[3]}), {"gain": t[4]})
    path = tmp_path / "model.pt2"
    torch.export.save(program, path)
    signature = {
        "inputs": [
            {"name": "a", "keyword": False, "tree": 0},
            {"name": "pair", "keyword": False, "tree": {"tuple": [1, {"list": [2]}]}},
            {"name": "named", "keyword": False, "tree": {"dict": {"z": 3}}},
            {"name": "gain", "keyword": True, "tree": 4},
        ],
        "outputs": {"dict": {"total": 0, "first": 1}},
    }
    target = {"name": "here", "platform": "linux-x86_64", "runtime": "torch", "device": "cuda"}
    names = ("a", "pair_0", "pair_1_0", "named_z", "gain")
    inputs = [tensor(name, [4, 8]) for name in names]
    artifact(path, "exported_program", inputs, 2, signature=signature, target=target)
    found, expected = (
        load(path)(t[0], (t[1], [t[2]]), {"z": t[3]}, gain=t[4]),
        model(t[0], (t[1], [t[2]]), {"z": t[3]}, gain=t[4]),
    )
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    with pytest.raises(InputError, match="another size"):
        load(path)(*[value[:3] for value in t[:1]], (t[1], [t[2]]), {"z": t[3]}, gain=t[4])
