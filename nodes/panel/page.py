"""What a panel asks of the page that shows it."""

from collections.abc import Mapping
from typing import Any, Protocol


class Page(Protocol):
    """A Page shows panels, and runs graphs with trainings."""

    def show(self, event: str, state: Mapping[str, Any]) -> None:
        """Send a panel's state, for JSON, to the page that runs the graph, as a message of the kind `event`."""

    def prompt_id(self) -> str:
        """Return what names the run of the graph that is under way; "" where nothing does."""
