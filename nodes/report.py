"""What a training shows in the host while it runs."""

import logging
import time
from collections.abc import Mapping

from ..sds import Progress, TrainSettings
from ..sds.figures import sample_grid
from ..sds.out_of_memory import is_out_of_memory
from .adapter import progress_bar, raise_if_interrupted, show_text

logger = logging.getLogger(__name__)

PREVIEWS = 40  # previews over a whole run
PREVIEW_SAMPLES = 4


class Report:
    """Shows progress in the host: the bar with previews, and the time left on the node. Ends the run on cancel."""

    def __init__(self, settings: TrainSettings, node_id: str):
        self.bar = progress_bar(settings.steps)
        self.steps, self.crop, self.node_id = settings.steps, settings.crop, node_id
        self.notes: list[str] = []  # what stays on the node below the progress
        self.preview_every = max(1, settings.steps // PREVIEWS)
        self.began = self.shown = None

    def going_on(self, done: int, otherwise: str) -> None:
        """Say that the training goes on after `done` steps, and how to begin anew."""
        logger.info(
            "StyleGAN Fusion: going on from step %d of %d, where this training ended before (%s).",
            done,
            self.steps,
            otherwise,
        )
        self._note(f"went on from step {done}, where this training ended before ({otherwise})")

    def other_seeds(self, steps_by_seed: Mapping[int, int]) -> None:
        """Say that the same training with another seed waits to be gone on with, and how."""
        for seed, done in steps_by_seed.items():
            text = f"With seed {seed} this training ended at step {done}; give that seed to go on with it."
            logger.info("StyleGAN Fusion: %s", text)
            self._note(text)

    def ended(self, text: str) -> None:
        """What the node says after a training that ended early."""
        show_text(self.node_id, text)

    def __call__(self, progress: Progress) -> None:
        raise_if_interrupted()
        now = time.monotonic()
        if progress.warning:
            self._note(progress.warning)
        preview = None
        if progress.step % self.preview_every == 0 or progress.step == progress.steps:
            preview = self._preview(progress)
        self.bar.update_absolute(progress.step, progress.steps, preview)
        if self.began is None:  # the first step also loads and warms up: it does not tell how long the others take
            self.began = (progress.step, now)
        elif self.shown is None or now - self.shown > 1 or progress.step == progress.steps:
            pace = (now - self.began[1]) / (progress.step - self.began[0])
            left = _duration(pace * (progress.steps - progress.step))
            losses = ", ".join(f"{name} {value:.3g}" for name, value in progress.losses.items())
            self._show(f"step {progress.step} of {progress.steps}, {left} left\n{losses}")
            self.shown = now

    def _preview(self, progress: Progress):
        try:
            samples = progress.samples(PREVIEW_SAMPLES)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None  # a training that fits does not end for a look at it
        samples = samples if self.crop is None else self.crop.apply(samples)
        return "JPEG", sample_grid(samples, cell=256), None

    def _note(self, text: str) -> None:
        self.notes = [*self.notes, text][-3:]
        self._show("")

    def _show(self, text: str) -> None:
        show_text(self.node_id, "\n".join(part for part in (text, *self.notes) if part))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
