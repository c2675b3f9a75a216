"""From any format to our safetensors, and from ours to rosinality's layout, so that other programs can use it."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch

from .checkpoint import Checkpoint, CheckpointError, finite_weights, save_generator, write_file
from .crop import Crop, find_crop
from .formats import FileError, rosinality
from .formats.safetensors_files import OWN
from .networks import Generator

SUFFIXES = (".safetensors", ".pt")
"""Endings of the files that `write_generator` writes: our format, and rosinality's layout."""


def provenance(checkpoint: Checkpoint, name: str) -> dict[str, str]:
    """Return the metadata of a generator from the file `name`, with where it comes from and under which licence.

    What our own files say of themselves is kept; for others' the bars of pictures that are not square are looked
    for."""
    if checkpoint.format == OWN:
        return {"source": name, **checkpoint.metadata}
    crop = {} if (found := find_crop(checkpoint.generator)) is None else {"crop": str(found)}
    known = "NVlabs publishes its own generators for non-commercial use" if "NVlabs" in checkpoint.format else ""
    note = f"that of the source, {name}" + (f" ({known})" if known else "")
    return {"source": name, "source_format": checkpoint.format, "license": note, **crop, **checkpoint.metadata}


def crop_of(metadata: Mapping[str, str]) -> Crop | None:
    """Return what counts of a generator's pictures, from its metadata; None for all. Raises
    ValueError for a damaged entry."""
    return Crop.parse(metadata["crop"]) if metadata.get("crop") else None


def with_crop(metadata: Mapping[str, str], wanted: str) -> dict[str, str]:
    """Return the metadata with the crop that a user asks for: "none", "auto" (as it is) or, for example, "512x384".

    Raises ValueError when it is something else."""
    wanted = wanted.strip().lower()
    others = {key: value for key, value in metadata.items() if key != "crop"}
    if wanted == "none":
        return others
    return dict(metadata) if wanted in ("", "auto") else {**others, "crop": str(Crop.parse(wanted))}


def write_generator(generator: Generator, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write the format that the ending of `path` names, one of SUFFIXES.

    Raises ValueError for another ending, CheckpointError when the file cannot be written or the layout of a .pt has no
    place for the generator."""
    path = Path(path)
    if path.suffix == ".safetensors":
        save_generator(generator, path, dict(metadata))
    elif path.suffix == ".pt":
        _save_rosinality(generator, path, metadata)
    else:
        raise ValueError(f"{path.name} ends in neither {' nor '.join(SUFFIXES)}; give it the ending of what to write.")


def _save_rosinality(generator: Generator, path: Path, metadata: Mapping[str, str]) -> None:
    weights = finite_weights(generator, path)
    try:
        content = rosinality.write(generator.config, weights, metadata)
    except FileError as error:
        raise CheckpointError(f"{path} {error}") from error
    data = io.BytesIO()
    torch.save(content, data)
    write_file(path, data.getvalue())
