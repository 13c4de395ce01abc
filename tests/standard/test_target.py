"""What a builder of standard TensorRT is told of a target, and the compile stage's way for it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.stages.running import EXPORT, run_stage
from tests.stages.test_exports import BATCH, SUM, trace
from trtbuild.errors import StageError
from trtbuild.stages import compile_onnx, standard

torch = pytest.importorskip("torch")
trt = pytest.importorskip("tensorrt_rtx")


class Config:
    """A builder config that keeps what is set. TensorRT's own keeps a platform that it cannot build for from being
    set, and logs why: `deaf`."""

    def __init__(self, deaf: bool = False) -> None:
        object.__setattr__(self, "deaf", deaf)
        object.__setattr__(self, "limits", {})
        object.__setattr__(self, "runtime_platform", trt.RuntimePlatform.SAME_AS_BUILD)

    def __setattr__(self, name: str, value: Any) -> None:
        assert hasattr(trt.IBuilderConfig, name)
        if not (name == "runtime_platform" and self.deaf):
            object.__setattr__(self, name, value)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.limits[pool] = size

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")


def settings(platform: str = "linux-x86_64", *capabilities: str, **options: Any) -> dict[str, Any]:
    return {"platform": platform, "compute_capability": list(capabilities), "options": options}


def test_for_the_machine_itself_nothing_is_set(gpu: None) -> None:
    config = Config()
    standard.set_target(trt, config, settings("linux-x86_64", "8.9"))
    assert vars(config) == {"deaf": False, "limits": {}, "runtime_platform": trt.RuntimePlatform.SAME_AS_BUILD}


def test_windows_is_set_and_read_back(gpu: None) -> None:
    config = Config()
    standard.set_target(trt, config, settings("windows-x86_64", "8.9"))
    assert config.runtime_platform == trt.RuntimePlatform.WINDOWS_AMD64
    with pytest.raises(StageError, match="does not build for Windows"):
        standard.set_target(trt, Config(deaf=True), settings("windows-x86_64", "8.9"))


@pytest.mark.parametrize("asked", [settings("linux-x86_64", "8.0", "8.9"), settings(hardware_compatible=True)])
def test_several_gpus_take_a_compatible_engine(gpu: None, asked: dict[str, Any]) -> None:
    config = Config()
    standard.set_target(trt, config, asked)
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS


def test_the_workspace_is_limited_where_the_recipe_says_so(gpu: None) -> None:
    config = Config()
    standard.set_target(trt, config, settings(workspace_size=1 << 20))
    assert config.limits == {trt.MemoryPoolType.WORKSPACE: 1 << 20}


def test_another_gpu_is_refused(gpu: None) -> None:
    with pytest.raises(StageError) as caught:
        standard.set_target(trt, Config(), settings("linux-x86_64", "8.6", "12.0"))
    assert caught.value.facts == [("built for", "compute capability 8.6, 12.0"), ("GPU here", "a GPU, 8.9")]


def test_gpus_that_no_one_engine_is_for_are_refused(gpu: None) -> None:
    with pytest.raises(StageError, match=r"from compute capability 8\.0 on only"):
        standard.set_target(trt, Config(), settings("linux-x86_64", "7.5", "8.9"))


def test_networks_are_strongly_typed_by_a_flag_where_it_is_needed() -> None:
    flag = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert compile_onnx._network_flags(trt, "tensorrt") == 1 << int(flag)
    assert compile_onnx._network_flags(trt, "tensorrt-rtx") == 0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trace(tmp_path_factory.mktemp("program"), "Sum", SUM, BATCH)


def compiled(
    folder: Path, program: Path, inputs: dict[str, dict[str, Path]] | None = None, **changed: Any
) -> dict[str, Any]:
    """The details of the compile stage in its way for standard TensorRT, which RTX stands for."""
    return run_stage(
        folder,
        "tests.standard.as_rtx",
        {
            "converter": "torch-tensorrt",
            "runtime": "tensorrt",
            "platform": "linux-x86_64",
            "compute_capability": ["8.9"],
            "precision": "fp32",
            "options": {"min_block_size": 1},
            "inputs": SUM,
            "dims": BATCH,
            "profiles": [],
            "details": {},
            **changed,
        },
        {"program": {"program.pt2": program}, **(inputs or {})},
    )


needs_torch_tensorrt = pytest.mark.skipif(find_spec("torch_tensorrt") is None, reason="needs Torch-TensorRT")


@needs_torch_tensorrt
def test_an_engine_by_torch_tensorrt_is_known_from_its_network(program: Path, tmp_path: Path) -> None:
    made = compiled(tmp_path / "out", program)
    assert "error" not in made, made
    (engine,) = made["engines"]
    assert [tensor["shape"] for tensor in engine["inputs"]] == [[-1, 8]] * 4 + [[-1, 1]]
    assert engine["ranges"][0][engine["inputs"][0]["name"]] == [[1, 8], [4, 8], [8, 8]]
    assert made["whole"]["engine"] == engine["name"] and engine["layer_types"]
    assert made["realised"]["compute"] and set(made["realised"]["compute"]) == {"float32"}
    assert (tmp_path / "out" / engine["file"]).stat().st_size > 1000
    # The same program as RTX has: for either platform, its engine beside it.
    for stage, given in (
        ("cross_compile", {"format": "exported_program", "platform": "windows-x86_64"}),
        ("export", {"format": "exported_program", "platform": "linux-x86_64", "export": EXPORT}),
    ):
        outputs = {name: tmp_path / "out" / name for name in ("report.json", "program.pt2", engine["file"])}
        told = run_stage(tmp_path / stage, f"trtbuild.stages.{stage}", given, {"compiled": outputs})
        assert told["engines"] == [engine["name"]] and (tmp_path / stage / "model.pt2").stat().st_size > 1000


@needs_torch_tensorrt
def test_a_tensorrt_that_does_not_build_for_windows_says_so(program: Path, tmp_path: Path) -> None:
    made = compiled(tmp_path / "out", program, platform="windows-x86_64")
    assert made["error"] == "This TensorRT does not build for Windows"


@pytest.mark.parametrize(
    ("platform", "error"), [("linux-x86_64", ""), ("windows-x86_64", "This TensorRT does not build for Windows")]
)
def test_an_engine_by_the_onnx_parser(program: Path, tmp_path: Path, platform: str, error: str) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    given = {"opset": None, "inputs": SUM}
    written = run_stage(tmp_path / "onnx", "trtbuild.stages.onnx", given, {"program": {"program.pt2": program}})
    model = {path.name: path for path in (tmp_path / "onnx").iterdir()}
    made = compiled(
        tmp_path / "out",
        program,
        inputs={"onnx": model},
        converter="onnx",
        options={},
        platform=platform,
        details={"onnx": written},
    )
    assert made.get("error", "") == error, made
    if not error:
        (engine,) = made["engines"]
        assert len(engine["inputs"]) == 5 and made["whole"]["engine"] == "model"
