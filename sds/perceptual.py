"""The perceptual regularizer."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..metrics.lpips import Features, lpips, unit_layers
from .regularizers import check_weight


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
