"""The prior of a training that looks at pictures alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..stylegan import Crop, Generator, picture_size
from .prior import Prior
from .terms import Term


class PicturesPrior(Prior):
    """A PicturesPrior stands where a training has no diffusion model, as all of its terms are on images: it says at
    which size they see the pictures, and where."""

    def __init__(self, image_size: int, device: torch.device):
        self.image_size, self.device = image_size, device

    def schedule(self, t: float) -> tuple[float, float]:
        raise ValueError(_NO_MODEL)

    def encode(self, images: Tensor, recompute: bool = False) -> Tensor:
        raise ValueError(_NO_MODEL)

    def guided(self, z_t: Tensor, t: float, scaling: float = 1.0) -> Tensor:
        raise ValueError(_NO_MODEL)


def pictures_side(terms: Sequence[Term], generator: Generator, crop: Crop | None = None) -> int:
    """Return the longer side in pixels at which terms on images see a generator's pictures: that of the targets, else
    the pictures' own."""
    pool = next((term.pool for term in terms if term.pool is not None), None)
    return max(picture_size(generator, crop)) if pool is None else pool.side


_NO_MODEL = (
    "This training has no diffusion model, and one of its terms asks for one; link a guidance, or leave that term out."
)
