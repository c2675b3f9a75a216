"""A training on disk: everything that is needed to go on with it, bit for bit, after any end.

Weights and Adam's moments of the trained parameters, the history, and the best weights, as safetensors. Random numbers
are a function of (seed, step) and need no saving.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..stylegan import Generator
from ..training.files import remove_leftovers, replacing, write_tensors
from ..training.out_of_memory import handle_out_of_memory
from .progress import History, StepRecord
from .regularizers import title
from .state import Best, TrainState

FORMAT = "stylegan-fusion-training-1"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what Adam remembers of a parameter
_MAY_DIFFER = ("checkpoint", "diversity_every", "collapse_threshold", "max_skipped_in_a_row")  # leave weights alone


class SavedTrainingError(Exception):
    """A saved training that cannot be gone on with; the message says which, why, and what to do."""


@dataclasses.dataclass(frozen=True)
class SavedTraining:
    """Where a training is kept, and how often."""

    path: Path
    every: int | None = 100  # steps between two savings; None: only when it ends early
    identity: str = ""  # what tells the run from others beside its settings: prompts, models

    def save(self, state: TrainState) -> None:
        """Write the training as it is, atomically. Raises OSError when the file cannot be written."""
        tensors, notes = _pack(state)
        metadata = {"format": FORMAT, "run": json.dumps(_describe(state, self.identity)), **notes}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary:
            write_tensors(temporary, tensors, metadata)

    def restore(self, state: TrainState) -> bool:
        """Put a fresh state where the saved training was; whether there is one.

        Raises SavedTrainingError when the file is damaged or is of another run."""
        remove_leftovers(self.path)
        try:
            if not self.path.exists():
                return False
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise SavedTrainingError(f"{self.path} is no saved training; remove it, or choose another folder.")
                _require_same_run(self.path, json.loads(metadata["run"]), _describe(state, self.identity))
                # Copies: while the file is mapped, Windows would not let it be replaced.
                _unpack(state, {name: file.get_tensor(name).clone() for name in file.keys()}, metadata)  # noqa: SIM118
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

    def steps_done(self) -> int:
        """Steps of the saved training, 0 without one or with a damaged one."""
        try:
            with safe_open(self.path, framework="pt") as file:
                return int((file.metadata() or {}).get("step", 0))
        except (OSError, ValueError, SafetensorError):
            return 0

    def remove(self) -> None:
        """For a finished training, whose results are kept elsewhere. Raises OSError when the file cannot be removed."""
        remove_leftovers(self.path)
        self.path.unlink(missing_ok=True)


def weights_digest(generator: Generator) -> str:
    """A digest of a generator's weights: whether two are the same."""
    digest = hashlib.sha256()
    for name, value in generator.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _describe(state: TrainState, identity: str) -> dict:
    """What makes a run this run, in JSON's types."""
    settings = {k: v for k, v in dataclasses.asdict(state.settings).items() if k not in _MAY_DIFFER}
    regularizers = {title(regularizer): regularizer.weight for regularizer in state.objective.regularizers}
    described = {
        "settings": settings,
        "regularizers": regularizers,
        "layers": repr(state.layers),
        "generator": weights_digest(state.frozen),
        "guidance": identity,
    }
    return json.loads(json.dumps(described))


def _require_same_run(path: Path, saved: dict, wanted: dict) -> None:
    differing = [name for name in wanted if name != "settings" and saved.get(name) != wanted[name]]
    theirs = saved.get("settings", {})
    differing += [name for name, value in wanted["settings"].items() if theirs.get(name) != value]
    if differing:
        raise SavedTrainingError(
            f"{path} belongs to another run (different: {', '.join(differing)}). Set these as they were to go on with it, "
            "or choose another folder to begin anew."
        )


