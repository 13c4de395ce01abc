"""What the tests of this folder share beside fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SaveProgram = Callable[..., Path]
MakeEngine = Callable[..., bytes]

SOURCE = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.second = torch.nn.Linear(8, 4)
        self.register_buffer("offset", torch.arange(8.0))

    def forward(self, x):
        hidden = self.first(x)
        hidden = torch.nn.functional.gelu(hidden) * 2.0 + self.offset
        return {"out": self.second(hidden) + torch.tensor([1.0, 2.0, 3.0, 4.0])}
"""
