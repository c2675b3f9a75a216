"""LPIPS, the perceptual distance of two images (Zhang et al., arXiv 1801.03924), and the regularizer made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .regularizers import check_weight

SMALLEST = 16
"""Pixels that each side of an image has at least for a network that halves it four times."""


class Features(Protocol):
    """A network whose inner layers tell how alike two images are: a torch module whose weights take no gradient."""

    name: str  # for people
    image_size: int  # pixels that the longer side of an image has at most
    calibration: Sequence[Tensor] | None  # the metric's weight for each channel [C] of each layer; None: 1 for all

    def __call__(self, images: Tensor) -> list[Tensor]:
        """The layers [B, C, h, w] for images [B, 3, H, W] in [-1, 1]."""
        ...

    def to(self, device: torch.device) -> "Features": ...


@dataclass(frozen=True)
class PerceptualRegularizer:
    """Keeps what the images look like near the frozen generator's.

    The method's official weight is 2000 times 0.3 to 1, for VGG with its calibration and a prior that sees 512 pixels.
    The gradient of SDS grows with the number of the latent's entries and that of LPIPS, a mean over the image, does not:
    a prior that sees 64 pixels asks for weights some tens of times smaller. Without the calibration, and with other
    features, distances are several times larger, and the weight that does the same so much smaller."""

    weight: float
    features: Features

    name: ClassVar[str] = "lpips"

    def __post_init__(self):
        check_weight(self)

    def distance(self, images: Tensor, frozen_images: Tensor) -> Tensor:
        """LPIPS [B] of images to frozen_images, both [B, 3, H, W] in [-1, 1]; differentiable with respect to the first.
        The features go to the images' device and stay there until release()."""
        features = self.features.to(images.device)
        with torch.no_grad():
            frozen = unit_layers(features, frozen_images)
        return lpips(unit_layers(features, images), frozen, features.calibration)

    def release(self) -> None:
        """Take the features back to the CPU, when a training ends: others may hold on to them for long."""
        self.features.to(torch.device("cpu"))


def unit_layers(features: Features, images: Tensor) -> list[Tensor]:
    """The layers [B, C, h, w], each of unit length over its channels, for images [B, 3, H, W] in [-1, 1] of any size."""
    return [F.normalize(layer, dim=1, eps=1e-10) for layer in features(reduced(images.float(), features.image_size))]


def lpips(layers: Sequence[Tensor], others: Sequence[Tensor], calibration: Sequence[Tensor] | None = None) -> Tensor:
    """Eq. 1: the sum over layers of the mean over places of sum_c w_c (y_c - y'_c)^2, [B] from unit layers [B, C, h, w].

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
    """Images [B, 3, H, W], by the mean over areas, with the longer side of at most `size` pixels and the shorter one in
    proportion, but of SMALLEST at least."""
    scale = min(1.0, size / max(images.shape[-2:]))
    wanted = [max(SMALLEST, round(side * scale)) for side in images.shape[-2:]]
    # Whole areas first, then bilinearly to the exact size: means over parts of pixels are not to be had on every device.
    whole = [side // goal for side, goal in zip(images.shape[-2:], wanted, strict=True)]
    if max(whole) > 1:
        images = F.avg_pool2d(images, [max(1, factor) for factor in whole])
    if list(images.shape[-2:]) != wanted:
        images = F.interpolate(images, wanted, mode="bilinear", align_corners=False)
    return images
