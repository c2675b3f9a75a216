"""LPIPS, the perceptual distance of two images (Zhang et al., arXiv 1801.03924)."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 16
"""Pixels that each side of an image has at least for a network that halves it four times."""


class Features(Protocol):
    """Features are a network whose inner layers tell how alike two images are: a torch module whose weights take no
    gradient."""

    name: str  # for people
    image_size: int  # pixels that the longer side of an image has at most
    calibration: Sequence[Tensor] | None  # the metric's weight for each channel [C] of each layer; None: 1 for all

    def __call__(self, images: Tensor) -> list[Tensor]:
        """The layers [B, C, h, w] for images [B, 3, H, W] in [-1, 1]."""
        ...

    def to(self, device: torch.device) -> "Features": ...


def distance(features: Features, images: Tensor, others: Tensor) -> Tensor:
    """Return the LPIPS [B] of images to others, both [B, 3, H, W] in [-1, 1]; differentiable with respect to the first.
    The features go to the images' device and stay there."""
    there = features.to(images.device)
    with torch.no_grad():
        layers = unit_layers(there, others)
    return lpips(unit_layers(there, images), layers, there.calibration)


def unit_layers(features: Features, images: Tensor) -> list[Tensor]:
    """Return the layers [B, C, h, w], each of unit length over its channels, for images
    [B, 3, H, W] in [-1, 1] of any size."""
    return [F.normalize(layer, dim=1, eps=1e-10) for layer in features(reduced(images.float(), features.image_size))]


def lpips(layers: Sequence[Tensor], others: Sequence[Tensor], calibration: Sequence[Tensor] | None = None) -> Tensor:
    """Return eq. 1: the sum over layers of the mean over places of sum_c w_c (y_c - y'_c)^2, [B] from
    unit layers [B, C, h, w].

    calibration holds the paper's learned w [C] of each layer; without it w is 1, with which the paper begins (twice the
    cosine distance)."""
    total = 0
    for index, (y, other) in enumerate(zip(layers, others, strict=True)):
        difference = (y - other).square()
        if calibration is None:
            total = total + difference.sum(dim=1).mean(dim=(1, 2))
        else:
            weights = calibration[index].to(y.device)
            total = total + torch.einsum("bchw,c->bhw", difference, weights).mean(dim=(1, 2))
    return total


def reduced(images: Tensor, size: int) -> Tensor:
    """Reduce images [B, 3, H, W], by the mean over areas, to a longer side of at most `size` pixels and the shorter one
    in proportion, but of SMALLEST at least."""
    scale = min(1.0, size / max(images.shape[-2:]))
    wanted = [max(SMALLEST, round(side * scale)) for side in images.shape[-2:]]
    # Whole areas first, then bilinearly to the exact size: means over parts of pixels are not to be had on every device.
    whole = [side // goal for side, goal in zip(images.shape[-2:], wanted, strict=True)]
    if max(whole) > 1:
        images = F.avg_pool2d(images, [max(1, factor) for factor in whole])
    if list(images.shape[-2:]) != wanted:
        images = F.interpolate(images, wanted, mode="bilinear", align_corners=False)
    return images
