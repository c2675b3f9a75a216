"""The panels of all nodes."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..sentences import sentence
from .page import Page
from .panel import Panel
from .reruns import Reruns

KEPT = 4
"""Panels whose last training is remembered."""


class Panels:
    """Panels finds the panel of each node by its key, which is random and saved with the workflow.

    `folder()` is where moments are kept; asked when a panel is made, for the host may change it as it starts."""

    def __init__(self, page: Page, folder: Callable[[], Path]):
        self._page, self._folder = page, folder
        self._reruns = Reruns()
        self._panels: OrderedDict[str, Panel] = OrderedDict()

    def get(self, key: str) -> Panel | None:
        """Return the panel with this key, when a training has used it lately."""
        return self._panels.get(key)

    def open(self, key: str) -> Panel | None:
        """Return the panel with this key, made at its first use; None for no key, as in graphs that no page has
        sent."""
        if not key or not isinstance(key, str):
            return None
        panel = self._panels.pop(key, None) or Panel(key, self._page, self._folder(), self._reruns)
        self._panels[key] = panel
        while len(self._panels) > KEPT:
            self._panels.popitem(last=False)[1].moments.clear()
        return panel

    def fingerprint(self, key: str, inputs: Mapping[str, Any]) -> str:
        """Return what differs whenever the node with this panel must run again, as `Reruns.fingerprint`."""
        return self._reruns.fingerprint(key, inputs)

    @contextmanager
    def showing_refusals(self, key: str) -> Iterator[None]:
        """Tell on the panel with this key what keeps a run from training at all; it goes on showing the training
        before."""
        try:
            yield
        except Exception as error:
            panel = self.get(key) if isinstance(key, str) else None
            if panel and panel.state:
                panel.note(f"The last run did not train: {sentence(error)}")
                panel.publish(panel.state["status"])
            raise
