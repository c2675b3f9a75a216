"""How a training can end before its last step."""

from typing import Any


class TrainingStopped(Exception):
    """A training ended early; `result` holds what was trained so far."""

    def __init__(self, message: str, result: Any):
        super().__init__(message)
        self.result = result


class TrainingInterrupted(TrainingStopped):
    """An exception ended the training after at least one step; it is the `__cause__` of this one."""


class TrainingOutOfMemory(TrainingStopped):
    """A step does not fit into memory, even in the smallest pieces."""


class TrainingDiverged(TrainingStopped):
    """Too many steps in a row had a non-finite gradient; the weights are the last good ones."""


class NoMemoryLeft(Exception):
    """A step does not fit into memory, even in the smallest pieces; the message says what to change."""


class RepeatedlySkipped(Exception):
    """Too many steps in a row were skipped."""


class PeerEnded(Exception):
    """Another process of a training that several share ended it, or is gone."""


class PeerOutOfMemory(MemoryError):
    """Memory ran out in another process of a training: the step is computed again, in smaller pieces."""


class PeerSkipped(Exception):
    """Another process of a training that several share skips the step; the message says what was not finite."""
