"""Where the trainings of all panels are kept, and how many of them."""

import logging
from pathlib import Path

from .shown import NOTES, ShownTraining

logger = logging.getLogger(__name__)

EARLIER = 8
"""Trainings of one node that are kept beside its latest."""

TOTAL_BYTES = 6 * 2**30
"""What all trainings of all nodes may take on disk: of the oldest first the weights go, then the pictures, too."""


class Shelf:
    """A Shelf keeps trainings in `home`, each in a folder of its own."""

    def __init__(self, home: Path):
        self.home = home

    def of_panel(self, key: str) -> list[ShownTraining]:
        """Find the trainings of the panel with this key, the latest first."""
        return [shown for shown in self._all() if shown.panel == key]

    def make_room(self, busy: ShownTraining) -> None:
        """Remove the oldest trainings while all of them take more than they may; never the one that is `busy`."""
        others = [shown for shown in self._all() if shown.folder != busy.folder]
        total = busy.bytes + sum(shown.bytes for shown in others)
        for act in (ShownTraining.put_by, ShownTraining.forget):
            for shown in reversed(others):
                if total <= TOTAL_BYTES:
                    return
                before = shown.bytes
                act(shown)
                total -= before - shown.bytes

    def _all(self) -> list[ShownTraining]:
        """All trainings that can be read, the latest first."""
        found = []
        try:
            folders = [notes.parent for notes in self.home.glob(f"*/{NOTES}")]
        except OSError:
            return []
        for folder in folders:
            try:
                found.append(ShownTraining.found(folder))
            except (OSError, ValueError) as error:
                logger.debug("StyleGAN Fusion: a training of a panel is left out (%s).", error)
        return sorted(found, key=lambda shown: shown.began, reverse=True)
