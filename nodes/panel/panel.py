"""The panel on a training node: what the page shows of a training, and what is asked of it there."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...sds import History
from .binned import Binned
from .moments import Moments
from .page import Page
from .reruns import Reruns

POINTS = 400
"""Points of a curve on the page, at most: more than a node has pixels."""

COLUMNS = 120
"""Columns of the map of layers, at most."""

EVENT = "stylegan_fusion.panel"
"""The websocket message that carries a panel's state."""

RUNNING, FINISHED, STOPPED, CANCELLED, FAILED = "running", "finished", "stopped", "cancelled", "failed"


class Ended(Exception):
    """Ended is raised where the panel's user ends the training. step: the moment to keep; None: now."""

    def __init__(self, step: int | None):
        super().__init__("ended from the panel")
        self.step = step


class Panel:
    """A Panel is the latest training of one node on one page; it keeps moments of it in `folder`.

    The training writes it in the host's worker; the host's server reads `state` and `moments`, and calls the methods
    that ask for something."""

    def __init__(self, key: str, page: Page, folder: Path, reruns: Reruns):
        self.key, self._page, self._reruns = key, page, reruns
        self.inputs = ""  # of the node, when its training began
        self.training = ""  # what tells the training from others
        self.state: dict[str, Any] = {}
        self.moments = Moments(folder)
        self.history = History()
        self.result: int | None = None  # the moment that the node passes on, once it has one
        self._ending: list[int | None] = []  # the moment to keep, when the end was asked for
        self._wanted: tuple[str, int | None] | None = None  # a training, and the moment to give or None to train on
        self._mark_before = ""  # of the node's runs, before that was asked for
        self._prompt = ""  # the run of the graph
        self._several = False  # trainings in one run of the graph

    def begin(self, training: str, steps: int, layers: int, done: int) -> None:
        """Show another training, or the one that is shown as it goes on after `done` steps."""
        self._note_run(training)
        self._ending, self._wanted, self.result = [], None, None
        self._curves, self._diversity, self._map = Binned(POINTS), Binned(POINTS), Binned(COLUMNS)
        self._seen, self._measured, self._notes = 0, -1, []
        self.layers = layers
        if training != self.training:
            self.moments.clear()
            self.history = History()
        self.moments.forget_after(done)
        self.training = training
        self.state = {"panel": self.key, "steps": steps}
        self.publish(RUNNING, step=done)

    def note(self, text: str) -> None:
        """Put a sentence below the progress, where the last three stay."""
        self._notes = [*(note for note in self._notes if note != text), text][-3:]

    def follow(self, history: History) -> None:
        """Take up what has happened since."""
        self.history = history
        for record in history.records[self._seen :]:
            finite = {name: value for name, value in record.losses.items() if math.isfinite(value)}
            self._curves.add(record.step, finite)
            if not record.skipped:
                self._map.add(record.step, {str(i): float(i in record.layers) for i in range(self.layers)})
        self._seen = len(history.records)
        for step, value in history.diversity.items():
            if step > self._measured and math.isfinite(value):
                self._diversity.add(step, {"diversity": value})
                self._measured = step

    def take_moment(self, step: int, picture: bytes, weights: Mapping[str, Tensor]) -> None:
        """Keep a look at the training after `step` steps, as JPEG, and what it takes to go back there."""
        self.moments.add(step, picture, weights)

    def publish(self, status: str, **changes) -> None:
        """Tell the page what there is."""
        self.state = {
            **self.state,
            "status": status,
            "curves": {name: self._curves.means(name) for name in self._curves.names},
            "diversity": self._diversity.means("diversity"),
            "layers": [self._map.means(str(i))[1] for i in range(self.layers)],
            "map_steps": self._map.means("0")[0],
            "moments": self.moments.steps,
            "training": self.moments.version,
            "notes": self._notes,
            **changes,
        }
        self._page.show(EVENT, self.state)

    # What is asked on the page

    def ask_to_end(self, step: int | None) -> None:
        """End the training that runs and keep this moment (None: as it is now). Raises ValueError when it cannot be."""
        if self.state.get("status") != RUNNING:
            raise ValueError("No training is running on this node.")
        if self.state["step"] >= self.state["steps"]:
            raise ValueError("The training has done its last step; choose the moment once it has finished.")
        self._require(step)
        self._ending = [step]

    def choose(self, step: int) -> None:
        """Let the next run of the node give this moment of the training that ended. Raises ValueError when it
        cannot."""
        self._require_one()
        self._require(step)
        self._want(step)

    def go_on(self) -> None:
        """Let the next run of the node train on. Raises ValueError when it cannot."""
        self._require_one()
        self._want(None)

    def raise_if_asked(self) -> None:
        """Raise Ended when the page has asked for the end of this training."""
        if self._ending:
            raise Ended(self._ending[0])  # a new one: its traceback would hold the training in memory

    @property
    def asked(self) -> bool:
        """Whether the page has asked for something that the next run of the node does."""
        return self._wanted is not None

    def moment_for(self, training: str) -> int | None:
        """Return the moment that a run of the node for this training gives without training: the one that was asked
        for, or the one that it gave before. Raises ValueError when what was asked for is of another training."""
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            if wanted[0] != training:
                self._reruns.put_back(self.key, self.inputs, self._mark_before)
                said = (
                    "What was asked for on the panel belongs to the training before an input was changed. Change the "
                    "input back and ask again, or run the graph once more to train with the inputs as they are."
                )
                self.note(said)
                self.publish(self.state["status"])
                raise ValueError(said)
            self.result = wanted[1]
        if training != self.training or self.result is None or not self.moments.has(self.result):
            return None
        self._note_run(training)
        return self.result

    def _note_run(self, training: str) -> None:
        """Note which run of the graph gives what is shown, and with which inputs of the node."""
        prompt = self._page.prompt_id()
        self._several = bool(prompt) and prompt == self._prompt and (self._several or training != self.training)
        self._prompt, self.inputs = prompt, self._reruns.inputs(self.key)

    def _want(self, step: int | None) -> None:
        self._wanted = (self.training, step)
        self._mark_before = self._reruns.mark(self.key, self.inputs)
        self._reruns.ask(self.key, self.inputs)

    def _require(self, step: int | None) -> None:
        if step is not None and not self.moments.has(step):
            raise ValueError(f"The moment after {step} steps is not kept any more; choose another.")

    def _require_one(self) -> None:
        if self._several:
            raise ValueError(
                "This node trained more than once in one run, for a list; the panel shows the last training alone. Run the "
                "graph with one entry of the list to go back or on."
            )
