"""A vision transformer of torchvision's, smaller than its smallest, with a head that says something."""

import torch
from torchvision.models import VisionTransformer


def vit(layers: int = 6, heads: int = 6, width: int = 384, classes: int = 1000) -> torch.nn.Module:
    """Patches of 16 of a 224 x 224 image.

    torchvision's head is zero until trained, and any result would look right; the other weights it draws by ways that
    differ from version to version. Here all are drawn alike.
    """
    model = VisionTransformer(224, 16, layers, heads, width, 4 * width, num_classes=classes)
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return model
