"""The panel on a training node: what the page shows of a training, and what is asked of it there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from torch import Tensor

from ...training.history import History
from ...training.saving import SavedTraining, lengthen
from .binned import Binned
from .moments import Moments
from .page import Page
from .reruns import Reruns
from .shelf import EARLIER, Shelf
from .shown import CANCELLED, FAILED, FINISHED, INTERRUPTED, RUNNING, STOPPED, About, ShownTraining

__all__ = ["CANCELLED", "FAILED", "FINISHED", "INTERRUPTED", "RUNNING", "STOPPED", "Ended", "Panel"]

POINTS = 400
"""Points of a curve on the page, at most: more than a node has pixels."""

COLUMNS = 120
"""Columns of the map of layers, at most."""

EVENT = "stylegan_fusion.panel"
"""The websocket message that carries a panel's state."""


class Ended(Exception):
    """Ended is raised where the panel's user ends the training. step: the moment to keep; None: now."""

    def __init__(self, step: int | None):
        super().__init__("ended from the panel")
        self.step = step


@dataclass(frozen=True)
class _Wanted:
    """_Wanted is what the page has asked of a training."""

    shown: ShownTraining
    step: int | None  # the moment to give; None: train on
    whatever: bool = False  # give it whatever the inputs are by now
    more: bool = False  # further steps than it had


