"""What counts of a generator's pictures: of many that were trained on other proportions, what is between black bars."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..metrics.colours import rgb
from .networks import Generator
from .sampling import render_samples, sample_z

_SAMPLES = 4
_BLACK = -0.9  # brighter pixels, on a scale from -1 to 1, belong to the picture
_GRID = 64  # bars are whole 64ths of a side, as those of every known data set


@dataclass(frozen=True)
class Crop:
    """A Crop is the middle of a generator's pictures. Raises ValueError when a side is no whole number above 0."""

    width: int  # pixels
    height: int

    def __post_init__(self):
        for side in (self.width, self.height):
            if type(side) is not int or side < 1:
                raise ValueError(f"A crop of {self.width} x {self.height} has no pixels; write for example 512x384.")

    @classmethod
    def parse(cls, text: str) -> "Crop":
        """Make a crop from "512x384", as it stands in metadata. Raises ValueError when the text is anything else."""
        sides = text.strip().lower().split("x")
        if len(sides) != 2 or not all(side.strip().isdecimal() and len(side) < 6 for side in sides):
            raise ValueError(f"{text!r} is no crop; write width and height in pixels, for example 512x384.")
        return cls(*(int(side) for side in sides))

    def __str__(self):
        return f"{self.width}x{self.height}"

    def apply(self, images: Tensor) -> Tensor:
        """Return the middle [.., height, width] of images [.., H, W]; what is larger than the images stays whole."""
        top = max(0, (images.shape[-2] - self.height) // 2)
        left = max(0, (images.shape[-1] - self.width) // 2)
        return images[..., top : top + self.height, left : left + self.width]


def picture_size(generator: Generator, crop: Crop | None = None) -> tuple[int, int]:
    """Return width and height in pixels of what counts of a generator's pictures."""
    if crop is None:
        return generator.width, generator.height
    return min(crop.width, generator.width), min(crop.height, generator.height)


def find_crop(generator: Generator) -> Crop | None:
    """Find what is between the black bars, equal and on two opposite sides, that the generator draws in every picture;
    None when it draws none. StyleGAN2's LSUN cars, 512 x 384 in a square of 512, are the best-known ones."""
    height, width = generator.height, generator.width
    bright = torch.zeros(height, width, dtype=torch.bool)
    for z in sample_z(generator.z_dim, _SAMPLES, seed=0).split(1):  # one at a time: mostly the first one tells
        images = render_samples(generator, z, truncation_psi=0.7, noise="none")
        bright |= rgb(images).clamp(-1, 1).amax(dim=(0, 1)) > _BLACK
        high, wide = _between_bars(bright.any(dim=1)), _between_bars(bright.any(dim=0))
        if (high < height) == (wide < width):  # none, or a picture on a black ground
            return None
    return Crop(wide, high)


def _between_bars(bright: Tensor) -> int:
    """Length of the middle of a row of flags [N] that leaves out equal dark ends, in whole 64ths; N without any."""
    length = len(bright)
    unit = max(1, length // _GRID)
    places = torch.nonzero(bright).flatten()
    if len(places) == 0:
        return length
    bar = min(places[0].item(), length - 1 - places[-1].item()) // unit * unit
    return length - 2 * bar if bar >= length // 16 else length
