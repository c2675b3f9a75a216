"""Images in the common space of a CLIP (arXiv 2103.00020), so that gradients reach them."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..training.digests import weights_digest
from ..training.memory import LiveBytes, tensor_bytes

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""What the pixels of CLIP's training had, where a model says nothing else."""


class ImageEncoder(nn.Module):
    """An ImageEncoder takes images [B, 3, H, W] in [-1, 1] to CLIP's embeddings [B, D] in float32, by the square in the
    middle of each. Gradients pass through to the images; the weights take none."""

    def __init__(
        self,
        model: nn.Module,  # takes pixel_values [B, 3, side, side], normalized
        side: int,
        mean: Sequence[float] = MEAN,
        deviation: Sequence[float] = DEVIATION,
        embeddings: Callable[[Any], Tensor] = lambda output: output.image_embeds,  # of what the model returns
    ):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.side, self.embeddings = side, embeddings
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(tuple(deviation)).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        pixels = (middle_square((images.float().clamp(-1, 1) + 1) / 2, self.side) - self.mean) / self.deviation
        return self.embeddings(self.model(pixel_values=pixels)).float()

    @cached_property
    def digest(self) -> str:
        """Return what tells the model from others: a digest of its weights."""
        return weights_digest(self.model)

    def copied(self) -> "ImageEncoder":
        """Return the encoder that a training may move to its device: this one."""
        return self

    def memory(self, images: Tensor) -> tuple[int, int]:
        """Count the bytes that embedding `images` on the meta device takes, with gradients: those of the weights, and
        what forward and backward pass take beyond."""
        weights = {name: value.to("meta") for name, value in self.state_dict().items()}
        weights |= {name: value.to("meta") for name, value in self.named_buffers()}
        with torch.enable_grad(), LiveBytes() as live:
            images = images.detach().requires_grad_()
            embedded = torch.func.functional_call(self, weights, (images,))
            torch.autograd.grad(embedded, images, torch.empty_like(embedded))
        return tensor_bytes(self.state_dict().values()), live.peak


def middle_square(images: Tensor, side: int) -> Tensor:
    """Return the square in the middle of images [B, 3, H, W] in [0, 1], as [B, 3, side, side]."""
    scale = side / min(images.shape[-2:])
    size = [max(side, round(length * scale)) for length in images.shape[-2:]]
    if list(images.shape[-2:]) != size:
        images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((length - side) // 2 for length in size)
    return images[..., top : top + side, left : left + side]
