"""The loop: every training of the project is a list of phases that take turns in each step."""

import contextlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .allocator import keeping_freed_memory
from .draws import MicroStep
from .endings import RepeatedlySkipped
from .history import History, StepRecord
from .out_of_memory import MemoryPolicy, is_out_of_memory
from .parallel import ALONE, Alone
from .phases import Outcome, Phase


class Kept(Protocol):
    """Kept is whatever is saved with a training beside its phases."""

    def pack(self) -> tuple[dict[str, Tensor], dict]:
        """Return tensors, and notes in JSON's types."""
        ...

    def unpack(self, tensors: dict[str, Tensor], notes: dict) -> Callable[[], None]:
        """Return a function that takes over what was packed. Raises ValueError, LookupError
        or TypeError for nonsense."""
        ...


@dataclass
class Training:
    """A Training is where a list of phases stands: steps done and what happened. Random numbers are a function of
    (seed, step): nothing of them needs keeping."""

    phases: Sequence[Phase]
    steps: int
    seed: int = 0
    accumulation: int = 1  # batches of a step, of all processes together
    memory: MemoryPolicy | None = None  # None: memory that runs out ends the training
    kept: Mapping[str, Kept] = field(default_factory=dict)
    description: dict = field(default_factory=dict)  # what tells it from others, in JSON's types
    step: int = 0  # steps done
    history: History = field(default_factory=History)
    consistent: bool = True  # False while a step changes weights: what is between two steps must not be saved
    warning: str | None = None  # what people should know of the last step
    parallel: Alone = ALONE  # the processes that share the batches


class Callback:
    """A Callback does something between the steps of a training. What it raises ends the training."""

    def begin(self, training: Training) -> None:
        """Do what comes before the first step, or the first one after a break."""

    def after_step(self, training: Training) -> None:
        """Do what comes after every step."""


def fit(training: Training, callbacks: Sequence[Callback] = ()) -> None:
    """Train until the last step, whatever mode the caller is in. What ends it in one of its processes ends it in all.

    Raises ValueError where its processes do not train the same, or there are more of them than batches."""
    with recording_gradients(), keeping_freed_memory(_device(training)):
        _require_shares(training)
        try:
            for callback in callbacks:
                callback.begin(training)
            while training.step < training.steps:
                train_step(training)
                for callback in callbacks:
                    callback.after_step(training)
        except BaseException as error:
            if training.step < training.steps:  # after the last step nobody listens
                training.parallel.failed(error)
            raise


def _device(training: Training) -> torch.device:
    """Where it computes."""
    return next((one.device for phase in training.phases for one in phase.parameters), torch.device("cpu"))


def _require_shares(training: Training) -> None:
    parallel, batches = training.parallel, training.accumulation
    if batches < parallel.world:
        raise ValueError(
            f"A step has {batches} batch{'es' * (batches > 1)} for {parallel.world} processes; start fewer, or begin anew with "
            "more batches in each step (accumulation)."
        )
    parallel.require_same("settings, weights and steps done", f"{training.step} {_checksum(training.description)}")


def _checksum(description: dict) -> int:
    return zlib.crc32(json.dumps(description, sort_keys=True, default=str).encode())


def train_step(training: Training) -> StepRecord:
    """Let every phase compute and update. A phase that says its gradient is not
    finite changes no weight in the step."""
    step, losses, notes, skipped = training.step, {}, {}, None
    share = training.parallel.share(training.accumulation)
    training.warning, shared = None, [{} for _ in share]
    for phase in training.phases:
        for repeat in range(phase.repeats):
            given = zip(share, shared, strict=True)
            micro_steps = [MicroStep(training.seed, step, index, repeat, one) for index, one in given]
            outcome = _updated(training, phase, micro_steps)
            losses, notes, skipped = losses | outcome.losses, notes | outcome.notes, skipped or outcome.skipped
    training.consistent = False
    record = StepRecord(step + 1, losses, notes, skipped)
    training.step += 1
    training.history.records.append(record)
    training.consistent = True
    return record


def _updated(training: Training, phase: Phase, micro_steps: Sequence[MicroStep]) -> Outcome:
    """What a phase computed, without the gradients: its weights have moved along them."""

    parallel = training.parallel

    def compute() -> Outcome:
        before = [set(micro_step.shared) for micro_step in micro_steps]
        try:
            outcome = phase.compute(micro_steps)
            phase.reserve(outcome)
            return parallel.agreed(outcome, phase.parameters, len(micro_steps))
        except Exception as error:
            if is_out_of_memory(error):  # computed again; whatever else ends the training is said by `fit`
                parallel.failed(error)
            for micro_step, known in zip(micro_steps, before, strict=True):
                for name in micro_step.shared.keys() - known:
                    del micro_step.shared[name]
            raise

    outcome = training.memory.attempt(compute, training.step) if training.memory else compute()
    if not outcome.skipped:
        training.consistent = False
        phase.update(outcome, training.step)
    return Outcome({}, outcome.losses, outcome.notes, outcome.skipped)


@dataclass
class SkipLimit(Callback):
    """A SkipLimit ends a training when so many steps in a row were skipped, with RepeatedlySkipped."""

    limit: int

    def after_step(self, training: Training) -> None:
        if training.history.skipped_in_a_row >= self.limit:
            raise RepeatedlySkipped


@contextlib.contextmanager
def recording_gradients() -> Iterator[None]:
    """Make tensors normal ones and record gradients in the body, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
