"""Drawing for the commands: pictures of codes, cropped, a few at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from .terminal import device_named, load_generator


class Drawer:
    """A Drawer is a loaded generator that draws. Raises CheckpointError, UsageError."""

    def __init__(self, file: str, device: str | None):
        self.generator, self.metadata, self.crop = load_generator(file, device_named(device))
        self.name = Path(file).name

    def images(self, ws, noise: str = "const", seeds: Sequence[int] | None = None, cameras=None) -> Iterator:
        """Draw images [n, C, H, W], about [-1, 1], of codes ws [N, num_ws, w_dim], a few at a time; of a generator that
        takes cameras as these see it (None: its usual one)."""
        from .. import stylegan

        stylegan.require_fitting(self.generator, ws)
        for images in stylegan.draw_codes(self.generator, ws, noise, seeds, cameras):
            yield images if self.crop is None else self.crop.apply(images)

    def pictures(self, ws, noise: str = "const", seeds: Sequence[int] | None = None, cameras=None) -> Iterator:
        """Draw Pillow pictures of codes."""
        from ..metrics.figures import to_pictures

        for images in self.images(ws, noise, seeds, cameras):
            yield from to_pictures(images)
