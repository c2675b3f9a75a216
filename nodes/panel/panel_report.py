"""What a training shows on the panel of its node."""

import io
import logging
import math
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from ...metrics.colours import rgb
from ...metrics.figures import sample_grid
from ...stylegan import Crop
from ...training.out_of_memory import handle_out_of_memory
from .moments import how_many
from .panel import RUNNING, Ended, Panel
from .report import PREVIEW_SAMPLES, Made, Progress, Report
from .running_node import RunningNode

logger = logging.getLogger(__name__)

CELL = 512
"""Pixels of each sample in the panel's pictures, at most: a click shows it large."""

SHARE = 0.015
"""Of the training's time, what the panel may take; the first and the last moment, taken in any case, stay within 2 %."""


class PanelReport(Report):
    """A PanelReport writes a panel in place of the node's text and previews, and ends the training when its user
    asks."""

    def __init__(
        self,
        steps: int,
        node: RunningNode,
        panel: Panel,
        crop: Crop | None = None,
        targets: Tensor | None = None,
        every: int | None = None,
    ):
        super().__init__(steps, node, crop, every)
        self.panel, self.targets = panel, targets  # of the samples that are shown, [N, 3, H, W]
        self.spent, self.moment_seconds = 0.0, []  # of the panel in all, of each moment
        self.last_moment = 0

    def before(self, images: Tensor) -> None:
        images = images[:PREVIEW_SAMPLES]
        self.panel.lay_out(len(images), 1 if self.targets is None else 2)
        self.panel.take_moment(0, self.picture_of(images), {})

    def show(self, progress: Progress, now: float) -> None:
        self.bar.update_absolute(progress.step, progress.steps)
        last = progress.step == progress.steps
        try:
            self.panel.raise_if_asked()
        except Ended:
            self._take_moment(progress)
            self._publish(progress, now)
            raise
        if last or progress.step - self.last_moment >= self._interval(progress, now):
            self._take_moment(progress)
        if last or self.is_due(now):
            self._publish(progress, now)
        self.spent += time.monotonic() - now

    def show_refreshing(self, made: Made, now: float) -> None:
        self.panel.raise_if_asked()
        for row, target in zip(made.rows, made.targets, strict=True):
            if self.targets is not None and row < len(self.targets):
                self.targets[row] = target
        if self.is_due(now):
            self.panel.publish(RUNNING, refreshing=[made.done, made.count])
            self.shown = now

    def note(self, text: str) -> None:
        self.panel.note(text)

    def warn(self, text: str) -> None:
        self.panel.warn(text)
        self.panel.publish(RUNNING)

    def ended(self, status: str, text: str, step: int) -> None:
        if text:
            self.panel.note(text)
        self.panel.publish(status, step=step, seconds_left=None, refreshing=None)

    def _interval(self, progress: Progress, now: float) -> float:
        """Return the steps from one moment to the next: those that the training's time has room for are spread over
        what is left."""
        if self.every is not None:
            return self.every
        seconds = self.seconds_per_step(progress.step, now)
        if seconds is None:
            return math.inf
        if not self.moment_seconds:
            return self.picture_every
        # The cheapest so far: the first one warms up, and any may have met a busy machine.
        affordable = (SHARE * seconds * (self.steps - self.began[0]) - self.spent) / min(self.moment_seconds)
        if affordable < 1:
            return math.inf
        spread = (self.steps - self.last_moment) / affordable
        if len(self.moment_seconds) == 1:
            spread = min(spread, self.steps / 8)  # soon known better
        return max(self.picture_every, spread)

    def _take_moment(self, progress: Progress) -> None:
        start = time.monotonic()
        try:
            weights = progress.weights()
            self.picture_every = max(1, self.steps // how_many(weights))
            self.panel.take_moment(progress.step, self.picture_of(progress.samples(PREVIEW_SAMPLES)), weights)
        except Exception as error:
            if not (handle_out_of_memory(error) or isinstance(error, OSError)):
                raise
            # A training that fits does not end for a look at it.
            logger.warning("StyleGAN Fusion: the moment after %d steps is not kept (%s).", progress.step, error)
        self.last_moment = progress.step
        self.moment_seconds.append(time.monotonic() - start)

    def _publish(self, progress: Progress, now: float) -> None:
        seconds = self.seconds_per_step(progress.step, now)
        left = seconds and seconds * (progress.steps - progress.step)
        self.panel.follow(progress.history)
        self.panel.publish(RUNNING, step=progress.step, seconds_per_step=seconds, seconds_left=left, refreshing=None)
        self.shown = now

    def picture_of(self, images: Tensor) -> bytes:
        """Return samples [N, img_channels, H, W] as a JPEG in one row, their targets below them where there are any."""
        images = rgb(images if self.crop is None else self.crop.apply(images))
        columns, file = len(images), io.BytesIO()
        if self.targets is not None:
            below = F.interpolate(self.targets[:columns], images.shape[-2:], mode="bilinear", antialias=True)
            images = torch.cat([images, below])
        sample_grid(images, columns=columns, cell=CELL).save(file, "JPEG", quality=85)
        return file.getvalue()
