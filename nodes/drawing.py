"""Drawing with generators, for several nodes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from comfy_api.v0_0_2 import io

from ..stylegan import Crop, Generator, render_samples


def to_image(images: torch.Tensor, crop: Crop | None = None) -> torch.Tensor:
    """What counts of images [B, 3, R, R] in [-1, 1], as the host's IMAGE [B, H, W, 3] in [0, 1]."""
    images = images if crop is None else crop.apply(images)
    return (images.clamp(-1, 1) + 1).div(2).movedim(1, -1).float().cpu()


def render_on(device, generator: Generator, z: torch.Tensor, *options) -> torch.Tensor:
    """`render_samples` on `device`; the generator goes back to where it was."""
    with at(device, generator):
        return render_samples(generator, z, *options)


@contextmanager
def at(device, generator: Generator) -> Iterator[None]:
    home = next(generator.parameters()).device
    generator.to(device)
    try:
        yield
    finally:
        generator.to(home)


def class_number(class_index: int) -> int | None:
    """The nodes' number of a class, -1 for none in particular."""
    return None if class_index < 0 else class_index


def class_input() -> io.Int.Input:
    return io.Int.Input(
        "class_index",
        optional=True,  # came later: graphs saved before it stay valid
        default=-1,
        min=-1,
        max=65535,
        tooltip="For generators with classes (CIFAR-10 has 0 to 9): the one to draw. -1 takes all classes. Others ignore -1.",
    )
