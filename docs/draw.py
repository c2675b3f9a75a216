"""Draws docs/icon.png and docs/banner.png in the miniature's world: one head, half person and half fox, and persons
beside the foxes that they become. Run it by hand: python docs/draw.py"""

import dataclasses
from pathlib import Path

import torch
from comfyui_stylegan_fusion.miniature.factors import HAIR_STYLES, sample_factors
from comfyui_stylegan_fusion.miniature.renderer import render
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
ICON, BANNER = 400, (1260, 540)
BLUE, WHITE = (0.28, 0.44, 0.80), (255, 255, 255)


def colour(*values: float) -> torch.Tensor:
    return torch.tensor([values])


def heads(seed: int, **chosen) -> list[Image.Image]:
    """One portrait as a person and as a fox, 1600 pixels wide; `chosen` factors in place of drawn ones."""
    pictures = []
    for domain, surface in (("person", colour(0.97, 0.82, 0.72)), ("fox", colour(0.92, 0.47, 0.14))):
        factors = sample_factors(1, torch.Generator().manual_seed(seed), domain, plain=True)
        factors = dataclasses.replace(factors, surface=surface, **chosen)
        (pixels,) = render(factors, 4 * ICON).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
        pictures.append(Image.fromarray(pixels))
    return pictures


def joined(left: Image.Image, right: Image.Image, size: int) -> Image.Image:
    """The left half of one picture beside the right half of another, and a line between them."""
    picture, middle = left.copy(), left.width // 2
    picture.paste(right.crop((middle, 0, right.width, right.height)), (middle, 0))
    width = left.width // 100
    ImageDraw.Draw(picture).rectangle((middle - width, 0, middle + width, left.height), fill=WHITE)
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def straight(seed: int, background: tuple[float, float, float], hair: str) -> list[Image.Image]:
    zero, one = torch.zeros(1), torch.ones(1)
    return heads(
        seed,
        background=colour(*background),
        x=zero,
        y=zero - 0.04,
        size=one * 0.98,
        tilt=zero,
        yaw=zero,
        light=zero,
        hair=torch.tensor([HAIR_STYLES.index(hair)]),
        eye_size=one * 1.15,
        smile=one * 0.6,
        mouth_open=zero,
        accessory=torch.tensor([0]),
    )


def banner() -> Image.Image:
    """Four persons, the foxes that they become, and a head that is half of each in the middle."""
    picture = Image.new("RGB", BANNER, WHITE)
    tile = BANNER[1] // 2
    for row, seeds in enumerate(((3, 5), (8, 11))):
        for column, seed in enumerate(seeds):
            person, fox = heads(seed)
            for side, portrait in enumerate((person, fox)):
                left = column * (tile * 2 // 3) + side * (BANNER[0] - 2 * (tile * 2 // 3))
                small = portrait.resize((tile, tile), Image.Resampling.LANCZOS)
                picture.paste(small.crop((tile // 6, 0, tile // 6 + tile * 2 // 3, tile)), (left, row * tile))
    picture.paste(joined(*straight(1, BLUE, "short"), BANNER[1]), ((BANNER[0] - BANNER[1]) // 2, 0))
    return picture


if __name__ == "__main__":
    joined(*straight(1, BLUE, "short"), ICON).save(HERE / "icon.png", optimize=True)
    banner().save(HERE / "banner.png", optimize=True)
