"""Adapted generators as differences from the generator that they began as: only what was trained, in half precision. They
add up, and the generators that they make share all else in memory."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..training.digests import weights_digest
from ..training.files import write_tensors
from .blending import joint_licence, require_alike
from .checkpoint import CheckpointError, all_weights, reading, require_finite, writing
from .config import Config
from .formats.safetensors_files import DIFFERENCE, describe, is_safetensors, read_difference
from .networks import Generator

SUFFIX = ".difference.safetensors"
"""What the names of files of differences end with, by which lists tell them from generators."""


@dataclass(frozen=True)
class Difference:
    """A Difference is what is added to weights of a source generator to make another one of it."""

    weights: Mapping[str, Tensor]  # by name, on the CPU, in half precision where that holds them
    config: Config  # of both generators
    source: str  # digest of the source's weights
    metadata: Mapping[str, str] = field(default_factory=dict)

    def is_of(self, generator: Generator) -> bool:
        """Tell whether a generator is the very source."""
        return self.source == source_digest(generator)


def source_digest(generator: Generator) -> str:
    """Return the digest by which the source of a difference is recognized."""
    generator.mapping.centre()
    return weights_digest(generator)


@torch.no_grad()
def difference(source: Generator, adapted: Generator, metadata: Mapping[str, str] | None = None) -> Difference:
    """Return what the adapted generator has that its source has not, in half precision: weights that are equal bit for
    bit take no room. Raises ValueError when the two are not built alike, or do not differ."""
    require_alike(source, adapted)
    before, found = all_weights(source), {}
    for name, value in all_weights(adapted).items():
        if not torch.equal(value, before[name]):
            change = value.float() - before[name].float()
            half = change.half()
            found[name] = half if bool(half.isfinite().all()) else change
    if not found:
        raise ValueError(
            "These generators have the same weights; give the one that was adapted, and the one it began as."
        )
    return Difference(found, source.config, source_digest(source), dict(metadata or {}))


@torch.inference_mode(False)  # a host may do this within inference mode, whose tensors could never be trained
@torch.no_grad()
def with_differences(source: Generator, parts: Sequence[tuple[Difference, float]]) -> Generator:
    """Return source + sum of amount * difference, in eval mode, where the source is. What no difference changes is the
    source's own memory, so that a thousand such generators take little more than one: change none of their weights in
    place.

    A sum is added in single precision, in the order of the parts: the same on every machine. Raises ValueError when a
    difference is of a generator that is built otherwise; another source of the same build is taken."""
    for one, _ in parts:
        _require_fitting(source, one)
    source.mapping.centre()
    named = dict(source.named_parameters()) | dict(source.named_buffers())
    changed = {name for one, amount in parts if amount for name in one.weights}
    kept = {id(value): value for name, value in named.items() if name not in changed}
    result = copy.deepcopy(source, kept).eval().requires_grad_(False)
    places = dict(result.named_parameters()) | dict(result.named_buffers())
    for one, amount in parts:
        for name, change in one.weights.items() if amount else ():
            places[name].add_(change.to(places[name].device, torch.float32), alpha=amount)
    return result


def mixed(source: Generator, parts: Sequence[tuple[Generator, float]]) -> Generator:
    """Return source + sum of amount * (generator - source), for generators that were adapted from the source. With the
    amount 1 for one and 0 for the others it is that one, to the rounding of single precision; raises ValueError as
    `with_differences`."""
    source.mapping.centre()
    return with_differences(source, [(_exact(source, one), amount) for one, amount in parts])


@torch.no_grad()
def _exact(source: Generator, adapted: Generator) -> Difference:
    """The difference in single precision, where the source is; none where there is no other weight."""
    require_alike(source, adapted)
    adapted.mapping.centre()
    before = dict(source.named_parameters()) | dict(source.named_buffers())
    after = dict(adapted.named_parameters()) | dict(adapted.named_buffers())
    changes = {}
    for name, value in before.items():
        other = after[name].to(value)
        if other.data_ptr() != value.data_ptr() and not torch.equal(other, value):
            changes[name] = other - value
    return Difference(changes, source.config, "")


def _require_fitting(source: Generator, one: Difference) -> None:
    expected = source.state_dict()
    for name, change in one.weights.items():
        if name not in expected or expected[name].shape != change.shape:
            raise ValueError(
                f"This difference is not of such a generator ({name} {list(change.shape)}); choose the one that it was "
                "made from, or one of the same sizes."
            )


def save_difference(found: Difference, path: str | Path) -> None:
    """Write a difference, atomically. Raises CheckpointError when the file cannot be written."""
    path = Path(path)
    require_finite(found.weights, path)
    notes = {**found.metadata, **describe(found.config), "format": DIFFERENCE, "source_digest": found.source}
    with writing(path) as temporary:
        write_tensors(temporary, {name: value.contiguous() for name, value in found.weights.items()}, notes)


def load_difference(path: str | Path) -> Difference:
    """Read a file of `save_difference`. No pickle is executed.

    Raises CheckpointError when the file is missing, damaged, or something else."""
    path = Path(path)
    with reading(path), path.open("rb") as file:
        if not is_safetensors(file.read(9)):
            raise CheckpointError(f"{path} holds no differences; choose a file that Save Difference wrote.")
        tensors, config, metadata = read_difference(file, path.stat().st_size)
    for name, value in tensors.items():
        if not bool(value.float().isfinite().all()):
            raise CheckpointError(f"{path}: {name!r} has values that are not finite numbers; make it again.")
    kept = {key: value for key, value in metadata.items() if key not in ("format", "config", "source_digest")}
    return Difference(tensors, config, metadata.get("source_digest", ""), kept)


def difference_metadata(
    source: tuple[str, Mapping[str, str]], parts: Sequence[tuple[str, Mapping[str, str], float]]
) -> dict[str, str]:
    """Make the metadata of a generator that is the sum of a source, a name with its metadata, and parts, each a name, its
    metadata and the amount. Licences of all hold."""
    name, own = source
    said = [{"name": one, "amount": amount, "prompt": found.get("prompt", "")} for one, found, amount in parts]
    result = {key: value for key, value in own.items() if key not in ("format", "config", "name", "steps_done")}
    result |= {"source": name, "sum": json.dumps(said)}
    if prompts := [one["prompt"] for one in said if one["prompt"]]:
        result["prompt"] = "; ".join(prompts)
    licence = joint_licence(own, *(metadata for _, metadata, _ in parts))
    return result | ({"license": licence} if licence else {})
