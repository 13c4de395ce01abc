"""The values inside of an ONNX model that torch's exporter wrote, by the names they have in torch's own graph.

The exporter decomposes the program and names a node's result for the op it came from. So the reference is the program
as the exporter decomposed it, and a value is known by one name in both. Source: torch.onnx.ONNXProgram.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtbuild.verification.opening import as_written
from trtbuild.verification.program_values import value_names


class OnnxValues:
    """An ONNX model to look into, beside the program it was made from."""

    def __init__(self, stored: Mapping[str, Path], program: Path) -> None:
        import onnx

        from trtbuild.verification.opening import main_file

        self._folder = as_written(stored)
        self._model = onnx.load(self._folder / main_file(stored), load_external_data=False)
        self.program = _as_exported(program, self._model)
        # The exporter gives the model's own outputs names of the recipe's.
        outputs = [name for name in self.program.graph_signature.user_outputs if isinstance(name, str)]
        self._called = dict(zip(outputs, (value.name for value in self._model.graph.output), strict=False))

    def names(self) -> list[str]:
        """The values that both have, in the order in which they are computed."""
        made = {name for node in self._model.graph.node for name in node.output}
        return [name for name in value_names(self.program) if self._called.get(name, name) in made]

    def holders(self, names: Sequence[str]) -> dict[str, str]:
        """The node that gives each value."""
        makers = {name: node for node in self._model.graph.node for name in node.output}
        return {
            name: f"the node {node.name} ({node.op_type})"
            for name in names
            if (node := makers.get(self._called.get(name, name)))
        }

    def values(self, flat: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
        """The values of these names, computed by onnxruntime on the CPU."""
        import onnx
        import torch

        # Has no types, and mypy would ask for them wherever it is installed.
        onnxruntime: Any = importlib.import_module("onnxruntime")

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        known = {value.name: value for value in model.graph.value_info}
        given = {value.name for value in model.graph.output}
        called = [self._called.get(name, name) for name in names]
        for name in dict.fromkeys(called):
            if name not in given:
                model.graph.output.append(known.get(name) or onnx.helper.make_empty_tensor_value_info(name))
        # Beside its weights, which it names relative to itself.
        path = self._folder / "with_values.onnx"
        onnx.save(model, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        inputs = {value.name: tensor for value, tensor in zip(session.get_inputs(), flat, strict=True)}
        results = session.run(called, {name: tensor.cpu().numpy() for name, tensor in inputs.items()})
        return {name: torch.from_numpy(result) for name, result in zip(names, results, strict=True)}


def _as_exported(path: Path, model: Any) -> Any:
    """The program as the exporter decomposes it on its way to a model."""
    import torch

    opset = next(int(used.version) for used in model.opset_import if used.domain in ("", "ai.onnx"))
    made = torch.onnx.export(torch.export.load(path), (), dynamo=True, verbose=False, opset_version=opset)
    return made.exported_program
