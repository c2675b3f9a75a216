"""How different images are from each other."""

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 32
"""Side in pixels of the images that are compared."""


def diversity(images: Tensor) -> float:
    """Return the mean over all pairs of images [B, 3, R, R], B >= 2, of their root-mean-square difference at 32 pixels.

    Near 0 when a generator has collapsed to one image."""
    if images.shape[-1] > SIZE:
        images = F.adaptive_avg_pool2d(images, SIZE)
    rows = images.clamp(-1, 1).flatten(1).cpu().double()  # Apple's GPUs have no float64
    return (torch.pdist(rows) / rows.shape[1] ** 0.5).mean().item()
