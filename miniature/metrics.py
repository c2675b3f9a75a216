"""What pictures of the miniature world are judged by beside the classifier's distances: variety, fine detail, outlines.

The classifier reads soft pictures as gladly as sharp ones; what it is blind to is measured here from the pixels, in the
coordinates of the head that it finds."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .classifier import Readings
from .damage import blurred
from .factors import ACCESSORIES

_HAT = ACCESSORIES.index("hat")


def diversity(features: Tensor) -> float:
    """Return the mean Euclidean distance between two different rows of features [N, D]."""
    return torch.pdist(features.double()).mean().item()


def fine_details(images: Tensor) -> Tensor:
    """Return the mean square [N] of what a Gaussian blur of one pixel takes from images [N, 3, 64, 64]. Noise raises it,
    too."""
    parts = [(part - blurred(part, torch.ones(len(part)))).square().flatten(1).mean(1) for part in images.split(500)]
    return torch.cat(parts)


def fine_detail(images: Tensor) -> float:
    """Return the mean of `fine_details`."""
    return fine_details(images).mean().item()


def smeared(details: Tensor) -> float:
    """Return the share of pictures that have less than half the fine detail [N] of the middle one."""
    return (details < details.median() / 2).double().mean().item()


class Heads:
    """Heads are pictures [N, 3, 64, 64] in [-1, 1] seen in the coordinates of the head that the classifier reads in
    each."""

    def __init__(self, images: Tensor, readings: Readings):
        self.images = (images.clamp(-1, 1) + 1) / 2
        self.bare = readings.accessory.argmax(1) != _HAT  # whether no hat hides the top of the head
        self._place, self._size, self._tilt = readings.position, 0.95 * readings.size[:, 0], readings.pose[:, 0]
        self._turn = 0.11 * readings.pose[:, 1]
        corners = self.images[:, :, :3, [0, 1, 2, -3, -2, -1]].flatten(2).mean(2)
        self._background = corners / _vignette(torch.tensor([0.95, 0.95]))

    def at(self, x: float | Tensor, y: float | Tensor, turned: bool = False) -> Tensor:
        """Return the colours [N, K, 3] at K points of the head; `turned` points sit on the front of the face."""
        seen = F.grid_sample(
            self.images, self._places(x, y, turned)[:, :, None], align_corners=False, padding_mode="border"
        )
        return seen[..., 0].transpose(1, 2)

    def _places(self, x: float | Tensor, y: float | Tensor, turned: bool = False) -> Tensor:
        """The points in the coordinates of the picture, [N, K, 2]."""
        x, y = torch.as_tensor(x).reshape(1, -1), torch.as_tensor(y).reshape(1, -1)
        if turned:
            x = x + self._turn[:, None]
        cos, sin = self._tilt.cos()[:, None], self._tilt.sin()[:, None]
        across, down = (x * cos - y * sin), (x * sin + y * cos)
        return torch.stack([across, down], -1) * self._size[:, None, None] + self._place[:, None]

    def apart(self, x, y) -> Tensor:
        """Return how far the colours at K points are from the background, [N, K]."""
        background = self._background[:, None] * _vignette(self._places(x, y))[..., None]
        return (self.at(x, y) - background).abs().mean(2)

    def contrast(self, x: float, y: float, wide: float, high: float) -> Tensor:
        """Return the range of brightness [N] in a box on the front of the face, half as wide and high as said."""
        xs, ys = torch.meshgrid(
            torch.linspace(x - wide, x + wide, 7), torch.linspace(y - high, y + high, 5), indexing="ij"
        )
        bright = self.at(xs.flatten(), ys.flatten(), turned=True).mean(2)
        return bright.quantile(0.95, dim=1) - bright.quantile(0.05, dim=1)


def _vignette(places: Tensor) -> Tensor:
    """How bright the background is at places [..., 2] of a picture."""
    return 1.06 - 0.16 * places.square().sum(-1)


def _both(read: Callable[[int], Tensor]) -> Tensor:
    return read(-1) & read(1)


def pointed_ears(x: float, y: float) -> Callable[[Heads], Tensor]:
    """Make the reading that tells which heads [N] have two ears above the head: something at each place, and the
    background beside it."""

    def read(heads: Heads, side: int) -> Tensor:
        there = heads.apart([side * x, side * (x + 0.01)], [y, y + 0.08]).min(1).values
        beside = heads.apart([side * (x + 0.22), side * (x + 0.2)], [y, y - 0.12]).max(1).values
        return (there > 0.1) & (beside < 0.6 * there)

    return lambda heads: _both(lambda side: read(heads, side))


def square_head(heads: Heads) -> Tensor:
    """Tell which heads [N] reach into the corners of a box, where a round one leaves the background."""
    corners = heads.apart([-0.43, 0.43, -0.43, 0.43], [-0.40, -0.40, 0.46, 0.46])
    outside = heads.apart([-0.62, 0.62, -0.62, 0.62], [-0.34, -0.34, 0.42, 0.42]).max(1).values
    return (corners.min(1).values > 0.08) & (outside < corners.median(1).values)


def antenna(heads: Heads) -> Tensor:
    """Tell which heads [N] carry a ball on a rod: something at its height, and the background at both sides."""
    heights = torch.linspace(-0.92, -0.70, 8)
    ball = heads.apart(torch.zeros(8), heights)
    sides = torch.maximum(heads.apart(torch.full([8], -0.2), heights), heads.apart(torch.full([8], 0.2), heights))
    return ((ball > 0.12) & (sides < 0.5 * ball)).sum(1) >= 2


def open_eyes(x: float, y: float, wide: float, high: float, least: float = 0.3) -> Callable[[Heads], Tensor]:
    """Make the reading that tells which heads [N] have light and dark close together at both eyes."""
    return lambda heads: _both(lambda side: heads.contrast(side * x, y, wide, high) > least)


OUTLINES: dict[str, dict[str, Callable[[Heads], Tensor]]] = {
    "fox": {"ears": pointed_ears(0.40, -0.66), "eyes": open_eyes(0.23, -0.02, 0.11, 0.09)},
    "cat": {"ears": pointed_ears(0.44, -0.54), "eyes": open_eyes(0.24, -0.02, 0.13, 0.12)},
    "robot": {"square head": square_head, "antenna": antenna, "eyes": open_eyes(0.2, 0.0, 0.13, 0.13)},
    "zombie": {"eyes": open_eyes(0.19, 0.0, 0.13, 0.11)},
    "doll": {"eyes": open_eyes(0.21, 0.04, 0.15, 0.16)},
    "person": {"eyes": open_eyes(0.19, 0.0, 0.11, 0.08)},
}
"""What shows that a domain's outlines are there, by domain."""

BARE = frozenset({"antenna"})
"""Outlines that a hat hides."""


def shares(images: Tensor, readings: Readings, domain: str) -> dict[str, float]:
    """Return the share of pictures [N, 3, 64, 64] that show each outline of a domain; of those without a hat where it
    would hide that."""
    heads, found = Heads(images, readings), {}
    for name, read in OUTLINES[domain].items():
        shown = read(heads)
        found[name] = (shown[heads.bare] if name in BARE else shown).float().mean().item()
    return found
