"""The session of a prior: its models are ready while a training runs, and have room on the device."""

from collections.abc import Callable
from typing import TypeVar

from ..training.memory import MemoryRequest

T = TypeVar("T")


class Session:
    """A Session keeps a prior's models where they are: they have been loaded for good."""

    makes_room = False
    """Whether `run` makes room for what a training takes beside the prior: counting that takes seconds."""

    def run(self, body: Callable[[], T], request: MemoryRequest) -> T:
        """Call body() with the models loaded and ready, clean up, and return its result. `request` says what body
        needs; its bytes only where the session `makes_room`."""
        return body()

    def release_memory(self) -> None:
        """Give back what is cached and unused, after memory has run out."""
