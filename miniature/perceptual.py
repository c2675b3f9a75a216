"""Features for the perceptual regularizer: the miniature's own, so that nothing needs to be downloaded."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..metrics.lpips import Features
from ..stylegan.feature_files import load_vgg
from .classifier import load_classifier


class MiniatureFeatures(nn.Module):
    """MiniatureFeatures are the stem and the stages of the miniature's classifier, which has learned
    from drawings of 64 pixels: images [B, 3, H, W] in [-1, 1], of 16 pixels at least, to four layers
    from H/2 to H/16. Not calibrated."""

    name = "features of the miniature"
    image_size = 64
    calibration = None

    def __init__(self):
        super().__init__()
        self.classifier = load_classifier()

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.classifier.layers(images)


@torch.inference_mode(False)  # a host may load within inference mode, whose tensors could never be differentiated
def load_features(path: str | Path) -> Features:
    """Load VGG16 from a file, see `load_vgg`, or the bundled features when `path` is "miniature". On the CPU.

    Raises CheckpointError when the file cannot be used."""
    return MiniatureFeatures() if str(path) == "miniature" else load_vgg(path)
