"""The images' side of a CLIP of the host: a differentiable copy of its CLIP vision model.

The host keeps the weights as inference tensors, and adds in place to what a layer normalization has read, which no
gradient passes."""

from functools import cached_property

import torch
from torch import Tensor, nn

from ...metrics.clip import DEVIATION, MEAN, ImageEncoder
from .device import load
from .encoder import mixed, plain_copy


class HostClipVision:
    """A HostClipVision stands for the copy of a CLIP_VISION, which is made for each training and goes with it."""

    def __init__(self, clip_vision):
        self.clip_vision = clip_vision

    @cached_property
    def digest(self) -> str:
        return self.copied().digest

    def copied(self) -> ImageEncoder:
        """Copy the model to the CPU in float32, once the host has loaded its weights. Raises ValueError for one that does
        not embed an image as a whole."""
        load(self.clip_vision.patcher)
        with torch.inference_mode(False):
            given = self.clip_vision
            model = plain_copy(given.model, torch.device("cpu"))
            for module in model.modules():
                if isinstance(module, nn.LayerNorm):
                    module.__class__ = mixed(_OfACopy, type(module))
            mean, deviation = getattr(given, "image_mean", MEAN), getattr(given, "image_std", DEVIATION)
            return ImageEncoder(model, getattr(given, "image_size", 224), mean, deviation, _image_embeds)


class _OfACopy:
    """_OfACopy is mixed into a layer normalization, and lets it keep a copy of what it reads for the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.clone())


def _image_embeds(output: tuple) -> Tensor:
    return output[2]
