"""What a training reports: while it runs, at its end, and when it ends early."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ..stylegan import Generator


@dataclass(frozen=True)
class StepRecord:
    """What happened in one step."""

    step: int  # counted from 1
    t: float  # the timestep, as a fraction of the schedule
    losses: dict[str, float] = field(default_factory=dict)  # mean squared difference of each term; empty if skipped
    layers: tuple[int, ...] = ()  # W+ indices of the convolutions that were updated; empty if skipped
    skipped: str | None = None  # what was not finite, when the step was skipped


@dataclass
class History:
    """The records of all steps, and the diversity at the steps where it was measured (0: before training)."""

    records: list[StepRecord] = field(default_factory=list)
    diversity: dict[int, float] = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        """How many steps were skipped because of a non-finite gradient."""
        return sum(record.skipped is not None for record in self.records)

    @property
    def terms(self) -> list[str]:
        """Names of the terms, "sds" first."""
        return list(dict.fromkeys(name for record in self.records for name in record.losses))

    def until(self, step: int) -> "History":
        """What it was after this many steps."""
        return History(self.records[:step], {at: value for at, value in self.diversity.items() if at <= step})

    def series(self, term: str) -> tuple[list[int], list[float]]:
        """Steps and losses of one term, without the skipped steps."""
        kept = [record for record in self.records if term in record.losses]
        return [record.step for record in kept], [record.losses[term] for record in kept]


@dataclass(frozen=True)
class Progress:
    """Passed to the progress callback after every step. An exception that the callback raises ends the training."""

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
    """The trained generator (eval mode, on the device of the one it started from) and what happened."""

    generator: Generator
    history: History
    steps_done: int
    interrupted: bool = False  # ended before the last step
    best: Generator | None = None  # the latest one that was not collapsed; often the same weights
    best_step: int = 0  # steps done by then


class TrainingStopped(Exception):
    """A training ended early; `result` holds the generator as trained so far."""

    def __init__(self, message: str, result: TrainResult):
        super().__init__(message)
        self.result = result


class TrainingInterrupted(TrainingStopped):
    """An exception ended the training after at least one step; it is the `__cause__` of this one."""


class TrainingOutOfMemory(TrainingStopped):
    """A step does not fit into memory, even in the smallest pieces."""


class TrainingDiverged(TrainingStopped):
    """Too many steps in a row had a non-finite gradient; the weights are the last good ones."""
