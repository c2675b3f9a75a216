"""LPIPS as a regularizer."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...metrics.lpips import Features, distance
from ...training.settings import setting
from .base import ImageTerm, View

LITTLE = 64
"""Pixels up to which a prior asks for weights some tens of times smaller."""


def usual_in_3d(image_size: int | None) -> float:
    """Return the weight for generators that draw in 3D where nothing is said of it, under a prior that sees pictures of
    this size; None: of one that is not known, such as Stable Diffusion's."""
    return PerceptualRegularizer.usual_in_3d if image_size is None or image_size > LITTLE else 2.0


@dataclass(frozen=True)
class PerceptualRegularizer(ImageTerm):
    """PerceptualRegularizer keeps what the images look like near the frozen generator's, by LPIPS.

    The method's official weight is 2000 times 0.3 to 1, for VGG with its calibration and a prior that sees 512 pixels.
    The gradient of SDS grows with the number of the latent's entries and that of LPIPS, a mean over the image, does
    not: a prior that sees 64 pixels asks for weights some tens of times smaller. Without the calibration, and with
    other features, distances are several times larger, and the weight that does the same so much smaller."""

    weight: float = setting(
        100.0,
        "Strength, for Stable Diffusion at 512 pixels. With VGG16 and its calibration the method used 600 to 2000; without "
        "the calibration, or with the features of the miniature, 60 to 200 does about the same. For the diffusion model of "
        "the miniature 1 to 3.",
        what="The lpips regularizer's weight",
        wants="give 0 or more",
        least=0,
        added_later=False,
        shown=(0.0, 100_000.0, 0.05),  # the page rounds to its step
    )
    features: Features | None = None  # the network that compares the images

    kind: ClassVar[str] = "lpips"
    title: ClassVar[str] = "How different from before, as it looks"
    usual_in_3d: ClassVar[float] = 100.0  # the method needs it there: without it surfaces come apart
    needs: ClassVar[frozenset[str]] = frozenset({"images", "frozen_images"})

    def __post_init__(self):
        super().__post_init__()
        if self.features is None:
            raise ValueError("LPIPS compares images by a network's features; give load_vgg's or the miniature's.")

    def distance(self, view: View) -> Tensor:
        """Return the LPIPS [B] of the images to the frozen generator's. The features go to their device and
        stay there until release()."""
        return distance(self.features, view.images, view.frozen_images)

    def release(self) -> None:
        self.features.to(torch.device("cpu"))
