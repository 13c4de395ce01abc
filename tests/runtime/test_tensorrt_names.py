"""The installed TensorRT has every name that the loader uses of it. Without a GPU nothing of it can be run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

NAMES = {
    "ErrorCodeTRT": ["UNSPECIFIED_ERROR"],
    "IErrorRecorder": [],
    "Logger": ["ERROR"],
    "Runtime": ["deserialize_cuda_engine", "error_recorder"],
    "ICudaEngine": [
        "create_execution_context",
        "get_aliased_input_tensor",
        "get_tensor_dtype",
        "get_tensor_location",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_profile_shape",
        "num_io_tensors",
        "num_optimization_profiles",
    ],
    "IExecutionContext": [
        "active_optimization_profile",
        "execute_async_v3",
        "get_tensor_shape",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_output_allocator",
        "set_tensor_address",
    ],
    "IOutputAllocator": [],
    "TensorIOMode": ["INPUT"],
    "TensorLocation": ["HOST"],
    "DataType": ["FLOAT", "HALF", "BF16", "INT8", "INT32", "INT64", "BOOL", "UINT8", "FP8"],
}


@pytest.mark.parametrize("module", ["tensorrt_rtx", "tensorrt"])
def test_every_name_is_there(module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    trt: Any = __import__(module)
    for kind, names in NAMES.items():
        for name in names:
            assert hasattr(getattr(trt, kind), name), f"{kind}.{name}"
    if module == "tensorrt_rtx":
        assert hasattr(trt.ICudaEngine, "create_runtime_config")
        assert trt.DynamicShapesKernelSpecializationStrategy.EAGER is not None


def test_what_tensorrt_says_reaches_our_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    from trtbuild.runtime import trt_errors

    monkeypatch.setattr(trt_errors, "_runtimes", {})
    assert trt_errors.runtime_for(trt).deserialize_cuda_engine(b"x" * 100) is None
    ((name, text),) = trt_errors.messages_of(trt)
    assert name == "TensorRT says" and "Trying to load an engine" in text
    assert trt_errors.messages_of(trt) == []
