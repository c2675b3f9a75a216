"""Pictures cut as a generator's own are framed: a generator of faces draws eyes nearly always in one place, and finds no
latents for faces that stand elsewhere."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

Point = tuple[float, float]


@dataclass(frozen=True)
class Eyes:
    """Eyes are where both eyes of a face are, in pixels of its picture, x to the right and y down."""

    left: Point  # the one at the left of the picture
    right: Point

    def __post_init__(self):
        if math.dist(self.left, self.right) < 1:
            raise ValueError("Both eyes are in one place; give the middle of each.")

    @classmethod
    def parse(cls, text: str) -> "Eyes":
        """Read "x, y, x, y", in any order of the eyes. Raises ValueError with a sentence."""
        try:
            x, y, x2, y2 = map(float, text.replace(";", ",").split(","))
        except ValueError:
            raise ValueError(
                f"{text!r} does not say where both eyes are; give four numbers, x and y of each in pixels: 210, 180, 300, 176."
            ) from None
        if not all(map(math.isfinite, (x, y, x2, y2))):
            raise ValueError(f"{text!r} has a number that is not finite; give both eyes in pixels.")
        return cls(*sorted(((x, y), (x2, y2))))


@dataclass(frozen=True)
class Framing:
    """A Framing says where eyes are in a generator's pictures, as shares of their width and height."""

    eye_distance: float
    eye_height: float


FRAMINGS: Mapping[str, Framing] = {
    "FFHQ": Framing(0.246, 0.469),  # the mean of its aligned pictures, as face restorers have it
    "miniature": Framing(0.168, 0.5),  # of its renderer, at the mean size of a head
}
"""Framings by name. MetFaces and generators that were fine-tuned from FFHQ are framed as it is."""


def align(image: Tensor, eyes: Eyes, framing: Framing, size: tuple[int, int]) -> Tensor:
    """Return a picture [1, C, H, W] turned, scaled and cut to [1, C, *size], with its eyes where the framing has them.
    Beyond its edges the picture is mirrored."""
    (ax, ay), (bx, by) = eyes.left, eyes.right
    high, wide = size
    scale = math.dist(eyes.left, eyes.right) / (framing.eye_distance * wide)  # pixels of the picture for one of ours
    height, width = image.shape[-2:]
    if scale > 1:  # fewer pixels than there are: smoothed first, or fine lines would flicker
        shrunk = max(1, round(height / scale)), max(1, round(width / scale))
        image = F.interpolate(image, shrunk, mode="bicubic", antialias=True, align_corners=False)
    turned = math.atan2(by - ay, bx - ax)
    cos, sin = scale * math.cos(turned), scale * math.sin(turned)
    offset = (0.5 - framing.eye_height) * high
    x, y = (ax + bx) / 2 - offset * sin, (ay + by) / 2 + offset * cos
    # From our rectangle, whose coordinates are -1 to 1, into the picture's, which are -1 to 1 as well.
    theta = image.new_tensor(
        [
            [wide * cos / width, -high * sin / width, 2 * x / width - 1],
            [wide * sin / height, high * cos / height, 2 * y / height - 1],
        ]
    )
    grid = F.affine_grid(theta[None], [1, image.shape[1], *size], align_corners=False)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
