"""What is done to renders before a model sees them: damage that leaves a portrait, and disturbance that leaves none."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .factors import Factors


def damaged(images: Tensor, factors: Factors, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return images [B, 3, H, W] of which three in four are recoloured, blurred, rescaled, recompressed or noisy, and
    the background and surface colours [B, 3] as they look after recolouring."""

    def chance(p):
        return (torch.rand(len(images), generator=random) < p).float()[:, None]

    def normal(scale):
        return scale * torch.randn(len(images), 3, generator=random)

    recolour = chance(0.4)
    gain, offset = 1 + recolour * normal(0.12), recolour * normal(0.06)
    images = images * gain[:, :, None, None] + offset[:, :, None, None]

    def seen(colour):
        return (((colour * 2 - 1) * gain + offset).clamp(-1, 1) + 1) / 2

    images = torch.lerp(
        images, blurred(images, 2.0 * torch.rand(len(images), generator=random)), chance(0.5)[:, :, None, None]
    )
    small = F.interpolate(images, scale_factor=0.5, mode="area")
    images = torch.lerp(images, F.interpolate(small, scale_factor=2, mode="bilinear"), chance(0.15)[:, :, None, None])
    images = images.clamp(-1, 1)
    for i in torch.nonzero(chance(0.25)[:, 0])[:, 0].tolist():
        quality = int(torch.randint(15, 90, [1], generator=random))
        images[i] = recompressed(images[i], quality)
    noise = (
        torch.randn(images.shape, generator=random)
        * (chance(0.4) * 0.2 * torch.rand(len(images), 1, generator=random))[:, :, None, None]
    )
    return (images + noise).clamp(-1, 1), seen(factors.background), seen(factors.surface)


def disturbed(images: Tensor, random: torch.Generator) -> Tensor:
    """Return pictures [B, 3, H, W] beside the portraits, in [-1, 1]: two blended along a soft mask, some blurred, some
    with other contrast and colours, all stained. `random` draws what is done to each."""
    size = images.shape[-2:]

    def uniform():
        return torch.rand(len(images), 1, 1, 1, generator=random)

    def normal(*shape):
        return torch.randn(len(images), *shape, generator=random)

    def smooth(channels, cells):
        return F.interpolate(normal(channels, cells, cells), size, mode="bicubic")

    other = images[torch.randperm(len(images), generator=random)]
    mask = torch.sigmoid(3 * uniform() * smooth(1, 5) + normal(1, 1, 1))
    images = torch.lerp(other, images, mask)
    soft = blurred(images, 2 * torch.rand(len(images), generator=random))
    images = torch.where(uniform() < 0.6, soft, images)
    changed = (1 - 0.8 * uniform()) * (1 + 0.2 * normal(3, 1, 1)) * images + 0.25 * normal(3, 1, 1)
    images = torch.where(uniform() < 0.6, changed, images)
    return (images + 0.2 * uniform() * smooth(3, 8)).clamp(-1, 1)


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur images [B, C, H, W] by Gaussians of standard deviation sigma [B] pixels."""
    radius = 6
    x = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (x / sigma.clamp(min=0.05)[:, None]).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(images.shape[1], 0)
    flat = F.pad(images, [radius] * 4, mode="replicate").flatten(0, 1)[None]
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=len(kernel))
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=len(kernel))
    return flat[0].unflatten(0, images.shape[:2])


def recompressed(image: Tensor, quality: int) -> Tensor:
    """Return one image [3, H, W] in [-1, 1] after JPEG at `quality` (1 to 95)."""
    pixels = ((image + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    back = np.asarray(Image.open(buffer)).copy()
    return torch.from_numpy(back).permute(2, 0, 1).float() / 127.5 - 1
