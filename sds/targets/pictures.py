"""The prior of a training that looks at pictures alone."""

import torch
from torch import Tensor

from ..prior import Prior


class PicturesPrior(Prior):
    """A PicturesPrior stands where a training has targets and no diffusion model: it says at which size pictures are
    compared, and where."""

    def __init__(self, image_size: int, device: torch.device):
        self.image_size, self.device = image_size, device

    def schedule(self, t: float) -> tuple[float, float]:
        raise ValueError(_NO_MODEL)

    def encode(self, images: Tensor, recompute: bool = False) -> Tensor:
        raise ValueError(_NO_MODEL)

    def guided(self, z_t: Tensor, t: float, scaling: float = 1.0) -> Tensor:
        raise ValueError(_NO_MODEL)


_NO_MODEL = (
    "This training has no diffusion model, and one of its terms asks for one; link a guidance, or leave that term out."
)
