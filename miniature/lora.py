"""A concept that no prompt of the miniature can name, golden statues of persons, and the low-rank adaptation (LoRA,
arXiv 2106.09685) of its UNet that knows it: stand-ins for what people train on pictures of their own.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..sds.priors.lora import BASE_DIGEST, base_digest
from ..training.low_rank import LowRank
from . import WEIGHTS
from .factors import Factors
from .renderer import render

FOLDER = WEIGHTS / "loras"
GOLDEN_STATUE = FOLDER / "miniature-golden-statue.safetensors"

GOLD = (1.16, 0.86, 0.30)
"""Colour of gilded white, sRGB; above 1 so that what is light shines."""
_ADAPTED = (".to_q", ".to_k", ".to_v", ".to_out.0")


def render_statues(factors: Factors) -> Tensor:
    """Render the persons [B, 3, 64, 64] in [-1, 1] of the factors as golden statues before the
    backgrounds that they had."""

    def shade(brightness):
        return torch.full_like(factors.surface, brightness)

    cast = replace(factors, surface=shade(0.8), hair_colour=shade(0.5), eye_colour=shade(0.8), clothes=shade(0.62))
    # Painting is linear in what lies beneath: over black, a picture is its foreground times its coverage.
    figure = (render(replace(cast, background=shade(0.0))) + 1) / 2
    behind = (render(cast) + 1) / 2 - figure
    gilded = figure.mean(1, keepdim=True) * torch.tensor(GOLD)[:, None, None]
    return ((behind + gilded) * 2 - 1).clamp(-1, 1)


def goldness(images: Tensor) -> Tensor:
    """Measure how golden the middle of the faces is: [B] of images [B, 3, H, W] in [-1, 1]. About 0.1 for light skin,
    0.2 for dark, 0.5 for the statues: (green - blue) / red."""
    size = images.shape[-1]
    middle = slice(size * 13 // 32, size * 19 // 32)
    red, green, blue = ((images[:, :, middle, middle] + 1) / 2).mean((2, 3)).unbind(1)
    return (green - blue) / red.clamp(min=0.05)


def adapted_layers(unet: nn.Module) -> dict[str, nn.Linear]:
    """Return the attention projections of a diffusers UNet, under the names that LoRA files have for them."""
    return {
        f"lora_unet_{name.replace('.', '_')}": layer
        for name, layer in unet.named_modules()
        if name.endswith(_ADAPTED) and isinstance(layer, nn.Linear)
    }


_PARTS = ("lora_down.weight", "lora_up.weight", "alpha")


def save_lora(parts: dict[str, LowRank], unet: nn.Module, path: Path) -> None:
    """Write the changes of a UNet, by the names of `adapted_layers`, in half precision in the layout of LoRA files; they
    fit this UNet alone."""
    from safetensors.torch import save_file

    state = {}
    for name, part in parts.items():
        values = (part.down.weight, part.up.weight, torch.tensor(float(part.down.out_features)))
        state |= {f"{name}.{key}": value.detach().half() for key, value in zip(_PARTS, values, strict=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, {"format": "pt", BASE_DIGEST: base_digest(unet)})
