"""Draws the portrait that the template adapt_my_photo starts from, miniature/portrait.jpg: a person of the miniature as a
photo would have one, small, tilted and off the middle. Run it by hand: python docs/draw_portrait.py"""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.miniature.factors import ACCESSORIES, sample_factors
from comfyui_stylegan_fusion.miniature.renderer import render
from PIL import Image

PATH = Path(__file__).parents[1] / "miniature" / "portrait.jpg"
SEED = 11
SQUARE, DRAWN = 800, 1600  # pixels of the whole drawing, and before it is made smaller, which softens its edges
LEFT, TOP, RIGHT, BOTTOM = 200, 60, 680, 640  # what the photo shows of it


def portrait() -> Image.Image:
    """Draw it."""
    factors = sample_factors(1, torch.Generator().manual_seed(SEED), "person", plain=True)
    chosen = {"x": 0.22, "y": -0.22, "size": 0.5, "tilt": -0.2, "yaw": 0.2, "smile": 0.8, "mouth_open": 0.1}
    factors = replace(factors, **{name: torch.tensor([value]) for name, value in chosen.items()})
    factors = replace(factors, accessory=torch.tensor([ACCESSORIES.index("none")]))
    drawn = F.interpolate(render(factors, DRAWN), (SQUARE, SQUARE), mode="bicubic", antialias=True)[0]
    pixels = ((drawn.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
    return Image.fromarray(pixels.numpy()).crop((LEFT, TOP, RIGHT, BOTTOM))


if __name__ == "__main__":
    portrait().save(PATH, quality=92)
    print(f"{PATH}: {PATH.stat().st_size} bytes")
