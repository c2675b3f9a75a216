"""What a training shows while it runs: on its panel in panel_report.py, here on nodes without one."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from ...metrics.figures import sample_grid
from ...stylegan import Crop
from ...training.history import History
from ...training.out_of_memory import handle_out_of_memory
from .panel import FAILED
from .running_node import RunningNode

logger = logging.getLogger(__name__)

PREVIEWS = 40  # previews over a whole run
PREVIEW_SAMPLES = 4


class Progress(Protocol):
    """Progress is what a training of any kind tells after each step."""

    step: int  # steps done
    steps: int  # steps in all
    losses: Mapping[str, float]
    warning: str | None
    history: History

    def samples(self, count: int) -> Tensor:
        """Draw [count, channels, H, W] with what would come out now."""

    def weights(self) -> dict[str, Tensor]:
        """Return copies of what was trained, for going back; none where they take too much."""


class Made(Protocol):
    """Made is what making something between two steps tells after every few."""

    done: int
    count: int
    rows: Sequence[int]  # those made last, of all that there are
    targets: Tensor  # [B, channels, H, W]


class Report:
    """A Report shows the bar with previews, and the time left as a text on the node. Ends the run on cancel.

    crop: what counts of the samples. every: the steps from one look at the samples to the next; None: as it suits."""

    def __init__(self, steps: int, node: RunningNode, crop: Crop | None = None, every: int | None = None):
        self.bar = node.progress_bar(steps)
        self.steps, self.crop, self.node, self.every = steps, crop, node, every
        self.notes: list[str] = []  # what stays on the node below the progress
        self.picture_every = every or max(1, steps // PREVIEWS)
        self.began = self.shown = None
        self.heard = 0.0  # when something was told last
        self.between = 0.0  # seconds in all for what was made between steps

    def going_on(self, done: int, otherwise: str) -> None:
        """Say that the training goes on after `done` steps, and how to begin anew."""
        logger.info(
            "StyleGAN Fusion: going on from step %d of %d, where this training ended before (%s).",
            done,
            self.steps,
            otherwise,
        )
        self.note(f"went on from step {done}, where this training ended before ({otherwise})")

    def other_seeds(self, steps_by_seed: Mapping[int, int]) -> None:
        """Say that the same training with another seed waits to be gone on with, and how."""
        for seed, done in steps_by_seed.items():
            text = f"With seed {seed} this training ended at step {done}; give that seed to go on with it."
            logger.info("StyleGAN Fusion: %s", text)
            self.note(text)

    def __call__(self, progress: Progress) -> None:
        self.node.raise_if_interrupted()
        now = time.monotonic()
        if progress.warning:
            self.warn(progress.warning)
        if self.began is None:  # the first step also loads and warms up: it does not tell how long the others take
            self.began = (progress.step, now)
        self.show(progress, now)
        self.heard = time.monotonic()

    def refreshing(self, made: Made) -> None:
        """Show how far the making of targets is between two steps. Ends the run on cancel."""
        self.node.raise_if_interrupted()
        now = time.monotonic()
        if self.began is not None:  # else a training goes on there
            self.between += now - self.heard
        self.heard = now
        self.show_refreshing(made, now)

    def before(self, images: Tensor) -> None:
        """Take up what was drawn before training, [B, channels, H, W]."""

    def show(self, progress: Progress, now: float) -> None:
        """Show where the training is. now: seconds of a clock."""
        picture = None
        if progress.step % self.picture_every == 0 or progress.step == progress.steps:
            picture = self._picture(progress)
        self.bar.update_absolute(progress.step, progress.steps, picture)
        seconds = self.seconds_per_step(progress.step, now)
        if seconds is not None and (self.is_due(now) or progress.step == progress.steps):
            left = _duration(seconds * (progress.steps - progress.step))
            losses = ", ".join(f"{name} {value:.3g}" for name, value in progress.losses.items())
            self._write(f"step {progress.step} of {progress.steps}, {left} left\n{losses}")
            self.shown = now

    def show_refreshing(self, made: Made, now: float) -> None:
        """Show how far the making of targets is. now: seconds of a clock."""
        if self.is_due(now):
            self._write(f"refreshing targets: {made.done} of {made.count}")
            self.shown = now

    def note(self, text: str) -> None:
        """Put a sentence below the progress, where it stays with the two before it."""
        self.notes = [*self.notes, text][-3:]
        self._write("")

    def warn(self, text: str) -> None:
        """Show a warning."""
        self.note(text)

    def ended(self, status: str, text: str, step: int) -> None:
        """Say how the training ended, after how many steps. What failed, the host says by itself."""
        if text and status != FAILED:
            self.node.show_text(text)

    def is_due(self, now: float) -> bool:
        """Tell whether the last look is a second ago."""
        return self.shown is None or now - self.shown > 1

    def seconds_per_step(self, step: int, now: float) -> float | None:
        """Return how long a step takes; None until two steps have been seen."""
        first, start = self.began
        return (now - start - self.between) / (step - first) if step > first else None

    def _picture(self, progress: Progress):
        try:
            samples = progress.samples(PREVIEW_SAMPLES)
        except Exception as error:
            if not handle_out_of_memory(error):
                raise
            return None  # a training that fits does not end for a look at it
        samples = samples if self.crop is None else self.crop.apply(samples)
        return "JPEG", sample_grid(samples, cell=256), None

    def _write(self, text: str) -> None:
        self.node.show_text("\n".join(part for part in (text, *self.notes) if part))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
