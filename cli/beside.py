"""The other processes of a command that torchrun started several times: they train beside the first one, which writes and
talks."""

from collections.abc import Callable
from typing import Any

from ..training.endings import PeerEnded, TrainingStopped
from .signals import stop_noted


def train_beside(train: Callable[[Callable[[Any], None]], object]) -> int:
    """Train beside the first process; the exit status. `train` is given what to call after each step."""
    with stop_noted() as request:
        try:
            train(lambda progress: request.raise_if_asked())
        except PeerEnded:  # the first process says why
            return 1
        except TrainingStopped as error:
            if not isinstance(error.__cause__, PeerEnded | KeyboardInterrupt):
                raise
            return 1
    return 0
