"""One training as a panel shows it, in memory and on disk."""

import contextlib
import json
import logging
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ...training.files import write_atomically, write_tensors
from ...training.history import History
from ...training.history_tensors import describe_history, pack_history, unpack_history
from .moments import Moments

logger = logging.getLogger(__name__)

RUNNING, FINISHED, STOPPED, CANCELLED, FAILED = "running", "finished", "stopped", "cancelled", "failed"
INTERRUPTED = "interrupted"
"""The status of a training whose host ended meanwhile."""

NOTES = "training.json"
HISTORY = "history.safetensors"


@dataclass(frozen=True)
class About:
    """About says what a training is, for recognizing it and for people."""

    training: str = ""  # what tells it from others
    of_any_length: str = ""  # the same for trainings that differ by their number of steps alone
    generator: str = ""  # a digest of what it started from
    prompt: str = ""
    details: Mapping[str, str] = field(default_factory=dict)  # its settings in words, by their names for people
    metadata: Mapping[str, str] = field(default_factory=dict)  # of files that come of it
    titles: Mapping[str, str] = field(default_factory=dict)  # what its curves show, by the names of losses
    source: str = "generator"  # what it started from


class ShownTraining:
    """A ShownTraining is one training as its panel shows it; it is kept in `folder`, which is its own, so that it is found
    again when the host starts anew."""

    def __init__(self, folder: Path, panel: str, about: About | None = None):
        self.folder, self.panel, self.about = folder, panel, about or About()
        self.moments = Moments(folder)
        self.history = History()
        self.state: dict[str, Any] = {}
        self.result: int | None = None  # the moment that the node passes on, once it has one
        self.began = time.time()

    @classmethod
    def new(cls, home: Path, panel: str, about: About | None = None) -> "ShownTraining":
        """Make one with a folder of its own in `home`. Random: two hosts may share the folder."""
        return cls(home / secrets.token_hex(12), panel, about)

    @classmethod
    def found(cls, folder: Path) -> "ShownTraining":
        """Take up what an earlier run of the host has left. Raises ValueError where that is damaged, OSError."""
        try:
            notes = json.loads((folder / NOTES).read_text("utf-8"))
            known = {name: value for name, value in notes["about"].items() if name in About.__dataclass_fields__}
            shown = cls(folder, notes["panel"], About(**known))
            shown.state, shown.result, shown.began = notes["state"], notes["result"], float(notes["began"])
            if not isinstance(shown.state, dict) or not isinstance(shown.panel, str):
                raise ValueError("no state")
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{folder / NOTES} is damaged ({error}).") from error
        shown.moments = Moments.found(folder, str(notes.get("version") or ""))
        shown.state["training"] = shown.moments.version
        with contextlib.suppress(OSError, SafetensorError, LookupError, TypeError, ValueError):
            shown.history = _history(folder / HISTORY)
        if shown.state.get("status") == RUNNING:
            shown.state |= {"status": INTERRUPTED, "seconds_left": None}
        return shown

    @property
    def saved_state(self) -> Path:
        """Where the whole training is kept once it has finished, so that it can be trained further."""
        return self.folder / "finished.safetensors"

    @property
    def status(self) -> str:
        """How the training is, or how it ended; "" before it began."""
        return self.state.get("status", "")

    @property
    def can_train_more(self) -> bool:
        """Whether a finished training can be given further steps."""
        return self.status == FINISHED and self.saved_state.exists()

    @property
    def bytes(self) -> int:
        """What it takes on disk."""
        try:
            return sum(path.stat().st_size for path in self.folder.iterdir())
        except OSError:
            return 0

    def keep(self) -> None:
        """Write what is shown, so that it is found again. A full disk is no reason to end a training."""
        notes = {"panel": self.panel, "about": asdict(self.about), "result": self.result, "began": self.began}
        notes["version"] = self.moments.version
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / NOTES, json.dumps({**notes, "state": self.state}).encode())
            described = {"history": json.dumps(describe_history(self.history))}
            path = self.folder / HISTORY
            path.unlink(missing_ok=True)
            write_tensors(path, pack_history(self.history), described)
        except OSError as error:
            logger.warning("StyleGAN Fusion: the panel's training is not kept in %s (%s).", self.folder, error)

    def put_by(self) -> None:
        """Let another training take its place: what can be gone back to is its result alone, or where it ended."""
        kept = self.result if self.result is not None else max(self.moments.steps, default=0)
        self.moments.thin({kept})
        with contextlib.suppress(OSError):
            self.saved_state.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove all of it."""
        self.moments.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def summary(self) -> dict[str, Any]:
        """Describe it in a list of trainings, for JSON."""
        shown = ("status", "step", "steps")
        return {
            "training": self.moments.version,
            "prompt": self.about.prompt,
            "details": dict(self.about.details),
            "moment": self.result if self.result is not None else max(self.moments.steps, default=None),
            "began": self.began,
            **{name: self.state.get(name) for name in shown},
        }


def _history(path: Path) -> History:
    """Read the history that `keep` wrote. Raises OSError, SafetensorError, LookupError, TypeError, ValueError."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return unpack_history(tensors, json.loads((file.metadata() or {})["history"]))
