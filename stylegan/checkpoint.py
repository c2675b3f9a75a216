"""Reading and writing generators. Written are safetensors with the whole configuration as metadata, so that a path is
enough; read is every format in `formats`."""

import contextlib
import gc
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..training.files import replacing, write_tensors
from .config import Config
from .formats import FileError, Source, read_source
from .formats.safetensors_files import OWN, describe, described_config, is_own, is_safetensors, read_header
from .networks import Generator

SPARE = 190_000_000
"""Bytes that a generator may take in memory beyond one and a half times its file: files in half precision double."""


class CheckpointError(Exception):
    """A generator file cannot be read or written; the message says which, why, and what to do."""


def save_generator(generator: Generator, path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write weights (in the generator's own precision) and configuration, atomically: an earlier file at `path` stays
    whole until the new one is complete. `metadata` is added to the file's own entries "format" and "config".

    Raises CheckpointError when the file cannot be written or a weight is not finite, ValueError when metadata is not
    text."""
    path = Path(path)
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ValueError(f"The metadata entry {key!r} is not text; a checkpoint keeps only text: convert it first.")
    tensors, notes = finite_weights(generator, path), {**(metadata or {}), **describe(generator.config)}
    with writing(path) as temporary:
        write_tensors(temporary, tensors, notes)


def finite_weights(generator: Generator, path: Path) -> dict[str, Tensor]:
    """Return what is to be written to `path`, on the CPU. Raises CheckpointError when a weight is not finite."""
    tensors = all_weights(generator)
    require_finite(tensors, path)
    return tensors


def all_weights(generator: Generator) -> dict[str, Tensor]:
    """Return the weights by name, on the CPU, the centre of truncation among them."""
    generator.mapping.centre()
    # A compiled module carries "_orig_mod." in its names.
    weights = generator.state_dict().items()
    return {name.replace("_orig_mod.", ""): value.detach().cpu().contiguous() for name, value in weights}


def require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError, which says that `path` was not written, when a weight is not finite."""
    for name, value in tensors.items():
        if not _is_finite(value):
            raise CheckpointError(
                f"{path} was not written: the generator's weight {name!r} has values that are not finite numbers. "
                "Go back to an earlier generator."
            )


def write_file(path: Path, data: bytes) -> None:
    """Make the folders of `path` and write the file with `write_atomically`. Raises CheckpointError
    when it cannot be written."""
    with writing(path) as temporary, temporary.open("xb") as file:
        file.write(data)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """`replacing`, with its folders made. Raises CheckpointError when the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "free some space or choose another folder"
        if isinstance(error, PermissionError):
            advice = "close programs that use the file, or choose another name or folder"
        raise CheckpointError(
            f"{path} could not be written ({reason}). Nothing there was changed; {advice}."
        ) from error


def save_or_rescue(generator: Generator, path: str | Path, metadata: dict[str, str] | None = None) -> Path:
    """Save with `save_generator` what took hours to make: when `path` cannot be written, the file goes beside it under
    a name that is free (another program may hold `path`), else into a new folder among the system's temporary files.
    Returns where it is. Raises CheckpointError when that fails, too."""
    path = Path(path)
    places = [path, path.with_name(f"{path.stem}-{secrets.token_hex(3)}{path.suffix}")]
    for place in places:
        with contextlib.suppress(CheckpointError):
            save_generator(generator, place, metadata)
            return place
    try:
        rescue = Path(tempfile.mkdtemp(prefix="stylegan-fusion-")) / path.name
    except OSError as error:
        raise CheckpointError(
            f"{path} could not be written, and neither could the system's temporary files ({error}). Free some space."
        ) from error
    save_generator(generator, rescue, metadata)
    return rescue


@dataclass(frozen=True)
class Checkpoint:
    """A Checkpoint is a generator as a file held it."""

    generator: Generator  # in float32 on the CPU, in eval mode and without gradients
    format: str  # what kind of file it is, in words
    metadata: dict[str, str] = field(default_factory=dict)  # what the file says of itself; empty for others' formats


@torch.inference_mode(False)  # a host may load within inference mode, whose tensors could never be trained
def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load the generator in a file of any format in `formats`, recognized by its content. No pickle is executed.

    Raises CheckpointError when the file is missing, damaged, refused, or none of them."""
    path = Path(path)
    with reading(path):
        with _no_collection():
            source = read_source(path)
        with torch.device("meta"):
            generator = Generator(source.config)
        _check_shapes(path, generator, source)
        _check_memory(path, source)
        weights = {name: _own_finite(path, name, value, source.views) for name, value in source.weights.items()}
        generator.load_state_dict(_complete(generator, weights), assign=True)
    generator.synthesis.restore_constants()
    generator.eval().requires_grad_(False)
    generator.mapping.has_w_avg = "mapping.w_avg" in source.weights
    return Checkpoint(generator, source.format, dict(source.metadata))


def load_generator(path: str | Path) -> Generator:
    """Load the generator of `load_checkpoint`."""
    return load_checkpoint(path).generator


def read_config(path: str | Path) -> Config:
    """Read what kind of generator a file holds; of one of ours without its weights. Raises CheckpointError as
    load_checkpoint."""
    path = Path(path)
    with reading(path):
        with path.open("rb") as file:
            if is_safetensors(file.read(9)):
                metadata = read_header(file, os.fstat(file.fileno()).st_size).get("__metadata__") or {}
                if is_own(metadata):
                    return described_config(metadata)
        with _no_collection():
            return read_source(path).config


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the text entries of a safetensors file, without its weights. Raises CheckpointError as load_checkpoint."""
    path = Path(path)
    with reading(path), path.open("rb") as file:
        if not is_safetensors(file.read(9)):
            raise CheckpointError(f"{path} is not a safetensors file; choose a generator saved by StyleGAN Fusion.")
        return read_header(file, os.fstat(file.fileno()).st_size).get("__metadata__") or {}


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the search for garbage, which the thousands of objects of a pickle would set off for nothing: it takes as
    long as reading the file."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what fails in the body, where the file at `path` is read, into a CheckpointError that
    says why, and what to do."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}; check the name and the folder.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{path} could not be read ({reason}); check that it is a readable file.") from error
    except ValueError as error:  # a name that no file can have
        raise CheckpointError(f"{path} could not be read ({error}); check the name.") from error
    except FileError as error:
        raise CheckpointError(f"{path} {error}") from error
    except (RuntimeError, MemoryError) as error:  # from what a hostile file can nest or claim
        raise CheckpointError(
            f"{path} makes no sense as a checkpoint, or needs more memory than there is; copy or download it again."
        ) from error


def _may_lack(source: Source, name: str) -> bool:
    """Whether other programs' files may come without this weight: the average of w is estimated later, and noise was
    drawn anew for each picture."""
    return source.format != OWN and (name == "mapping.w_avg" or name.endswith("noise_const"))


def _complete(generator: Generator, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with what the file lacks."""
    random = torch.Generator().manual_seed(0)
    for name, value in generator.state_dict().items():
        if name not in weights:
            weights[name] = torch.randn(value.shape, generator=random)
    return weights


def _own_finite(path: Path, name: str, value: Tensor, is_view: bool) -> Tensor:
    """In float32 and its own memory: a view would keep the file open, or all of a larger tensor alive."""
    value = value.detach()
    whole = value.is_contiguous() and value.untyped_storage().nbytes() == value.numel() * value.element_size()
    value = value.to(torch.float32, memory_format=torch.contiguous_format, copy=is_view or not whole)
    if not _is_finite(value):
        raise CheckpointError(
            f"{path}: the weight {name!r} has values that are not finite numbers; go back to an earlier checkpoint."
        )
    return value


def _check_memory(path: Path, source: Source) -> None:
    """Before the weights are copied: a small file could fill the memory with one storage under many names."""
    storages = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in source.weights.values()
    }
    if sum(value.nbytes for value in source.weights.values()) > sum(storages.values()):
        raise CheckpointError(f"{path} is damaged (several weights have the same numbers); copy or download it again.")
    needed, size = sum(4 * value.numel() for value in source.weights.values()), path.stat().st_size
    if needed > 1.5 * size + SPARE:
        raise CheckpointError(
            f"{path} would take {needed / 1e6:.0f} MB in single precision, far more than the file; save it in that."
        )


def _is_finite(value: Tensor) -> bool:
    # Whatever is not finite makes the sum so, and adding is several times faster than looking at each number.
    return bool(value.sum(dtype=torch.float32).isfinite()) or bool(torch.isfinite(value).all())


_AGAIN = "choose the file that its program wrote first"


def _check_shapes(path: Path, generator: Generator, source: Source) -> None:
    expected, tensors = generator.state_dict(), source.weights
    for name in sorted(expected.keys() ^ tensors.keys()):
        if _may_lack(source, name):
            continue
        state = "lacks" if name in expected else "has an unknown"
        raise CheckpointError(f"{path} {state} weight {name!r}, against its own configuration; {_AGAIN}.")
    for name, value in tensors.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: the weight {name!r} has shape {list(value.shape)}, but its configuration "
                f"needs {list(expected[name].shape)}; {_AGAIN}."
            )
        if not value.is_floating_point():
            raise CheckpointError(f"{path}: the weight {name!r} holds no fractions; choose another file.")
