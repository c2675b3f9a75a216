"""The terminal, or what stands in its place: when it breaks, the command goes on without it."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, TextIO


class Display:
    """A Display writes to a stream for as long as that works: to a pipe that was closed, a full device or a terminal
    that is gone nothing more is written, and nobody hears of it."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._broken = False

    def write(self, text: str) -> int:
        if not self._broken:
            try:
                self._stream.write(text)
            except (OSError, ValueError):  # ValueError: it was closed
                self._break()
        return len(text)

    def flush(self) -> None:
        if not self._broken:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._break()

    def _break(self) -> None:
        self._broken = True
        # What is still in the stream's buffer would raise once more, when Python ends.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unbreakable_display() -> Iterator[None]:
    """Put a Display before standard output and errors in the body."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # for those that were closed from the beginning
        sys.stdout, sys.stderr = (Display(stream or nowhere) for stream in before)
        try:
            for stream in before:  # on Windows a pipe may lack letters that are in file names
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="replace")
            yield
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            sys.stdout, sys.stderr = before


def displayed(command: Callable[..., int]) -> Callable[..., int]:
    """Let a command write to an `unbreakable_display`."""

    @wraps(command)
    def run(*arguments, **options) -> int:
        with unbreakable_display():
            return command(*arguments, **options)

    return run
