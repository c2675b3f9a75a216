"""What adapting a generator reports: while it runs, and at its end."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..stylegan import Generator
from ..training.history import History


@dataclass(frozen=True)
class Progress:
    """Progress is passed to the progress callback after every step. An exception that the callback
    raises ends the training."""

    step: int  # steps done
    steps: int  # steps in all
    losses: dict[str, float]  # as in StepRecord
    diversity: float | None  # when it was measured at this step
    layers: tuple[int, ...]  # W+ indices of the convolutions that were updated
    skipped: str | None  # what was not finite, when the step was skipped
    warning: str | None  # what the user should know, once it is known
    samples: Callable[[int], Tensor]
    """samples(count) renders [count, 3, R, R] on the CPU from the latents sample_z(z_dim, count, seed); costs
    nothing until it is called, and is meant to be called within the callback."""
    weights: Callable[[], dict[str, Tensor]]
    """weights() copies the trained parameters to the CPU, by their names in the generator; as `samples`."""
    history: History
    """Of the whole training, also of what was done before it was gone on with; not to be changed."""
    result: Callable[[], "TrainResult"]
    """result() copies the generator as it is now, and the best one; as `samples`."""


@dataclass(frozen=True)
class TrainResult:
    """A TrainResult is the trained generator (eval mode, on the device of the one it
    started from) and what happened."""

    generator: Generator
    history: History
    steps_done: int
    interrupted: bool = False  # ended before the last step
    best: Generator | None = None  # the latest one that was not collapsed; often the same weights
    best_step: int = 0  # steps done by then
