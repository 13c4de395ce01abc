"""Artifacts into callables on a GPU, for tests: raw engines by TensorRT's runtime, Windows programs with their platform
and device rewritten to those of this machine. (`trtbuild.load` for users is yet to come.)"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

PLACEHOLDER = "no_op_placeholder_for_execute_engine"


def load_engine(path: Path, manifest: Mapping[str, Any]) -> Callable[..., list[torch.Tensor]]:
    """A raw engine as a function of the program's flat inputs; the profile is chosen by the shapes."""
    import tensorrt_rtx as trt

    runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    assert engine is not None
    whole = manifest["whole_engine"]
    names = [found["name"] for found in manifest["inputs"]]

    def call(*flat: torch.Tensor) -> list[torch.Tensor]:
        given = dict(zip(names, flat, strict=True))
        context = engine.create_execution_context()
        stream = torch.cuda.Stream()
        profile = _profile(engine, {name: tuple(given[name].shape) for name in whole["inputs"]})
        assert context.set_optimization_profile_async(profile, stream.cuda_stream)
        kept = []
        for name in whole["inputs"]:
            tensor = given[name].contiguous().cuda()
            kept.append(tensor)
            assert context.set_input_shape(name, tuple(tensor.shape))
            context.set_tensor_address(name, tensor.data_ptr())
        outputs = []
        for name in whole["outputs"]:
            dtype = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16, "INT64": torch.int64}[
                engine.get_tensor_dtype(name).name
            ]
            outputs.append(torch.empty(tuple(context.get_tensor_shape(name)), dtype=dtype, device="cuda"))
            context.set_tensor_address(name, outputs[-1].data_ptr())
        torch.cuda.synchronize()
        assert context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return outputs

    return call


def _profile(engine: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    for profile in reversed(range(engine.num_optimization_profiles)):
        ranges = {name: engine.get_tensor_profile_shape(name, profile) for name in shapes}
        if all(
            all(low <= size <= high for low, size, high in zip(ranges[name][0], shape, ranges[name][2], strict=True))
            for name, shape in shapes.items()
        ):
            return profile
    raise AssertionError(f"no profile takes {shapes}")


def load_windows_program(path: Path) -> torch.nn.Module:
    """A Windows program as a module on this Linux machine's GPU."""
    import torch_tensorrt  # noqa: F401

    ops = torch.ops.tensorrt
    program = torch.export.load(path)
    graph_module = program.graph_module
    for node in [node for node in graph_module.graph.nodes if PLACEHOLDER in node.name]:
        info = list(node.args[1:])
        info += ["0"] * (ops.SERIALIZATION_LEN() - len(info))
        assert info[ops.TARGET_PLATFORM_IDX()] == "windows_x86_64"
        info[ops.ENGINE_IDX()] = base64.b64decode(info[ops.ENGINE_IDX()])
        info[ops.TARGET_PLATFORM_IDX()] = ops.get_current_platform()
        major, minor = torch.cuda.get_device_capability()
        info[ops.DEVICE_IDX()] = ops.SERIALIZED_RT_DEVICE_DELIM()[0].join(
            ["0", str(major), str(minor), "0", torch.cuda.get_device_name()]
        )
        setattr(graph_module, f"{node.name}_engine", torch.classes.tensorrt.Engine(info))
        with graph_module.graph.inserting_before(node):
            engine = graph_module.graph.get_attr(f"{node.name}_engine")
            run = graph_module.graph.call_function(ops.execute_engine.default, (node.args[0], engine))
            run.meta["val"] = node.meta["val"]
            engine.meta["val"] = torch.export.graph_signature.CustomObjArgument(name=engine.name, class_fqn="")
        node.replace_all_uses_with(run)
        graph_module.graph.erase_node(node)
    graph_module.graph.lint()
    graph_module.recompile()
    return program.module()
