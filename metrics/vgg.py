"""VGG16, the network of the LPIPS metric (arXiv 1409.1556)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
"""Channels before, between and after the convolutions of each block."""

# Mean and standard deviation of ImageNet's colours in [0, 1], which the network was trained with.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG16(nn.Module):
    """VGG16 takes images [B, 3, H, W] in [-1, 1], of 16 pixels at least, to the layers relu1_2, relu2_2,
    relu3_3, relu4_3, relu5_3.

    weights are those of the convolutions, under torchvision's names; calibration those of the metric's linear layers
    [C] in the same order. Gradients pass through to the images."""

    image_size = 256

    def __init__(self, weights: Mapping[str, Tensor], calibration: Sequence[Tensor] | None = None):
        super().__init__()
        with torch.device("meta"):
            self.features = vgg_layers()
        self.load_state_dict(weights, assign=True)
        self.calibration = calibration
        mean, deviation = torch.tensor(_MEAN), torch.tensor(_DEVIATION)
        self.register_buffer("mean", (2 * mean - 1).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", (2 * deviation).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @property
    def name(self) -> str:
        return "VGG16 without calibration" if self.calibration is None else "VGG16 with calibration"

    def forward(self, images: Tensor) -> list[Tensor]:
        x, outputs = (images - self.mean) / self.deviation, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):  # what goes into one is the end of a block
                outputs.append(x)
            x = layer(x)
        return [*outputs, x]


def vgg_layers() -> nn.Sequential:
    """Make VGG16's convolutions and poolings, untrained."""
    layers = []
    for number, channels in enumerate(BLOCKS):
        layers += [nn.MaxPool2d(2)] if number else []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