class Panel:
    """A Panel shows the latest training of one node on one page, and lists the earlier ones; all of them are kept on the
    `shelf`.

    The training writes it in the host's worker; the host's server reads `state` and `moments`, and calls the methods
    that ask for something."""

    def __init__(self, key: str, page: Page, shelf: Shelf, reruns: Reruns, found: Sequence[ShownTraining] = ()):
        self.key, self._page, self._shelf, self._reruns = key, page, shelf, reruns
        self.inputs = ""  # of the node, when its training began
        latest, *self.earlier = found or [ShownTraining.new(shelf.home, key)]
        self.shown: ShownTraining = latest
        self.given = self.shown  # the training that the latest moment is of that the node passed on
        self.extends = False  # whether the run that begins gives a finished training further steps
        self._curves, self._diversity, self._map = Binned(POINTS), Binned(POINTS), Binned(COLUMNS)
        self._seen, self._measured, self.layers = 0, -1, 0
        self._notes: list[str] = list(self.state.get("notes", ()))
        self._warnings: list[str] = list(self.state.get("warnings", ()))
        self._problem = ""  # what keeps the next run from what was asked for
        self._offers_to_keep = False  # beside a problem: the moment all the same
        self._ending: list[int | None] = []  # the moment to keep, when the end was asked for
        self._wanted: _Wanted | None = None
        self._mark_before = ""  # of the node's runs, before that was asked for
        self._prompt = ""  # the run of the graph
        self._several = False  # trainings in one run of the graph
        if found:
            self.state = {**self.state, **self._asides()}

    @property
    def moments(self) -> Moments:
        """The moments of the latest training."""
        return self.shown.moments

    @property
    def training(self) -> str:
        """What tells the latest training from others."""
        return self.shown.about.training

    @property
    def state(self) -> dict[str, Any]:
        """What the page shows of the latest training."""
        return self.shown.state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.shown.state = state

    @property
    def history(self) -> History:
        """What has happened in the latest training."""
        return self.shown.history

    @property
    def result(self) -> int | None:
        """The moment of the latest training that the node passes on, once it has one."""
        return self.shown.result

    @result.setter
    def result(self, step: int | None) -> None:
        self.shown.result = step

    def begin(self, training: str, steps: int, layers: int, done: int, about: About | None = None) -> None:
        """Show another training, or the one that is shown as it goes on after `done` steps."""
        about = about or About(training)
        self._note_run(training)
        self._ending, self._wanted = [], None
        self._curves, self._diversity, self._map = Binned(POINTS), Binned(POINTS), Binned(COLUMNS)
        self._seen, self._measured, self._notes, self._warnings = 0, -1, [], []
        self._problem, self._offers_to_keep = "", False
        self.layers = layers
        if training != self.training and not self.extends:
            self._put_by(training)
        self.extends = False
        self.shown.about, self.result, self.given = about, None, self.shown
        self.moments.forget_after(done)
        self.state = {"panel": self.key, "steps": steps}
        self.publish(RUNNING, step=done)
        self._shelf.make_room(self.shown)

    def note(self, text: str) -> None:
        """Put a sentence below the progress, where the last three stay."""
        self._notes = [*(note for note in self._notes if note != text), text][-3:]

    def warn(self, text: str) -> None:
        """Put a warning above the pictures, where the last three stay."""
        self._warnings = [*(one for one in self._warnings if one != text), text][-3:]

    def refuse(self, text: str, offers_to_keep: bool = False) -> None:
        """Say what keeps a run of the node from what was asked for, until the next run."""
        self._problem, self._offers_to_keep = text, offers_to_keep
        self.publish(self.state["status"])

    def solved(self) -> None:
        """Say nothing more of what kept an earlier run from what was asked for."""
        if self._problem:
            self.refuse("")

    def follow(self, history: History) -> None:
        """Take up what has happened since."""
        self.shown.history = history
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

    def lay_out(self, columns: int, rows: int) -> None:
        """Say how the samples stand in the pictures of moments; the second row are their targets."""
        self.state = {**self.state, "columns": columns, "rows": rows}

    def take_moment(self, step: int, picture: bytes, weights: Mapping[str, Tensor]) -> None:
        """Keep a look at the training after `step` steps, as JPEG, and what it takes to go back there."""
        self.moments.add(step, picture, weights)

    def publish(self, status: str, **changes) -> None:
        """Tell the page what there is."""
        moments, curves = self.state.get("moments"), {}
        if self._seen or not self.state.get("curves"):  # not of a training that was found again
            curves = {
                "curves": {name: self._curves.means(name) for name in self._curves.names},
                "diversity": self._diversity.means("diversity"),
                "layers": [self._map.means(str(i))[1] for i in range(self.layers)],
                "map_steps": self._map.means("0")[0],
            }
        about, titles = self.shown.about, self.state.get("titles", {})
        self.state = {
            **self.state,
            **curves,
            "status": status,
            "moments": self.moments.steps,
            "training": self.moments.version,
            "notes": self._notes,
            "warnings": self._warnings,
            "titles": {
                name: about.titles.get(name) or titles.get(name, name) for name in (curves or self.state)["curves"]
            },
            "prompt": about.prompt,
            "details": dict(about.details),
            **changes,
        }
        self.state |= self._asides()
        self._page.show(EVENT, self.state)
        if status != RUNNING or self.moments.steps != moments:
            self.shown.keep()

    def passes_on(self, step: int) -> None:
        """Note the moment that the node passes on, so that it is given again, also after a restart of the host."""
        self.result = step
        self.shown.keep()

    def of(self, version: str) -> ShownTraining | None:
        """Return the training of this panel, the latest or an earlier one, whose moments have this version."""
        return next((one for one in (self.shown, *self.earlier) if one.moments.version == version), None)

    # What is asked on the page

    def ask_to_end(self, step: int | None) -> None:
        """End the training that runs and keep this moment (None: as it is now). Raises ValueError when it cannot be."""
        if self.state.get("status") != RUNNING:
            raise ValueError("No training is running on this node.")
        if self.state["step"] >= self.state["steps"]:
            raise ValueError("The training has done its last step; choose the moment once it has finished.")
        self._require(self.shown, step)
        self._ending = [step]

    def choose(self, step: int, shown: ShownTraining | None = None, whatever: bool = False) -> None:
        """Let the next run of the node give this moment of a training that ended: of the latest, or of an earlier one,
        or `whatever` the inputs of the node are by then. Raises ValueError when it cannot."""
        shown = shown or self.shown
        self._require_one()
        self._require(shown, step)
        self._want(_Wanted(shown, step, whatever or shown is not self.shown))

    def go_on(self) -> None:
        """Let the next run of the node train on. Raises ValueError when it cannot."""
        self._require_one()
        self._want(_Wanted(self.shown, None))

    def train_more(self) -> None:
        """Let the next run of the node, which has more steps, train the finished training further. Raises ValueError when
        it cannot."""
        self._require_one()
        if not self.shown.can_train_more:
            raise ValueError("What it takes to train further is not kept any more; run the graph with more steps.")
        self._want(_Wanted(self.shown, None, more=True))

    def take_up_finished(self, saved: SavedTraining, settings: Mapping[str, object]) -> None:
        """Let the run that begins, described by its settings, go on with the finished training that is shown, where it
        `extends` that. Raises RuntimeError with a sentence when the disk refuses, and SavedTrainingError."""
        if self.extends and not saved.path.exists():
            try:
                lengthen(self.shown.saved_state, saved.path, settings, saved.identity)
            except OSError as error:
                raise RuntimeError(
                    f"The training cannot go on: {saved.path} could not be written ({error.strerror or error}); free some "
                    "space."
                ) from error

    def forget(self, shown: ShownTraining) -> None:
        """Remove an earlier training. Raises ValueError for the latest."""
        if shown not in self.earlier:
            raise ValueError("This is the latest training of the node; the next one takes its place.")
        self.earlier.remove(shown)
        shown.forget()
        self.publish(self.state["status"])

    def raise_if_asked(self) -> None:
        """Raise Ended when the page has asked for the end of this training."""
        if self._ending:
            raise Ended(self._ending[0])  # a new one: its traceback would hold the training in memory

    @property
    def asked(self) -> bool:
        """Whether the page has asked for something that the next run of the node does."""
        return self._wanted is not None

    def moment_for(self, training: str, of_any_length: str = "", generator: str = "") -> int | None:
        """Return the moment, of the training `given`, that a run of the node for this training gives without training:
        the one that was asked for, or the one that it gave before. None: it trains, and where it `extends` the training
        that is shown, from its end.

        A moment does not depend on how many steps were to come. Raises ValueError when what was asked for is of another
        training, or of another generator."""
        wanted, self._wanted = self._wanted, None
        self.given, self.extends = self.shown, False
        if wanted is not None:
            about = wanted.shown.about
            same = training == about.training
            longer = bool(of_any_length) and of_any_length == about.of_any_length
            if not (same or longer or wanted.whatever):
                self._refuse_another(wanted.step is not None)
            if wanted.more and same:
                self._refuse("This training has done all of its steps; give the node more steps to train it further.")
            if wanted.step is None and not same:
                self.extends = wanted.more and wanted.shown.can_train_more
                if not self.extends:
                    self._refuse_another(False)
            if wanted.step is not None and not (same and wanted.shown is self.shown):
                return self._give_another(wanted, generator)
            self.result = wanted.step
        if training != self.training or self.result is None or not self.moments.has(self.result):
            return None
        self._note_run(training)
        return self.result

    def _give_another(self, wanted: _Wanted, generator: str) -> int:
        """The moment of a training that is not the one of the node's inputs; the next run with these trains."""
        self._put_mark_back()
        if generator and wanted.shown.about.generator not in ("", generator):
            said = (
                f"The moment belongs to a training of another {wanted.shown.about.source} than the one that comes in now. Link "
                "that again, or choose a moment of its own trainings."
            )
            self._refuse(said)
        self._reruns.ask(self.key, self._reruns.inputs(self.key))
        wanted.shown.result, self.given = wanted.step, wanted.shown
        return wanted.step

    def _refuse_another(self, offers_to_keep: bool) -> NoReturn:
        self._put_mark_back()
        said = (
            "What was asked for on the panel belongs to the training before an input was changed. Change the "
            "input back and ask again, or run the graph once more to train with the inputs as they are."
        )
        self._refuse(said, offers_to_keep)

    def _refuse(self, said: str, offers_to_keep: bool = False) -> NoReturn:
        self.refuse(said, offers_to_keep)
        raise ValueError(said)

    def _asides(self) -> dict[str, Any]:
        """What the page shows beside the training itself."""
        return {
            "problem": self._problem,
            "offers_to_keep": self._offers_to_keep,
            "pictures_alone": self.moments.pictures_alone,
            "can_train_more": self.shown.can_train_more,
            "earlier": [one.summary() for one in self.earlier],
        }

    def _put_by(self, training: str) -> None:
        """Let another training take the place of the latest."""
        if self.state:
            self.shown.put_by()
            self.earlier.insert(0, self.shown)
        else:
            self.moments.clear()
        again = [one for one in self.earlier if one.about.training == training]
        for one in (*again, *[one for one in self.earlier if one not in again][EARLIER:]):
            self.earlier.remove(one)
            one.forget()
        self.shown = ShownTraining.new(self._shelf.home, self.key)

    def _note_run(self, training: str) -> None:
        """Note which run of the graph gives what is shown, and with which inputs of the node."""
        prompt = self._page.prompt_id()
        self._several = bool(prompt) and prompt == self._prompt and (self._several or training != self.training)
        self._prompt, self.inputs = prompt, self._reruns.inputs(self.key)

    def _want(self, wanted: _Wanted) -> None:
        self._wanted = wanted
        self._mark_before = self._reruns.mark(self.key, self.inputs)
        self._reruns.ask(self.key, self.inputs)

    def _put_mark_back(self) -> None:
        """With its own inputs, what the node gave stands."""
        self._reruns.put_back(self.key, self.inputs, self._mark_before)

    @staticmethod
    def _require(shown: ShownTraining, step: int | None) -> None:
        if step is not None and not shown.moments.has(step):
            raise ValueError(f"The moment after {step} steps is not kept any more; choose another.")

    def _require_one(self) -> None:
        if self._several:
            raise ValueError(
                "This node trained more than once in one run, for a list; the panel shows the last training alone. Run the "
                "graph with one entry of the list to go back or on."
            )
