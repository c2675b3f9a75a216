"""Latents, and the images that a generator draws from them."""

import torch
from torch import Tensor

from .networks import Generator, class_labels


def sample_z(z_dim: int, count: int, seed: int) -> Tensor:
    """Draw `count` latents [count, z_dim] from N(0, 1), the same for a seed on every device.

    Raises ValueError when the seed is not between 0 and 2^64 - 1."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"The seed is {seed}; give a whole number from 0 to 2^64 - 1.")
    return torch.randn(count, z_dim, generator=torch.Generator().manual_seed(seed))


def render_batch(resolution: int) -> int:
    """Return how many images are rendered at once: a few where they are small; from 512 pixels up one alone keeps a
    device busy and takes hundreds of megabytes."""
    return min(4, max(1, 4 * 256**2 // resolution**2))


@torch.no_grad()
def render_samples(
    generator: Generator,
    z: Tensor,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise: str = "const",
    class_index: int | None = None,
) -> Tensor:
    """Render images [N, 3, R, R] on the CPU, about [-1, 1], of latents z [N, z_dim], a few at a
    time where the generator is.

    Generators with classes draw class `class_index`, or, when it is None, one class after the other.
    Raises ValueError when there is no such class."""
    device = next(generator.parameters()).device
    labels = class_labels(generator.c_dim, len(z), device, class_index)
    pieces, size = [], render_batch(generator.resolution)
    for start in range(0, len(z), size):
        rows = slice(start, start + size)
        label = None if labels is None else labels[rows]
        pieces.append(generator(z[rows].to(device), truncation_psi, truncation_cutoff, label, noise).cpu())
    return torch.cat(pieces)
