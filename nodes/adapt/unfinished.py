"""Trainings that ended early, kept in output/stylegan/unfinished so that the same graph can go on with them."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ...sds import SavedTraining
from ...training.files import remove_leftovers
from ..outputs import SUBFOLDER, UNFINISHED
from .prompt_text import is_link

logger = logging.getLogger(__name__)

KEPT = 5
"""Trainings that are kept: each takes about three times the generator's file."""

NAMES = f"{'?' * 16}-{'?' * 16}.safetensors"
"""What their files are called, as a pattern."""


@dataclass(frozen=True)
class Unfinished:
    """Unfinished is the place of one training among those that ended early."""

    saved: SavedTraining
    families: tuple[str, ...]  # what the names of trainings begin with that differ by their seed alone
    of_any_length: str = ""  # what tells trainings from others but those that differ by their number of steps alone

    @property
    def name(self) -> str:
        """The path of the file as users find it."""
        return f"output/{SUBFOLDER}/{UNFINISHED}/{self.saved.path.name}"

    def other_seeds(self) -> dict[int, int]:
        """Find the trainings that differ from this one by their seed alone: the steps that each has done, by seed."""
        found = {}
        for path in self.saved.path.parent.glob(NAMES):
            if path != self.saved.path and path.name.partition("-")[0] in self.families:
                try:
                    with safe_open(path, framework="pt") as file:
                        metadata = file.metadata() or {}
                    found[int(json.loads(metadata["run"])["settings"].get("seed", 0))] = int(metadata["step"])
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
        """Remove the file of a finished training; nothing is lost when it cannot be removed."""
        try:
            if self.saved.path.exists():
                self.saved.remove()
        except OSError as error:
            logger.warning(
                "StyleGAN Fusion: %s is not needed any more and could not be removed (%s).", self.name, error
            )


def unfinished_training(
    folder: Path,
    graph: Mapping | None,
    node_id: str | None,
    every: int | None,
    ignored: Collection[str],
    seed: str,
    inputs_fingerprint: str,
    earlier_fingerprint: str = "",
    length: str = "steps",
    length_fingerprint: str = "",
) -> Unfinished:
    """Find where in output/stylegan (`folder`) the training of a node is kept: it follows from everything that goes
    into the node but `ignored` inputs.

    graph is the API form, {id: {"class_type", "inputs"}}; ids do not count, so that a graph opened again is the same.
    `inputs_fingerprint` says what came through the links but the seed: a node that is given a list runs once for each
    of its entries, with one graph. `seed` names the node's input whose trainings are kept under names that begin
    alike. `earlier_fingerprint` says the same as an earlier version did: what that has left is gone on with. `length`
    names the input that says how many steps there are, and `length_fingerprint` says what came through the links but
    that."""
    graph, node_id = graph or {}, str(node_id)
    whole = _digest(graph, node_id, {}, frozenset(ignored))
    but_the_seed = _digest(graph, node_id, {}, frozenset((*ignored, seed)))
    but_its_length = _digest(graph, node_id, {}, frozenset((*ignored, length)))

    def place(fingerprint: str) -> tuple[Path, str]:
        family, identity = _hash(but_the_seed + fingerprint), _hash(whole + fingerprint)
        return folder / UNFINISHED / f"{family[:16]}-{identity[:16]}.safetensors", identity

    path, identity = place(inputs_fingerprint)
    earlier_path, earlier_identity = place(earlier_fingerprint)
    if earlier_path.exists() and not path.exists():
        with contextlib.suppress(OSError):  # held by another program: the training begins anew, and the file stays
            earlier_path.replace(path)
    families = tuple(each.name.partition("-")[0] for each in (path, earlier_path))
    of_any_length = _hash(but_its_length + length_fingerprint)
    return Unfinished(SavedTraining(path, every, identity, earlier_identity), families, of_any_length)


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
