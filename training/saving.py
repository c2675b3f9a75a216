"""A training on disk: everything that is needed to go on with it after any end, bit for bit with the same number of threads.

Of each phase the weights that may change, what its optimizer remembers of them, its average, and buffers where they
change; the history; and what else is kept. As safetensors: numbers and text alone.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .files import remove_leftovers, replacing, write_tensors
from .history_tensors import describe_history, pack_history, unpack_history
from .loop import Callback, Training
from .out_of_memory import handle_out_of_memory
from .phases import Phase

logger = logging.getLogger(__name__)

FORMAT = "stylegan-fusion-training-2"

_IDENTITY = "guidance"
"""The name of the identity beside the parts of a description."""

_ADAM = frozenset({"step", "exp_avg", "exp_avg_sq"})
_SLOTS = {
    torch.optim.Adam: {_ADAM, _ADAM | {"max_exp_avg_sq"}},
    torch.optim.AdamW: {_ADAM, _ADAM | {"max_exp_avg_sq"}},
    torch.optim.SGD: {frozenset({"momentum_buffer"})},
}
"""What optimizers remember of a weight that they have moved; others remember the same of each, or say what of which."""

Tensors = dict[str, Tensor]
Notes = dict[str, str]


class SavedTrainingError(Exception):
    """A saved training cannot be gone on with; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Earlier:
    """Earlier is how a training was saved by an earlier version: its format, its description, and how to read it."""

    format: str
    description: dict
    read: Callable[[Tensors, Notes], tuple[Tensors, Notes]]  # to what this version writes

    def describes(self, run: Mapping[str, object]) -> bool:
        """Tell whether a saved run is described like that, whatever its identity."""
        return {name: value for name, value in run.items() if name != _IDENTITY} == json.loads(
            json.dumps(self.description)
        )