def _pack(state: TrainState) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, wherever they are, and notes."""
    tensors: dict[str, Tensor] = {}
    for index, parameter in enumerate(state.trained):
        tensors[f"weights.{index}"] = parameter.detach()
        moments = state.optimizer.state.get(parameter)
        if moments:  # a layer that no step has chosen yet has none
            tensors |= {f"adam.{index}.{name}": moments[name] for name in _MOMENTS}
    if state.best is not None:
        tensors |= {f"best.{index}": weight for index, weight in enumerate(state.best.weights)}
    notes = {
        "step": str(state.step),
        "best_step": str(state.best.step if state.best else 0),
        "piece": str(state.piece),
        "checkpoint": str(state.checkpoint),
    }
    history = _pack_history(state.history)
    return tensors | history[0], notes | history[1]


def _unpack(state: TrainState, tensors: dict[str, Tensor], notes: dict[str, str]) -> None:
    """Put a saved training into the state, once all of it makes sense. Raises ValueError, LookupError and others."""
    step, best_step, trained = int(notes["step"]), int(notes["best_step"]), state.trained
    history = _unpack_history(tensors, notes)
    if not 0 <= best_step <= step <= state.settings.steps or len(history.records) != step:
        raise ValueError(f"{len(history.records)} records of {step} steps, the best at {best_step}")
    weights = _alike(tensors, "weights.{}", trained)
    best = _alike(tensors, "best.{}", trained) if "best.0" in tensors else None
    moments = {}
    for index, parameter in enumerate(trained):
        if f"adam.{index}.step" in tensors:
            count, *averages = (f"adam.{index}.{name}" for name in _MOMENTS)
            likes = [torch.zeros(()), parameter, parameter]
            values = [_alike(tensors, name, [like])[0] for name, like in zip([count, *averages], likes, strict=True)]
            # Adam keeps its count of steps on the CPU.
            moments[parameter] = dict(
                zip(_MOMENTS, [values[0], *(v.to(parameter.device) for v in values[1:])], strict=True)
            )
    with torch.no_grad():
        for parameter, weight in zip(trained, weights, strict=True):
            parameter.copy_(weight)
    state.optimizer.state.clear()
    state.optimizer.state.update(moments)
    state.best = None if best is None else Best(best_step, best)
    state.step, state.history, state.whole = step, history, True
    # What has turned out to fit into memory, so that it need not run out again.
    state.piece = min(state.piece, max(1, int(notes["piece"])))
    if state.settings.checkpoint is None:
        state.checkpoint = state.checkpoint or notes["checkpoint"] == "True"


def _alike(tensors: dict[str, Tensor], name: str, likes: Sequence[Tensor]) -> list[Tensor]:
    """The tensors of these numbered names, each of a like's shape and kind and with finite values."""
    found = [tensors[name.format(index)] for index in range(len(likes))]
    for index, (tensor, like) in enumerate(zip(found, likes, strict=True)):
        if tensor.shape != like.shape or tensor.dtype != like.dtype or not torch.isfinite(tensor).all():
            raise ValueError(f"{name.format(index)} does not fit")
    return found


def _pack_history(history: History) -> tuple[dict[str, Tensor], dict[str, str]]:
    records, terms = history.records, history.terms
    losses = [[record.losses.get(term, math.nan) for term in terms] for record in records]
    tensors = {
        "history.t": torch.tensor([record.t for record in records], dtype=torch.float64),
        "history.losses": torch.tensor(losses, dtype=torch.float64).reshape(len(records), len(terms)),
        "history.layers": torch.tensor([sum(1 << i for i in record.layers) for record in records], dtype=torch.int64),
    }
    skipped = {index: record.skipped for index, record in enumerate(records) if record.skipped}
    notes = {"terms": terms, "skipped": skipped, "diversity": history.diversity}
    return tensors, {name: json.dumps(value) for name, value in notes.items()}


def _unpack_history(tensors: dict[str, Tensor], notes: dict[str, str]) -> History:
    terms, skipped = json.loads(notes["terms"]), json.loads(notes["skipped"])
    records = []
    columns = (tensors[f"history.{name}"].tolist() for name in ("t", "losses", "layers"))
    for index, (t, losses, layers) in enumerate(zip(*columns, strict=True)):
        if layers < 0:
            raise ValueError("layers that there are not")
        if (reason := skipped.get(str(index))) is not None:
            records.append(StepRecord(index + 1, t, skipped=reason))
            continue
        chosen = tuple(i for i in range(layers.bit_length()) if layers >> i & 1)
        records.append(StepRecord(index + 1, t, dict(zip(terms, losses, strict=True)), chosen))
    diversity = {int(step): float(value) for step, value in json.loads(notes["diversity"]).items()}
    return History(records, diversity)
