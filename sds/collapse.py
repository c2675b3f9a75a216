"""Watching whether a generator's images become alike, and keeping what was there before."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..metrics.diversity import diversity
from ..training.history import History
from ..training.loop import Callback, Training
from ..training.saving import alike
from .settings import TrainSettings
from .snapshots import Snapshots

logger = logging.getLogger(__name__)


class ImagesAlike(Exception):
    """ImagesAlike ends a training whose images have become alike, where its settings say so."""


@dataclass
class CollapseWatch(Callback):
    """A CollapseWatch measures the diversity of samples from time to time, and keeps the latest weights that were not
    collapsed as the best ones: SDS has no loss that would rank states, but diversity tells the spoiled."""

    snapshots: Snapshots
    settings: TrainSettings
    best_step: int = 0
    best: list[Tensor] | None = None  # on the CPU, in the optimizer's order; None: those of the frozen generator
    collapsed_at: int | None = None  # the step at which the images were found alike in this run

    def begin(self, training: Training) -> None:
        if self._is_due(training) and training.step not in training.history.diversity:  # or where it was cut short
            self._measure(training)

    def after_step(self, training: Training) -> None:
        if self._is_due(training):
            training.warning = self._measure(training)

    def collapsed(self, history: History) -> bool:
        """Tell whether the samples had become alike when their diversity was last measured."""
        measured = history.diversity
        if not measured:
            return False
        return not measured[max(measured)] >= self.settings.collapse_threshold * measured.get(0, 0.0)

    def return_to_best(self, training: Training) -> None:
        """Forget what came after the best state: when a step was cut short while it was changing weights."""
        weights = self.snapshots.frozen_weights() if self.best is None else self.best
        self.snapshots.put_back(weights)
        training.step, training.history = self.best_step, training.history.until(self.best_step)

    def _is_due(self, training: Training) -> bool:
        return training.step % self.settings.diversity_every == 0 or training.step == training.steps

    def _measure(self, training: Training) -> str | None:
        """Note the samples' diversity, and the weights as the best ones unless they have collapsed; a warning when they
        just have."""
        history, collapsed_before = training.history, self.collapsed(training.history)
        found = diversity(self.snapshots.samples(self.settings.diversity_samples))
        history.measure("diversity", training.step, found)
        if not self.collapsed(history):
            if training.step > 0:
                self.best_step, self.best = training.step, self.snapshots.copied_weights()
            return None
        if collapsed_before:
            return None
        warning = (
            f"The images are becoming alike: at step {training.step} their diversity is {found / history.diversity[0]:.0%} of "
            "what it was before. Raise the weight of the directional regularizer, lower the guidance scale or the learning "
            "rate, select fewer layers, or stop earlier; the latest generator before this is kept, too."
        )
        logger.warning("StyleGAN Fusion: %s", warning)
        self.collapsed_at = training.step
        return warning

    def pack(self) -> tuple[dict[str, Tensor], dict]:
        return {str(index): weight for index, weight in enumerate(self.best or ())}, {"step": self.best_step}

    def unpack(self, tensors: dict[str, Tensor], notes: dict) -> Callable[[], None]:
        step, parameters = int(notes["step"]), self.snapshots.phase.parameters
        if not 0 <= step <= self.settings.steps or (step > 0) != bool(tensors):
            raise ValueError(f"the best weights of step {step}")
        best = (
            [alike(tensors, str(index), parameter) for index, parameter in enumerate(parameters)] if tensors else None
        )

        def take_over() -> None:
            self.best_step, self.best = step, best

        return take_over


@dataclass
class StopWhenCollapsed(Callback):
    """A StopWhenCollapsed ends a training with ImagesAlike at the step at which its watch finds the images alike."""

    watch: CollapseWatch

    def after_step(self, training: Training) -> None:
        if self.watch.collapsed_at == training.step < training.steps and self.watch.settings.when_collapsed == "stop":
            raise ImagesAlike(f"the images have become alike, and were not yet at step {self.watch.best_step}")
