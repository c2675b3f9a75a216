"""What a training asks of the node that it runs in."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class ProgressBar(Protocol):
    """A ProgressBar shows on the node how far it is."""

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        """Show that `value` of `total` steps are done; a preview is ("JPEG", picture, size or None)."""


class RunningNode(Protocol):
    """A RunningNode is the node that trains while its host runs it, with what the host does for it."""

    def progress_bar(self, steps: int) -> ProgressBar:
        """Make the node's progress bar."""

    def show_text(self, text: str) -> None:
        """Show a text on the node, in place of the one before."""

    def raise_if_interrupted(self) -> None:
        """Raise an exception when the user has pressed cancel."""

    def is_interruption(self, error: BaseException | None) -> bool:
        """Tell whether an error is that exception."""

    def unload_models(self) -> None:
        """Move the host's models off the device."""

    def retry_without_models(self, body: Callable[[], T]) -> T:
        """Call body(), and where memory runs out once more, when the host's models are out of the way."""
