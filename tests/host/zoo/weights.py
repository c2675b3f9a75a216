"""Random numbers, random weights, and the host's wrapper of models."""

import math

import comfy.model_patcher
import torch

# Newer hosts load weights lazily with a patcher class of their own.
PATCHER = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fill(module: torch.nn.Module, seed: int) -> None:
    """Random weights that keep the scale of activations: matrices by their fan-in, scales about 1, biases about 0.

    The host's layers start uninitialized, and real ones often start at zero where they write to the output."""
    generator = torch.Generator().manual_seed(seed)
    buffers = ((name, buffer) for name, buffer in module.named_buffers() if name.endswith("pos_embed"))
    for name, weight in (*module.named_parameters(), *buffers):
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith(("gamma", "norm.scale")) or (weight.ndim < 2 and name.endswith(("weight", "scale"))):
            noise = 1 + 0.1 * noise
        elif weight.ndim < 2:
            noise = 0.1 * noise
        else:
            noise = noise / math.sqrt(weight[0].numel())
        with torch.no_grad():
            weight.copy_(noise)
