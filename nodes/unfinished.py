"""Trainings that ended early, kept in output/stylegan/unfinished so that the same graph can go on with them."""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..sds import SavedTraining, TrainResult
from ..stylegan import CheckpointError, Generator, save_generator, save_or_rescue
from ..training.files import remove_leftovers
from . import files
from .prompt_text import is_link

logger = logging.getLogger(__name__)

KEPT = 5
"""Trainings that are kept: each takes about three times the generator's file."""


NOTHING_YET = "Nothing was trained yet."

NAMES = f"{'?' * 16}-{'?' * 16}.safetensors"


@dataclass(frozen=True)
class Unfinished:
    """The place of one training among those that ended early."""

    saved: SavedTraining

    @property
    def name(self) -> str:
        """The file as users find it."""
        return f"output/{files.SUBFOLDER}/{files.UNFINISHED}/{self.saved.path.name}"

    def other_seeds(self) -> dict[int, int]:
        """Of trainings that differ from this one by their seed alone: seeds, and the steps that each has done."""
        family = self.saved.path.name.partition("-")[0]
        found = {}
        for path in self.saved.path.parent.glob(f"{family}-*.safetensors"):
            if path != self.saved.path:
                try:
                    with safe_open(path, framework="pt") as file:
                        metadata = file.metadata() or {}
                    found[int(json.loads(metadata["run"])["settings"]["seed"])] = int(metadata["step"])
                except (OSError, SafetensorError, KeyError, ValueError, TypeError):
                    continue  # damaged: said when it is its turn
        return found

    def make_room(self) -> None:
        """Remove what killed writings left, and all but the latest trainings besides this one."""
        remove_leftovers(self.saved.path)
        others = [path for path in self.saved.path.parent.glob(NAMES) if path != self.saved.path]
        try:
            for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT - 1 :]:
                remove_leftovers(path)
                path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("StyleGAN Fusion: an old unfinished training could not be removed (%s).", error)

    def start_over(self) -> None:
        """Forget what was trained. Raises RuntimeError when the file cannot be removed."""
        try:
            if self.saved.path.exists():
                self.saved.remove()
        except OSError as error:
            raise RuntimeError(
                f"The unfinished training could not be removed ({error.strerror or error}); close programs that use "
                f"{self.name}, and run the graph again."
            ) from error

    def forget(self) -> None:
        """For a finished training: nothing is lost when its file cannot be removed."""
        try:
            if self.saved.path.exists():
                self.saved.remove()
        except OSError as error:
            logger.warning(
                "StyleGAN Fusion: %s is not needed any more and could not be removed (%s).", self.name, error
            )


def unfinished_training(
    graph: Mapping | None, node_id: str | None, every: int | None, ignored: Collection[str], seed: str, arrived: str
) -> Unfinished:
    """Where the training of a node is kept: a function of everything that goes into the node but `ignored` inputs.

    graph is the API form, {id: {"class_type", "inputs"}}; ids do not count, so that a graph opened again is the same.
    `arrived` says what came through the links but the seed: a node that is given a list runs once for each of its
    entries, with one graph. `seed` names the node's input whose trainings are kept under names that begin alike."""
    graph, node_id = graph or {}, str(node_id)
    digest = _hash(_digest(graph, node_id, {}, frozenset(ignored)) + arrived)
    family = _hash(_digest(graph, node_id, {}, frozenset((*ignored, seed))) + arrived)
    path = _folder() / f"{family[:16]}-{digest[:16]}.safetensors"
    return Unfinished(SavedTraining(path, every, digest))


def keep_latest(generator: Generator, metadata: Mapping[str, str]) -> None:
    """Write a finished generator as output/stylegan/latest.safetensors, and keep the one before: whatever happens before
    the graph has saved it, it is not lost."""
    latest = files.output_folder() / "latest.safetensors"
    try:
        if latest.exists():
            latest.replace(latest.with_name("latest-but-one.safetensors"))
        save_generator(generator, latest, dict(metadata))
    except (CheckpointError, OSError) as error:
        logger.warning("StyleGAN Fusion: the generator is not kept as %s (%s).", latest.name, error)


def keep(result: TrainResult, metadata: Mapping[str, str], going_on_from: int) -> str:
    """Write what was trained to a recovery file, and where images became alike the state before that; sentences that
    say where they are, and from which step the training can go on (0: from none)."""
    done, best = result.steps_done, result.best_step
    if done == 0:
        return NOTHING_YET
    trained = f"The generator as trained for {done} step{'s' * (done != 1)}"
    try:
        kept = f"{trained} is in {_written(result.generator, metadata, done)}"
        if 0 < best < max(result.history.diversity, default=0):  # healthy ones are the best so far at each measurement
            kept += f", the latest one before its images became alike in {_written(result.best, metadata, best)}"
        kept += "; Load StyleGAN2 loads it."
    except (CheckpointError, OSError) as error:
        kept = f"{trained} could not be kept: {error}"
    if result.interrupted and going_on_from:
        kept += f" Run the same graph again, with seed {metadata['seed']}, to go on from step {going_on_from}."
    logger.warning("StyleGAN Fusion: %s", kept)
    return kept


def _written(generator: Generator, metadata: Mapping[str, str], steps: int) -> str:
    wanted = files.new_path("recovered")
    path = save_or_rescue(generator, wanted, {**metadata, "steps_done": str(steps)})
    return f"output/{files.SUBFOLDER}/{path.name}" if path == wanted else str(path)


def _folder() -> Path:
    return files.output_folder() / files.UNFINISHED


def _digest(graph: Mapping, node_id: str, known: dict[str, str], ignored: frozenset[str] = frozenset()) -> str:
    if node_id not in known:
        known[node_id] = ""  # what a link in a circle would stand for
        node = graph.get(node_id)
        if node is None:  # made by another node while the graph runs, as loops do: then ids must tell
            described = [node_id, graph]
        else:
            inputs = {
                name: [_digest(graph, value[0], known), value[1]] if is_link(graph, value) else value
                for name, value in sorted(node.get("inputs", {}).items())
                if name not in ignored
            }
            described = [node.get("class_type"), inputs]
        known[node_id] = _hash(json.dumps(described, sort_keys=True, default=str))
    return known[node_id]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
