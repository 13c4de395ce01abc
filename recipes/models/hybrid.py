"""A model of which TensorRT can take only parts."""

import torch
from torch import nn


class Hybrid(nn.Module):
    """Convolutions around a Bessel function and a learned warp: image [batch, 3, h, w] -> [batch, 10]."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.before = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()
        )
        self.shift = nn.Parameter(torch.tensor([[1.0, 0.0, 0.05], [0.0, 1.0, -0.05]]))
        self.after = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, 10),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.before(image)
        # PyTorch has no kernel of it for half precision.
        x = torch.special.bessel_j0(x.float()).to(x.dtype)
        grid = nn.functional.affine_grid(self.shift.expand(x.shape[0], 2, 3), list(x.shape), align_corners=False)
        x = nn.functional.grid_sample(x, grid, align_corners=False)
        return self.after(x)
