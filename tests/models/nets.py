"""Small models for tests: real enough for TensorRT, built in a second."""

from __future__ import annotations

import torch
from torch import nn


class Net(nn.Module):
    """A convolution and a classifier: x [batch, 3, 16, 16] -> [batch, classes]."""

    def __init__(self, classes: int = 4, slope: float = 0.1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.head = nn.Linear(8, classes)
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.leaky_relu(self.conv(x), self.slope)
        x = torch.relu(x * 2.0 + 1.0).mean((2, 3))
        return self.head(x)


class Attention(nn.Module):
    """One transformer block over tokens: x [batch, tokens, 32] -> the same."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True, activation="gelu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class Hybrid(nn.Module):
    """Two convolutions with an op between them that TensorRT has no converter for."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 3)
        self.scale = nn.Parameter(torch.ones(8, 1, 1) * 0.5)
        self.after = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.before(x))
        x = torch.special.bessel_j0(x * self.scale)
        return self.after(torch.relu(x).mean((2, 3)))


class Branches(nn.Module):
    """Python control flow that depends on data."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x * 2
        return x - 1


class Sum(nn.Module):
    """Two inputs that must have one size, a nested one and one by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(
        self,
        a: torch.Tensor,
        pair: tuple[torch.Tensor, list[torch.Tensor]],
        named: dict[str, torch.Tensor],
        *,
        gain: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        total = self.linear(a) + pair[0] * pair[1][0] - named["z"]
        return {"total": torch.relu(total) * gain, "first": torch.tanh(total)}


def scripted() -> torch.jit.ScriptModule:
    """Net as TorchScript."""
    return torch.jit.script(Net().eval())


def as_graph() -> torch.fx.GraphModule:
    """Net as an FX graph."""
    return torch.fx.symbolic_trace(Net().eval())


def exported() -> torch.export.ExportedProgram:
    """Net as an ExportedProgram with a dynamic batch."""
    batch = torch.export.Dim("batch", min=1, max=16)
    return torch.export.export(Net().eval(), (torch.randn(2, 3, 16, 16),), dynamic_shapes=({0: batch},))


def raises() -> nn.Module:
    """Raises as it is built."""
    raise ValueError("no such backbone: resnet51")


def no_model() -> dict[str, int]:
    """Gives something that is no model."""
    return {"not": 1}


not_callable = 7


class Gated(nn.Module):
    """Casts its mask to float32 itself, which autocast takes no notice of."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x * (x > 0).to(torch.float32))
