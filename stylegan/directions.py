"""Directions to edit along, found in the weights alone: SeFa (Shen and Zhou, arXiv 2007.06600)."""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from .codes import w_statistics
from .networks import Generator


@torch.no_grad()
def sefa_directions(generator: Generator, codes: Sequence[int]) -> Tensor:
    """Find directions [w_dim, w_dim] of unit length in W, one a row, the one that changes the styles most first.

    They are the eigenvectors of A^T A, with A the style affine weights of the layers that `codes` drive, one
    below the other (of the last code, that of the last ToRGB). Of each the largest entry is positive. On the CPU."""
    affines = torch.cat([_affine(generator, index).cpu().double() for index in codes])
    _, vectors = torch.linalg.eigh(affines.t() @ affines)  # in rising order, one a column
    directions = vectors.flip(1).t()
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return (directions * largest.sign()).float()


def edit_codes(
    generator: Generator, ws: Tensor, direction: int, codes: Sequence[int], strength: float, strip: int = 1
) -> Tensor:
    """Move ws [N, num_ws, w_dim] along one of the `sefa_directions` of the codes by `strength` standard deviations of w;
    with a strip of more than 1, each by that many strengths from the opposite one on, [N strip, num_ws, w_dim]. Raises
    ValueError when there is no such direction."""
    if not 0 <= direction < generator.w_dim:
        raise ValueError(f"There is no direction {direction}: this generator has 0 to {generator.w_dim - 1}.")
    reach = strength * w_statistics(generator)[1].item()
    strengths = [reach] if strip == 1 else torch.linspace(-reach, reach, strip).tolist()
    return move_codes(ws, sefa_directions(generator, codes)[direction], codes, strengths)


def _affine(generator: Generator, index: int) -> Tensor:
    """The weights [styles, w_dim] by which a code becomes its layer's styles."""
    layers = [*generator.synthesis.layers, generator.synthesis.groups["to_rgb"][-1]]
    return layers[index].affine.weight


def move_codes(ws: Tensor, direction: Tensor, codes: Sequence[int], strengths: Sequence[float]) -> Tensor:
    """Move ws [N, num_ws, w_dim] along `direction` [w_dim] by each strength, in the chosen codes only:
    [N len(strengths), num_ws, w_dim], all strengths of the first latent first."""
    chosen = torch.zeros(ws.shape[1], 1)
    chosen[list(codes)] = 1
    shifts = rearrange(torch.tensor(strengths), "strength -> strength 1 1") * chosen * direction
    moved = rearrange(ws, "latent code w -> latent 1 code w") + shifts.to(ws)
    return rearrange(moved, "latent strength code w -> (latent strength) code w")
