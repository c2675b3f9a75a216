"""Stage 1: train the classifier on renders and on damaged copies of them."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .classifier import Classifier
from .factors import DOMAINS, Factors, sample_factors
from .renderer import render
from .resumable import save_weights, seeded, train

STEPS, BATCH = 3000, 64
_SEED = 101


def run(folder: Path, weights: Path, steps: int = STEPS) -> None:
    torch.manual_seed(_SEED)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)

    def step(i):
        random = seeded(_SEED, i)
        factors = sample_factors(BATCH, random)
        images, background, surface = damaged(render(factors), factors, random)
        loss, parts = _loss(model(images), factors, background, surface)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return parts

    train(folder, {"model": model, "optimizer": optimizer, "schedule": schedule}, step, steps)
    save_weights(model, weights / "classifier.safetensors", {"width": 32})


def _loss(seen, factors: Factors, background, surface):
    haired = torch.tensor([DOMAINS.index(name) for name in ("person", "zombie", "doll")])
    with_hair = torch.isin(factors.domain, haired)
    pose = torch.stack([factors.tilt / 0.26, factors.yaw], 1)
    face = torch.stack([(factors.eye_size - 1) / 0.25, factors.smile, factors.mouth_open], 1)
    parts = {
        "domain": F.cross_entropy(seen.domain, factors.domain),
        "hair": 0.5 * F.cross_entropy(seen.hair[with_hair], factors.hair[with_hair]),
        "accessory": 0.5 * F.cross_entropy(seen.accessory, factors.accessory),
        "background": 20 * F.mse_loss(seen.background, background),
        "surface": 10 * F.mse_loss(seen.surface, surface),
        "position": 40 * F.mse_loss(seen.position, torch.stack([factors.x, factors.y], 1)),
        "size": 20 * F.mse_loss(seen.size[:, 0], factors.size),
        "pose": F.mse_loss(seen.pose * torch.tensor([1 / 0.26, 1.0]), pose),
        "light": F.mse_loss(seen.light[:, 0], factors.light),
        "face": 0.5 * F.mse_loss((seen.face - torch.tensor([1.0, 0, 0])) * torch.tensor([4.0, 1, 1]), face),
    }
    return sum(parts.values()), {name: value.detach() for name, value in parts.items()}


def damaged(images: Tensor, factors: Factors, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images [B, 3, H, W] of which three in four are recoloured, blurred, rescaled, recompressed or noisy, and the
    background and surface colours [B, 3] as they look after recolouring."""

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


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Images [B, C, H, W] under Gaussians of standard deviation sigma [B] pixels."""
    radius = 6
    x = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (x / sigma.clamp(min=0.05)[:, None]).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(images.shape[1], 0)
    flat = F.pad(images, [radius] * 4, mode="replicate").flatten(0, 1)[None]
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=len(kernel))
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=len(kernel))
    return flat[0].unflatten(0, images.shape[:2])


def recompressed(image: Tensor, quality: int) -> Tensor:
    """One image [3, H, W] in [-1, 1] after JPEG at `quality` (1 to 95)."""
    pixels = ((image + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    back = np.asarray(Image.open(buffer)).copy()
    return torch.from_numpy(back).permute(2, 0, 1).float() / 127.5 - 1
