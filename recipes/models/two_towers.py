"""Two inputs of one batch, a nested one, and one passed by keyword."""

import torch
from torch import nn


class TwoTowers(nn.Module):
    """How well images and texts fit: image [batch, 3, h, w], text and mask [batch, tokens] -> score [batch], state."""

    def __init__(self, width: int = 64, vocabulary: int = 1000) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, width),
        )
        self.embed = nn.Embedding(vocabulary, width)
        self.text = nn.Linear(width, width)

    def forward(
        self, image: torch.Tensor, text: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor], *, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        words = self.embed(text).masked_fill(~mask.unsqueeze(-1), 0.0).mean(1)
        one = self.image(image) + state[0]
        other = self.text(words) + state[1]
        return {"score": (one * other).sum(-1), "state": torch.tanh(one)}
