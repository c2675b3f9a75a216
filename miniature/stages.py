"""What the trainings of the miniature's models share: each is one training of phases that goes on where it was stopped."""

import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from ..training.loop import Callback, Training, fit
from ..training.phases import Phase
from ..training.ramps import Ramp
from ..training.saving import SavedTraining, Saving

log = logging.getLogger(__name__)


def seeded(*numbers: int) -> torch.Generator:
    """Make a CPU random generator that is a function of the numbers (a stage's seed and a step)."""
    generator = torch.Generator()
    value = 0
    for number in numbers:
        value = (value * 1_000_003 + number + 1) % (2**63)
    return generator.manual_seed(value)


def run_stage(folder: Path, phases: Sequence[Phase], steps: int, save_every: float = 60.0, log_every: int = 50) -> None:
    """Train up to `steps`, from where folder/state.safetensors stands, which is written every `save_every` seconds."""
    training = Training(phases, steps, description={"stage": folder.name, "steps": steps})
    saved = SavedTraining(folder / "state.safetensors")
    if saved.restore(training):
        log.info("%s: going on at step %d of %d", folder.name, training.step, steps)
    if training.step < steps:
        fit(training, [Saving(saved, save_every), _Logging(folder.name, log_every)])


class _Logging(Callback):
    """Logs the mean losses and the pace."""

    def __init__(self, name: str, every: int):
        self.name, self.every = name, every

    def begin(self, training: Training) -> None:
        self.start, self.began = training.step, time.monotonic()

    def after_step(self, training: Training) -> None:
        if training.step % self.every == 0:
            pace = (time.monotonic() - self.began) / (training.step - self.start)
            records = training.history.records[-self.every :]
            means = {
                term: round(sum(record.losses.get(term, 0.0) for record in records) / len(records), 4)
                for term in training.history.terms
            }
            log.info("%s %d/%d (%.2f s a step) %s", self.name, training.step, training.steps, pace, means)


def one_cycle(peak: float, steps: int, rise: float = 0.3) -> Ramp:
    """Return a ramp: half a cosine up from a 25th of `peak` over the first share of the steps, and
    half a one down to nothing."""
    top = rise * steps - 1

    def rate(step: int) -> float:
        start, end, done = (
            (peak / 25, peak, step / top) if step <= top else (peak, 0.0, (step - top) / (steps - 1 - top))
        )
        return end + (start - end) / 2 * (1 + math.cos(math.pi * min(1.0, done)))

    return rate


def edge_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of horizontal and vertical differences of images, at
    full, half and quarter size."""
    loss = a.new_zeros(())
    for _ in range(3):
        loss = loss + F.l1_loss(a.diff(dim=-1), b.diff(dim=-1)) + F.l1_loss(a.diff(dim=-2), b.diff(dim=-2))
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return loss


def save_weights(module: nn.Module, path: Path, config: dict | None = None) -> None:
    """Write the parameters and buffers in half precision as safetensors, `config` as JSON metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    save_file(state, path, {"config": json.dumps(config), "format": "pt"} if config else {"format": "pt"})
