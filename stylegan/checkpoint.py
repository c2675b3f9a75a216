"""Reading and writing generators: safetensors with the whole configuration as metadata, so that a path is enough."""

import dataclasses
import json
import os
import secrets
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from .config import GeneratorConfig
from .networks import Generator

FORMAT = "stylegan-fusion/1"
"""Value of the metadata entry "format" of the files that this version writes."""


class CheckpointError(Exception):
    """A generator file that cannot be read or written; the message says which, why, and what to do."""


def save_generator(generator: Generator, path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write weights (in the generator's own precision) and configuration, atomically: an earlier file at `path` stays
    whole until the new one is complete. `metadata` is added to the file's own entries "format" and "config".

    Raises CheckpointError when the file cannot be written or a weight is not finite, ValueError when metadata is not
    text."""
    path = Path(path)
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ValueError(f"The metadata entry {key!r} is not text; a checkpoint keeps only text: convert it first.")
    config = json.dumps(dataclasses.asdict(generator.config))
    weights = generator.state_dict().items()
    # A compiled module carries "_orig_mod." in its names.
    tensors = {name.replace("_orig_mod.", ""): value.detach().cpu().contiguous() for name, value in weights}
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{path} was not written: the generator's weight {name!r} has values that are not finite numbers. "
                "Go back to an earlier generator."
            )
    data = save(tensors, {**(metadata or {}), "format": FORMAT, "config": config})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(
            f"{path} could not be written ({reason}). Nothing there was changed; free some space or choose another "
            "folder."
        ) from error


def save_or_rescue(generator: Generator, path: str | Path, metadata: dict[str, str] | None = None) -> Path:
    """save_generator, for what took hours to make: when `path` cannot be written, the file goes into a new folder among
    the system's temporary files. Returns where it is. Raises CheckpointError when that fails, too."""
    path = Path(path)
    try:
        save_generator(generator, path, metadata)
        return path
    except CheckpointError:
        rescue = Path(tempfile.mkdtemp(prefix="stylegan-fusion-")) / path.name
        save_generator(generator, rescue, metadata)
        return rescue


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data` in one step, through a temporary file in the same folder."""
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@torch.inference_mode(False)  # a host may load within inference mode, whose tensors could never be trained
def load_generator(path: str | Path) -> Generator:
    """The generator in the file, in float32 on the CPU, in eval mode and without gradients.

    Raises CheckpointError when the file is missing, damaged, or not one of ours."""
    path = Path(path)
    with _reading(path):
        data = path.read_bytes()
    config = _config(path, _header(path, data).get("__metadata__") or {})
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or incomplete ({error}); copy or download it again.") from None
    with torch.device("meta"):
        generator = Generator(config)
    weights = {name: value.float() for name, value in tensors.items()}
    _check(path, generator, weights)
    generator.load_state_dict(weights, assign=True)
    generator.synthesis.restore_constants()
    return generator.eval().requires_grad_(False)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text entries of a safetensors file, without reading its weights. Raises CheckpointError as load_generator."""
    path = Path(path)
    with _reading(path), path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        data = start + file.read(min(length, _MAX_HEADER))
    return _header(path, data).get("__metadata__") or {}


_MAX_HEADER = 100_000_000  # bytes; the limit of safetensors itself


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}; check the name and the folder.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{path} could not be read ({reason}); check that it is a readable file.") from error


def _header(path: Path, data: bytes) -> dict:
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= length <= _MAX_HEADER or data[8:9] != b"{":
        raise CheckpointError(f"{path} is not a safetensors file; choose a generator saved by StyleGAN Fusion.")
    if len(data) < 8 + length:
        raise CheckpointError(f"{path} is damaged or incomplete (it ends in its header); copy or download it again.")
    try:
        header = json.loads(data[8 : 8 + length])
        if not all(isinstance(value, str) for value in header.get("__metadata__", {}).values()):
            raise ValueError("the metadata is not text")
    except (ValueError, AttributeError, RecursionError):
        raise CheckpointError(f"{path} is damaged (its header cannot be read); copy or download it again.") from None
    return header


def _config(path: Path, metadata: dict[str, str]) -> GeneratorConfig:
    written = metadata.get("format", "")
    if not written.startswith("stylegan-fusion/"):
        raise CheckpointError(
            f"{path} holds weights of something else, not a StyleGAN Fusion generator; choose a file that Save "
            "Generator wrote."
        )
    if written != FORMAT:
        raise CheckpointError(
            f"{path} was written by another version of StyleGAN Fusion ({written}; this one reads {FORMAT}); update it."
        )
    try:
        return GeneratorConfig(**json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has no usable configuration ({error}); save the generator again.") from None


def _check(path: Path, generator: Generator, tensors: dict[str, torch.Tensor]) -> None:
    expected = generator.state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        state = "lacks" if name in expected else "has an unknown"
        raise CheckpointError(f"{path} {state} weight {name!r}, against its own configuration. Save it again.")
    for name, value in tensors.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: the weight {name!r} has shape {list(value.shape)}, but its configuration "
                f"needs {list(expected[name].shape)}. Save it again."
            )
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{path}: the weight {name!r} has values that are not finite numbers; go back to an earlier checkpoint."
            )
