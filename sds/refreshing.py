"""Targets that are made anew while a generator is trained towards them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..training.loop import Callback, Training
from .snapshots import Snapshots
from .targets.pool import Made, Targets


@dataclass
class RefreshedTargets(Callback):
    """RefreshedTargets replaces the pictures of a pool after every so many steps by what its refresher makes of the
    generator in training. They are saved with the training, which goes on with them."""

    pool: Targets
    snapshots: Snapshots
    progress: Callable[[Made], None] | None = None  # called after every few; may raise to end the training
    refreshed: int = 0  # the step after which the pictures were made that are there; 0: before the training

    def begin(self, training: Training) -> None:
        self._refresh(training)  # where the training ended while they were made

    def after_step(self, training: Training) -> None:
        self._refresh(training)

    def _refresh(self, training: Training) -> None:
        every = self.pool.refresher.every
        if training.step // every > self.refreshed // every and training.step < training.steps:
            self.pool.images.copy_(self.pool.refresher(self.snapshots.generator, self.pool, self.progress))
            self.refreshed = training.step

    def pack(self) -> tuple[dict[str, Tensor], dict]:
        return ({"images": self.pool.images} if self.refreshed else {}), {"step": self.refreshed}

    def unpack(self, tensors: dict[str, Tensor], notes: dict) -> Callable[[], None]:
        step, images = int(notes["step"]), tensors.get("images")
        if (images is None) != (step == 0) or (images is not None and images.shape != self.pool.images.shape):
            raise ValueError("its targets do not fit")

        def take_over() -> None:
            self.refreshed = step
            if images is not None:
                self.pool.images.copy_(images)

        return take_over
