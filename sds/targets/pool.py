"""The pairs that a generator is trained on: codes, and the pictures that it shall draw from them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ...stylegan import Draw, Generator
from ...training.digests import tensors_digest
from ...training.draws import MicroStep
from ..draws import draw_rows


@dataclass(frozen=True)
class Made:
    """Made is how far the making of targets is."""

    done: int
    count: int
    rows: list[int]  # of all targets, those that were made last
    samples: Tensor  # [B, 3, H, W] in [-1, 1]: what was edited for them
    targets: Tensor  # [B, 3, H, W], what became of it


class Refresher(Protocol):
    """A Refresher makes targets anew, of what a generator draws by then."""

    every: int  # steps of the training
    share: float  # of the targets

    def __call__(self, generator: Generator, pool: "Targets", progress: Callable[[Made], None] | None = None) -> Tensor:
        """Return the pictures [K, 3, H, W], in bytes, that stand in the place of a pool's. `progress` is called after every
        few and may raise to end it."""
        ...


@dataclass(frozen=True)
class Targets:
    """Targets are K codes and as many pictures. Raises ValueError where they do not fit together."""

    codes: Tensor  # W+ [K, num_ws, w_dim] in float32
    images: Tensor  # [K, 3, H, W] in bytes, as pictures have them
    refresher: "Refresher | None" = None  # what makes them anew while a generator is trained; None: they stay

    cameras: Tensor | None = None  # [K, 25], of a generator that takes them: what each picture is seen by

    def __post_init__(self):
        if len(self.codes) != len(self.images):
            raise ValueError(f"There are {len(self.codes)} codes and {len(self.images)} pictures; give one for each.")
        if len(self.codes) < 2:
            raise ValueError("A generator is trained towards at least 2 targets; give more.")

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows) -> "Targets":
        cameras = None if self.cameras is None else self.cameras[rows]
        return Targets(self.codes[rows], self.images[rows], self.refresher, cameras)

    def draw(self, rows: Tensor | slice = slice(None)) -> Draw:
        """Return what their pictures are rendered from."""
        return Draw(self.codes[rows], cameras=None if self.cameras is None else self.cameras[rows])

    @property
    def side(self) -> int:
        """Return the longer side of the pictures in pixels."""
        return max(self.images.shape[-2:])

    @cached_property
    def name(self) -> str:
        """Return what tells them from others: a digest of codes and pictures."""
        seen = [] if self.cameras is None else [("cameras", self.cameras)]
        return tensors_digest([("codes", self.codes), ("images", self.images), *seen])

    def pictures(self, rows: Tensor | slice, device: torch.device) -> Tensor:
        """Return pictures [B, 3, H, W] in [-1, 1] on a device."""
        return to_unit(self.images[rows]).to(device)

    def rows(self, micro_step: MicroStep, count: int, accumulation: int) -> Tensor:
        """Draw the rows [count] of a batch. All come once before any comes again, in another order each time."""
        return draw_rows(micro_step, count, accumulation, len(self), "targets")


def to_bytes(images: Tensor) -> Tensor:
    """Return images in [-1, 1] as bytes, on the CPU."""
    return images.detach().cpu().add(1).mul(127.5).round().clamp(0, 255).byte()


def to_unit(images: Tensor) -> Tensor:
    """Return bytes as images in [-1, 1]."""
    return images.float().div(127.5).sub(1)
