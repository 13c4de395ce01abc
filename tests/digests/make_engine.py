"""Build one small TensorRT-RTX engine for a GPU that need not be there: make_engine.py KIND TARGET [name=value ...].

conv and mlp have a dynamic batch; mobile is built of MobileNet's blocks, and image has dynamic height and width too:
those are the networks whose engines differ from run to run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt_rtx as trt


class Network:
    """A network under construction, with the weights that TensorRT only borrows."""

    def __init__(self, builder: Any, seed: int) -> None:
        self.it = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self.it.name = "m"
        self._random = np.random.default_rng(seed)
        self._kept: list[Any] = []

    def weights(self, *shape: int) -> Any:
        return self._keep(self._random.standard_normal(shape).astype(np.float32) * 0.2)

    def constant(self, shape: tuple[int, ...], value: float) -> Any:
        return self.it.add_constant(shape, self._keep(np.full(shape, value, np.float32))).get_output(0)

    def _keep(self, array: Any) -> Any:
        self._kept.append(np.ascontiguousarray(array))
        return trt.Weights(self._kept[-1])

    def conv(self, x: Any, inputs: int, outputs: int, size: int, groups: int = 1) -> Any:
        kernel = self.weights(outputs, inputs // groups, size, size)
        layer = self.it.add_convolution_nd(x, outputs, (size, size), kernel, self.weights(outputs))
        layer.padding_nd = (size // 2, size // 2)
        layer.num_groups = groups
        return layer.get_output(0)

    def both(self, a: Any, b: Any, operation: str) -> Any:
        return self.it.add_elementwise(a, b, getattr(trt.ElementWiseOperation, operation)).get_output(0)

    def activate(self, x: Any, kind: str) -> Any:
        return self.it.add_activation(x, getattr(trt.ActivationType, kind)).get_output(0)

    def mean(self, x: Any, keep: bool) -> Any:
        return self.it.add_reduce(x, trt.ReduceOperation.AVG, 0b1100, keep).get_output(0)


def conv(net: Network, x: Any) -> Any:
    for inputs in (3, 8):
        x = net.activate(net.conv(x, inputs, 8, 3), "RELU")
    return x


def mobile(net: Network, x: Any, blocks: int = 4) -> Any:
    def swish(y: Any) -> Any:
        return net.both(y, net.activate(y, "HARD_SIGMOID"), "PROD")

    x = swish(net.conv(x, 3, 16, 3))
    for _ in range(blocks):
        wide = swish(net.conv(swish(net.conv(x, 16, 32, 1)), 32, 32, 3, groups=32))
        squeezed = net.activate(net.conv(net.mean(wide, keep=True), 32, 8, 1), "RELU")
        wide = net.both(wide, net.activate(net.conv(squeezed, 8, 32, 1), "HARD_SIGMOID"), "PROD")
        x = net.both(x, net.conv(wide, 32, 16, 1), "SUM")
    return x


def mlp(net: Network, x: Any) -> Any:
    for _ in range(2):
        weight = net.it.add_constant((16, 16), net.weights(16, 16)).get_output(0)
        none = trt.MatrixOperation.NONE
        x = net.activate(net.it.add_matrix_multiply(x, none, weight, none).get_output(0), "TANH")
    return x


def main(kind: str, target: str, *words: str) -> None:
    options = dict(word.split("=") for word in words)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    net = Network(builder, int(options.get("seed", 0)))
    free = -1 if kind == "image" else 32
    shape = (16,) if kind == "mlp" else (3, free, free)
    x = net.it.add_input("x", trt.float32, (-1, *shape))
    y = {"conv": conv, "mlp": mlp, "mobile": mobile, "image": mobile}[kind](net, x)
    ones = (1,) * (len(shape) + 1)
    y = net.both(y, net.constant(ones, float(options.get("times", 2.0))), "PROD")
    y = net.both(y, net.constant(ones, float(options.get("plus", 1.0))), "SUM")
    if kind != "mlp":
        y = net.mean(y, keep=False)
    y.name = "y"
    net.it.mark_output(y)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << int(options.get("workspace", 28)))
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, options.get("cc", "SM89")), 0)
    profile = builder.create_optimization_profile()

    def sizes(batch: int, side: int) -> tuple[int, ...]:
        return (batch, 16) if kind == "mlp" else (batch, 3, side, side)

    most = int(options.get("max", 8))
    profile.set_shape("x", sizes(1, 32), sizes(4, 32), sizes(most, 64 if kind == "image" else 32))
    config.add_optimization_profile(profile)
    Path(target).write_bytes(builder.build_serialized_network(net.it, config))


main(*sys.argv[1:])
