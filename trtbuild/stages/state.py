"""The state of a model, as one digest: whether a model that is built again is the one that was traced."""

from __future__ import annotations

from typing import Any

from trtbuild.digest import digest_bytes, digest_value


def state_digest(model: Any) -> str:
    """The digest of all parameters and buffers by name, dtype, shape and content. What has no content counts by name.

    Weights that are drawn at construction differ between versions of torch and torchvision, whatever the seed.
    """
    import torch

    state: dict[str, Any] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        facts = [str(tensor.dtype), list(tensor.shape)]
        if tensor.device.type == "cpu" and tensor.layout is torch.strided and not tensor.is_quantized:
            content = tensor.detach().contiguous().flatten().view(torch.uint8)
            facts.append(digest_bytes(memoryview(content.numpy())))
        state[name] = facts
    return digest_value(state)
