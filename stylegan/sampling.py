"""Latents, and the images that a generator draws from them."""

import re

import numpy as np
import torch
from torch import Tensor

from .cameras import for_each
from .config import Config
from .networks import Generator, class_labels
from .synthesis import Draw

_BLOCK = 16
"""Numbers that torch draws together on the CPU: of fewer at the end, each depends on how many there are."""


class LatentStream:
    """A LatentStream draws the latents of a seed from N(0, 1), one after the other, the same on every device and however
    many are drawn at a time. Raises ValueError when the seed is not between 0 and 2^64 - 1."""

    def __init__(self, z_dim: int, seed: int):
        check_seed(seed)
        self.z_dim = z_dim
        self._generator = torch.Generator().manual_seed(seed)
        self._left = torch.empty(0)  # drawn, and not taken yet

    def take(self, count: int) -> Tensor:
        """Return the next latents [count, z_dim]."""
        wanted = count * self.z_dim
        missing = wanted - len(self._left)
        drawn = torch.randn(-(-max(0, missing) // _BLOCK) * _BLOCK, generator=self._generator)
        numbers = torch.cat([self._left, drawn])
        self._left = numbers[wanted:].clone()
        return numbers[:wanted].view(count, self.z_dim)


def check_seed(seed: int) -> None:
    """Raise ValueError when a seed is not between 0 and 2^64 - 1."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"The seed is {seed}; give a whole number from 0 to 2^64 - 1.")


def sample_z(z_dim: int, count: int, seed: int) -> Tensor:
    """Draw the first `count` latents [count, z_dim] of a seed, as `LatentStream` does."""
    return LatentStream(z_dim, seed).take(count)


_SEEDS = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?")

MOST_SEEDS = 10_000_000
"""Seeds of a list at most: more are a slip of the hand."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return seeds in the order of a list of numbers and ranges with commas or spaces, each once: "1-64,100". Raises
    ValueError for other text."""
    ranges = []
    for part in re.sub(r"\s*-\s*", "-", text).replace(",", " ").split():
        match = _SEEDS.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= 2**64:
            raise ValueError(f"{part!r} is no seed or range of seeds; write for example 1-64,100.")
        ranges.append(range(first, last + 1))
    count = sum(map(len, ranges))
    if not 0 < count <= MOST_SEEDS:
        raise ValueError(f"These are {count} seeds; give 1 to {MOST_SEEDS}, for example 1-64,100.")
    return tuple(dict.fromkeys(seed for each in ranges for seed in each))


def noise_seeds(seed: int, first: int, count: int) -> tuple[int, ...]:
    """Return the seeds of the random noise inputs of the pictures `first`, `first` + 1, ... of a seed, for a Draw: of each
    picture the same, however many there are."""
    return tuple(
        int(np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1, np.uint64)[0])
        for index in range(first, first + count)
    )


def render_batch(config: Config) -> int:
    """Return how many images are rendered at once: a few where they are small; from 512 pixels up one alone keeps a
    device busy and takes hundreds of megabytes."""
    return min(4, max(1, 4 * 256**2 // (config.height * config.width)))


@torch.no_grad()
def render_samples(
    generator: Generator,
    z: Tensor,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise: str = "const",
    class_index: int | None = None,
    seed: int = 0,
    cameras: Tensor | None = None,
) -> Tensor:
    """Render images [N, img_channels, H, W] on the CPU, about [-1, 1], of latents z [N, z_dim], a few at a
    time where the generator is.

    Generators with classes draw class `class_index`, or, when it is None, one class after the other. Random noise
    inputs are those of the `seed`. Generators that take cameras are seen by `cameras` [N, 25] or one for all; None: by
    their usual one. Raises ValueError when there is no such class, or cameras do not fit."""
    device = next(generator.parameters()).device
    labels = class_labels(generator.c_dim, len(z), device, class_index)
    cameras = for_each(cameras, len(z))
    pieces, size = [], render_batch(generator.config)
    for start in range(0, len(z), size):
        rows = slice(start, start + size)
        label = None if labels is None else labels[rows]
        ws = generator.mapping(z[rows].to(device), truncation_psi, truncation_cutoff, label)
        seen = None if cameras is None else cameras[rows].to(device)
        pieces.append(generator.synthesis(Draw(ws, noise_seeds(seed, start, len(ws)), seen), noise=noise).cpu())
    return torch.cat(pieces)