@dataclass(frozen=True)
class SavedTraining:
    """A SavedTraining is where a training is kept, and how often."""

    path: Path
    every: int | None = 100  # steps between two savings; None: only when it ends early
    identity: str | Mapping[str, object] = (
        ""  # what tells the run from others beside its description, in one or by name
    )
    earlier_identity: str | None = None  # the same as earlier versions had it; None: alike
    words: Callable[[str, object, object], Sequence[str]] = lambda name, saved, wanted: [name]
    """Gives what people call what differs: a setting, another part of the description or identity, by its name, as it was
    saved and as it is wanted."""
    finished: Path | None = None  # where it is kept once its last step is done, so that it can be trained further

    def save(self, training: Training) -> None:
        """Write the training as it is, atomically. Raises OSError when the file cannot be written."""
        tensors, notes = _pack(training)
        run = json.dumps({**training.description, _IDENTITY: self.identity})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary:
            write_tensors(temporary, tensors, {"format": FORMAT, "run": run, **notes})

    def restore(self, training: Training, earlier: Sequence[Earlier] = ()) -> bool:
        """Put a training where the saved one was, and tell whether there is one.

        Raises SavedTrainingError when the file is damaged or is of another run."""
        remove_leftovers(self.path)
        try:
            if not self.path.exists():
                return False
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                known = [Earlier(FORMAT, training.description, lambda *saved: saved), *earlier]
                readable = [one for one in known if one.format == metadata.get("format")]
                if not readable:
                    raise SavedTrainingError(f"{self.path} is no saved training; remove it, or choose another folder.")
                saved = json.loads(metadata["run"])
                found = next((one for one in readable if one.describes(saved)), readable[0])
                wanted = json.loads(json.dumps({**found.description, _IDENTITY: self.identity}))
                earlier = found is not known[0] or type(saved[_IDENTITY]) is not type(wanted[_IDENTITY])
                if earlier and self.earlier_identity is not None:
                    wanted[_IDENTITY] = self.earlier_identity
                self._require_same_run(saved, wanted)
                # Copies: while the file is mapped, Windows would not let it be replaced.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            _unpack(training, *found.read(tensors, metadata))
        except OSError as error:
            reason = error.strerror or str(error)
            raise SavedTrainingError(f"{self.path} could not be read ({reason}); check the folder.") from error
        except (SafetensorError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            if handle_out_of_memory(error):
                raise
            raise SavedTrainingError(
                f"{self.path} is damaged ({error}); remove it to begin anew, the generators beside it stay."
            ) from error
        return True

    def _require_same_run(self, saved: dict, wanted: dict) -> None:
        differing = []
        for name, value in wanted.items():
            theirs = saved.get(name)
            if name == "settings" or (isinstance(value, dict) and isinstance(theirs, dict) and name == _IDENTITY):
                theirs = theirs or {}  # named one by one
                keys = [key for key in value | theirs if theirs.get(key) != value.get(key)]
                differing += [word for key in keys for word in self.words(key, theirs.get(key), value.get(key))]
            elif theirs != value:
                differing[:0] = self.words(name, theirs, value)
        if differing:
            raise SavedTrainingError(
                f"{self.path} belongs to another run (different: {', '.join(differing)}). Set these as they were to go on "
                "with it, or choose another folder to begin anew."
            )

    def steps_done(self) -> int:
        """Return the steps of the saved training, 0 without one or with a damaged one."""
        try:
            with safe_open(self.path, framework="pt") as file:
                return int((file.metadata() or {}).get("step", 0))
        except (OSError, ValueError, SafetensorError):
            return 0

    def remove(self) -> None:
        """Remove the file of a finished training, whose results are kept elsewhere. Raises OSError when
        the file cannot be removed."""
        remove_leftovers(self.path)
        self.path.unlink(missing_ok=True)


def lengthen(finished: Path, path: Path, settings: Mapping[str, object], identity: str | Mapping[str, object]) -> None:
    """Make of a training that has done its last step, kept at `finished`, one at `path` that has not: its description
    says these settings, which differ in the number of steps, and this identity. Raises OSError and SavedTrainingError."""
    try:
        with safe_open(finished, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copies: while the file is mapped, Windows would not let it be replaced.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        run = json.dumps({**json.loads(metadata["run"]), "settings": settings, _IDENTITY: identity})
    except (SafetensorError, LookupError, ValueError, TypeError) as error:
        raise SavedTrainingError(f"{finished} is damaged ({error}); train from the beginning.") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        write_tensors(temporary, tensors, {**metadata, "run": run})


def try_to_save(saved: SavedTraining, training: Training) -> str | None:
    """Save, or say why not: a full disk is no reason to lose what is still in memory."""
    try:
        saved.save(training)
        return None
    except Exception as error:  # safetensors has an exception of its own for what the system refuses
        reason = getattr(error, "strerror", None) or str(error)
        warning = f"The training could not be saved at step {training.step} ({reason}); free some space in {saved.path.parent}."
        logger.warning("StyleGAN Fusion: %s", warning)
        return warning


@dataclass
class Saving(Callback):
    """Saving writes a training every so many steps, or seconds where they are given."""

    saved: SavedTraining
    seconds: float | None = None
    _last: float = field(default_factory=time.monotonic)

    def after_step(self, training: Training) -> None:
        if self.seconds is None:
            due = self.saved.every is not None and training.step % self.saved.every == 0
        else:
            due = training.step == training.steps or time.monotonic() - self._last > self.seconds
        if due:
            training.warning = try_to_save(self.saved, training) or training.warning
            self._last = time.monotonic()
        if training.step == training.steps and self.saved.finished is not None:
            try:
                replace(self.saved, path=self.saved.finished).save(training)
            except (OSError, SafetensorError) as error:  # nothing is lost: its result is kept elsewhere
                logger.info("StyleGAN Fusion: the training cannot be trained further (%s).", error)


def _pack(training: Training) -> tuple[Tensors, Notes]:
    """Tensors, wherever they are, and notes."""
    tensors, kept = pack_history(training.history), {}
    for phase in training.phases:
        tensors |= {f"{phase.name}.{name}": value for name, value in _pack_phase(phase).items()}
    for name, one in training.kept.items():
        of_one, kept[name] = one.pack()
        tensors |= {f"{name}.{key}": value for key, value in of_one.items()}
    notes = {"step": training.step, "history": describe_history(training.history), "kept": kept}
    return tensors, {name: json.dumps(value) for name, value in notes.items()}


def _pack_phase(phase: Phase) -> Tensors:
    tensors = {}
    for index, parameter in enumerate(phase.parameters):
        tensors[f"weights.{index}"] = parameter.detach()
        # What no step has moved yet has no state.
        for slot, value in phase.optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"optimizer.{index}.{slot}"] = value
    if phase.buffers:
        tensors |= {f"buffers.{name}": value for name, value in phase.module.named_buffers()}
    if phase.average is not None:
        weights = enumerate(phase.average.module.parameters())
        tensors |= {f"average.{index}": value.detach() for index, value in weights}
    return tensors


def _unpack(training: Training, tensors: Tensors, notes: Notes) -> None:
    """Put a training where a saved one was, once all of that makes sense. Raises ValueError, LookupError and others."""
    step, history = int(notes["step"]), unpack_history(tensors, json.loads(notes["history"]))
    if not 0 <= step <= training.steps or len(history.records) != step:
        raise ValueError(f"{len(history.records)} records of {step} steps")
    kept = json.loads(notes["kept"])
    take_over = [_unpack_phase(phase, _of(phase.name, tensors)) for phase in training.phases]
    take_over += [one.unpack(_of(name, tensors), kept[name]) for name, one in training.kept.items()]
    for one in take_over:
        one()
    training.step, training.history, training.consistent = step, history, True


def _of(prefix: str, tensors: Tensors) -> Tensors:
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def _unpack_phase(phase: Phase, tensors: Tensors) -> Callable[[], None]:
    parameters = phase.parameters
    pairs = [(parameter, alike(tensors, f"weights.{i}", parameter)) for i, parameter in enumerate(parameters)]
    if phase.buffers:
        pairs += [(value, alike(tensors, f"buffers.{name}", value)) for name, value in phase.module.named_buffers()]
    if phase.average is not None:
        weights = enumerate(phase.average.module.parameters())
        pairs += [(value, alike(tensors, f"average.{index}", value)) for index, value in weights]
    states = {}
    for index, parameter in enumerate(parameters):
        if of_one := _of(f"optimizer.{index}", tensors):
            states[parameter] = {slot: _remembered(of_one, slot, parameter) for slot in of_one}
    if not _fits(phase.optimizer, states):
        raise ValueError("its optimizer remembers something else")

    @torch.no_grad()
    def take_over() -> None:
        for ours, saved in pairs:
            ours.copy_(saved)
        if phase.average is not None:
            for ours, other in zip(phase.average.module.buffers(), phase.module.buffers(), strict=True):
                ours.copy_(other)
        phase.optimizer.state.clear()
        phase.optimizer.state.update(states)

    return take_over


def _fits(optimizer: torch.optim.Optimizer, states: Mapping[Tensor, Mapping[str, Tensor]]) -> bool:
    """Tell whether an optimizer would remember of each parameter what was saved of it."""
    if hasattr(optimizer, "slots"):
        return all(frozenset(state) == optimizer.slots(parameter) for parameter, state in states.items())
    found = {frozenset(state) for state in states.values()}
    return len(found) < 2 and found <= _SLOTS.get(type(optimizer), found)


def _remembered(tensors: Tensors, slot: str, parameter: Tensor) -> Tensor:
    """What an optimizer remembers of a parameter: a number of its own or one for each weight."""
    value = tensors[slot]
    if slot == "step" or (value.ndim == 0 and parameter.ndim > 0):
        return alike(tensors, slot, torch.zeros((), dtype=torch.float32))
    return alike(tensors, slot, parameter).to(parameter.device)


def alike(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """Return the tensor of this name, of a like's shape and kind and with finite values.
    Raises LookupError, ValueError."""
    tensor = tensors[name]
    if tensor.shape != like.shape or tensor.dtype != like.dtype or not torch.isfinite(tensor).all():
        raise ValueError(f"{name} does not fit")
    return tensor
