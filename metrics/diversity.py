"""How different images are from each other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .colours import rgb

SIZE = 32
"""Side in pixels of the images that are compared."""


def diversity(images: Tensor) -> float:
    """Return the mean over all pairs of images [B, C, H, W], B >= 2, of the root-mean-square difference of their colours
    at 32 x 32 pixels.

    Near 0 when a generator has collapsed to one image."""
    images = rgb(images)
    if max(images.shape[-2:]) > SIZE:
        images = F.adaptive_avg_pool2d(images, SIZE)
    rows = images.clamp(-1, 1).flatten(1).cpu().double()  # Apple's GPUs have no float64
    return (torch.pdist(rows) / rows.shape[1] ** 0.5).mean().item()
