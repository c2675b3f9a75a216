"""The panels of all nodes."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..sentences import sentence
from .page import Page
from .panel import RUNNING, Panel
from .reruns import Reruns
from .shelf import Shelf

KEPT = 4
"""Panels that are held in memory; others are read from disk again."""


class Panels:
    """Panels finds the panel of each node by its key, which is random and saved with the workflow.

    `folder()` is where trainings are kept; asked when a panel is made, for the host may change it as it starts."""

    def __init__(self, page: Page, folder: Callable[[], Path]):
        self._page, self._folder = page, folder
        self._reruns = Reruns()
        self._panels: OrderedDict[str, Panel] = OrderedDict()

    def get(self, key: str) -> Panel | None:
        """Return the panel with this key, when there is a training of it in memory or on disk."""
        if key not in self._panels:
            shelf = Shelf(self._folder())
            if found := shelf.of_panel(key):
                self._hold(Panel(key, self._page, shelf, self._reruns, found))
        return self._panels.get(key)

    def open(self, key: str) -> Panel | None:
        """Return the panel with this key, made at its first use; None for no key, as in graphs that no page has
        sent."""
        if not key or not isinstance(key, str):
            return None
        panel = self.get(key) or Panel(key, self._page, Shelf(self._folder()), self._reruns)
        self._hold(panel)
        return panel

    def fingerprint(self, key: str, inputs: Mapping[str, Any]) -> str:
        """Return what differs whenever the node with this panel must run again, as `Reruns.fingerprint`. Each run that
        begins may have solved what kept the last one from training."""
        if panel := self._panels.get(key):
            panel.solved()
        return self._reruns.fingerprint(key, inputs)

    @contextmanager
    def showing_refusals(self, key: str) -> Iterator[None]:
        """Tell on the panel with this key what keeps a run from training at all; it goes on showing the training
        before."""
        panel = self.get(key) if isinstance(key, str) else None
        try:
            yield
        except Exception as error:
            if panel and panel.state:
                panel.refuse(f"The last run did not train: {sentence(error)}")
            raise
        if panel and panel.state:
            panel.solved()

    def _hold(self, panel: Panel) -> None:
        """Hold a panel in memory as the one that was used last, and let go of others, but of none that trains: the page
        asks the one that the training writes."""
        self._panels[panel.key] = panel
        self._panels.move_to_end(panel.key)
        idle = [one for one in self._panels.values() if one is not panel and one.state.get("status") != RUNNING]
        for oldest in idle[: max(0, len(self._panels) - KEPT)]:
            del self._panels[oldest.key]
            if not oldest.state:  # it showed no training that could be found again
                oldest.moments.clear()
