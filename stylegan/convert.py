"""From any format to our safetensors, and from ours to other programs' layouts."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch

from .checkpoint import Checkpoint, CheckpointError, finite_weights, save_generator, write_file
from .crop import Crop, find_crop
from .formats import FileError, nvlabs, rosinality
from .formats.safetensors_files import OWN
from .networks import Generator

SUFFIXES = (".safetensors", ".pt")
"""Endings of the files that `write_generator` writes: our format, and other programs' layouts."""

WRITTEN = {"rosinality": rosinality.write, "nvlabs": nvlabs.write}
"""What is written into a .pt, by the name of its layout; the usual one first."""


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


def require_layout(path: str | Path, layout: str | None) -> None:
    """Raise ValueError unless `write_generator` writes files of this ending, in this layout; None: the usual one."""
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} ends in neither {' nor '.join(SUFFIXES)}; the ending says what to write.")
    if layout not in (None, *WRITTEN):
        raise ValueError(f"There is no layout {layout!r} to write; choose from {', '.join(WRITTEN)}.")
    if layout is not None and suffix != ".pt":
        raise ValueError(
            f"The layout {layout} is written as a .pt, not as {suffix}; change the ending, or leave it out."
        )


def write_generator(
    generator: Generator, path: str | Path, metadata: Mapping[str, str], layout: str | None = None
) -> None:
    """Write the format that the ending of `path` names, one of SUFFIXES; a .pt in one of the layouts WRITTEN.

    Raises ValueError for another ending or layout, CheckpointError when the file cannot be written or the layout has no
    place for the generator."""
    require_layout(path, layout)
    path = Path(path)
    if path.suffix == ".safetensors":
        save_generator(generator, path, dict(metadata))
    else:
        _save_layout(generator, path, metadata, layout or next(iter(WRITTEN)))


def _save_layout(generator: Generator, path: Path, metadata: Mapping[str, str], layout: str) -> None:
    weights = finite_weights(generator, path)
    try:
        content = WRITTEN[layout](generator.config, weights, metadata)
    except FileError as error:
        raise CheckpointError(f"{path} {error}") from error
    data = io.BytesIO()
    torch.save(content, data)
    write_file(path, data.getvalue())
