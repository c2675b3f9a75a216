"""W+ codes: from latents, the layers that they drive, and the pictures drawn from them."""

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..training.digests import tensors_digest
from .cameras import for_each
from .networks import Generator, class_labels
from .sampling import noise_seeds, render_batch, sample_z
from .synthesis import Draw

LAYER_RANGES = {
    "all": (0, 2048),
    "coarse": (0, 8),
    "middle": (9, 32),
    "fine": (33, 2048),
    "coarse and middle": (0, 32),
    "middle and fine": (9, 2048),
}
"""Layers by the detail that they draw, from and to pixels over the picture (Karras et al., arXiv 1812.04948, sec. 3.1)."""

_PART = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


@torch.no_grad()
def sample_codes(
    generator: Generator,
    z: Tensor,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    class_index: int | None = None,
    first: int = 0,
) -> Tensor:
    """Return the W+ codes [N, num_ws, w_dim] on the CPU of latents z [N, z_dim], as `render_samples` takes them.

    Generators with classes take class `class_index`, or, when it is None, one class after the other, from the picture
    with the number `first` on. Raises ValueError when there is no such class."""
    device = next(generator.parameters()).device
    labels = class_labels(generator.c_dim, len(z), device, class_index, first)
    return generator.mapping(z.to(device), truncation_psi, truncation_cutoff, labels).cpu()


@torch.no_grad()
def draw_codes(
    generator: Generator,
    ws: Tensor,
    noise: str = "const",
    seeds: Sequence[int] | None = None,
    cameras: Tensor | None = None,
) -> Iterator[Tensor]:
    """Draw images [n, img_channels, H, W] on the CPU, about [-1, 1], of codes ws [N, num_ws, w_dim]: a few at a time, in order,
    where the generator is. Random noise inputs are those of each picture's seed, of `noise_seeds` (None: of the seed 0);
    `cameras` [N, 25], or one for all, are of a generator that takes them (None: its usual one). Raises ValueError when the
    codes or cameras do not fit."""
    device = next(generator.parameters()).device
    draw = Draw(ws, noise_seeds(0, 0, len(ws)) if seeds is None else tuple(seeds), for_each(cameras, len(ws)))
    size = render_batch(generator.config)
    for start in range(0, len(ws), size):
        piece = draw[start : start + size]
        yield generator.synthesis(piece.to(device), noise=noise).cpu()


def require_fitting(generator: Generator, ws: Tensor) -> None:
    """Raise ValueError when codes ws [N, num_ws, w_dim] are not of this generator's shape."""
    wanted = generator.num_ws, generator.w_dim
    if tuple(ws.shape[1:]) != wanted:
        has = " x ".join(map(str, ws.shape[1:]))
        raise ValueError(
            f"These latents have {has} numbers each, and this generator takes {wanted[0]} x {wanted[1]}. Use latents of a "
            "generator with the same number of layers and latent size, for example the one that this one was adapted from."
        )


def codes_between(generator: Generator, low: float, high: float) -> tuple[int, ...]:
    """Return the indices of the codes that drive detail from `low` to `high` pixels over the picture, as
    `synthesis.detail` counts."""
    return tuple(i for i, detail in enumerate(generator.synthesis.detail) if low <= round(detail) <= high)


def codes_of(generator: Generator, layers: str) -> tuple[int, ...]:
    """Return the indices in W+ of layers by a name of LAYER_RANGES, or by numbers as `parse_codes` reads them.

    Raises ValueError when the text is neither, or there is no such layer."""
    if layers in LAYER_RANGES:
        found = codes_between(generator, *LAYER_RANGES[layers])
        if not found:
            raise ValueError(f"This generator has no {layers} layers; choose others.")
        return found
    chosen = parse_codes(layers)
    if chosen[-1] >= generator.num_ws:
        raise ValueError(
            f"There is no layer {chosen[-1]}: the codes of this generator are numbered 0 to {generator.num_ws - 1}."
        )
    return chosen


def parse_codes(text: str) -> tuple[int, ...]:
    """Return indices in rising order from numbers and ranges with commas or spaces: "0-3, 6". Raises
    ValueError for other text."""
    found: set[int] = set()
    for part in re.sub(r"\s*-\s*", "-", text).replace(",", " ").split():
        match = _PART.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f"{part!r} is no number or range of layers; write for example 0-3, 6.")
        found.update(range(first, last + 1))
    if not found:
        raise ValueError("The list of layers is empty; write for example 0-3, 6.")
    return tuple(sorted(found))


def mix_styles(ws: Tensor, others: Tensor, codes: Sequence[int]) -> Tensor:
    """Mix styles (arXiv 1812.04948, sec. 3.1): ws with the chosen codes from `others`; both [.., num_ws, w_dim], which
    broadcast against each other."""
    chosen = torch.zeros(ws.shape[-2], 1, dtype=torch.bool)
    chosen[list(codes)] = True
    return torch.where(chosen.to(ws.device), others, ws)


@torch.no_grad()
def w_statistics(generator: Generator, class_index: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean [w_dim] and standard deviation [] (of all entries alike) of w over 4096 latents, always the same
    ones, of one class or of all in turn; where the generator is. Raises ValueError when there is no such class."""
    device = next(generator.parameters()).device
    z = sample_z(generator.z_dim, 4096, seed=0).to(device)
    w = generator.mapping(z, label=class_labels(generator.c_dim, len(z), device, class_index))[:, 0]
    mean = w.mean(dim=0)
    return mean, (w - mean).square().mean().sqrt()


def mapping_digest(generator: Generator) -> str:
    """Return a digest that tells mappings apart: codes mean the same to all generators with one
    mapping, adapted ones included."""
    return tensors_digest(generator.mapping.named_parameters())[:16]
