"""Fine detail of pictures: what blur takes from them."""

import torch.nn.functional as F
from torch import Tensor


def fine_part(images: Tensor) -> Tensor:
    """Return what a blur of about one pixel takes from images [B, C, H, W]: small beside colours, and what soft pictures
    lack."""
    line = images.new_tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(images.shape[1], 1, 3, 3)
    return images - F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=images.shape[1])


def fine_detail(images: Tensor) -> Tensor:
    """Return the mean square [B] of the fine part of images [B, C, H, W]."""
    return fine_part(images).square().flatten(1).mean(1)
