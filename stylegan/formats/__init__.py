"""Generators in the formats that people have them in, recognized by what is in the file, not by its name.

Everything is read as data: no pickle is ever executed. A file is opened as one of three containers (safetensors, torch.save,
pickle), the networks in it are found behind whatever wraps them (`unwrap`), one is recognized by the name of a weight
(`layouts`), and read by its layout until no weight is left.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from . import safetensors_files, tensorflow
from .errors import Damaged, FileError, Unsupported
from .inert_pickle import read_pickle
from .layouts import read_networks
from .names import require_harmless
from .source import Source
from .torch_files import STARTS, read_torch

__all__ = ["FileError", "Source", "read_source"]


def read_source(path: Path) -> Source:
    """Read the generator in a file. Raises FileError, and OSError when the file cannot be read."""
    kind = path.stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # opening a folder says that it is one; a pipe would wait
        raise Unsupported("is no ordinary file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(64)
        if safetensors_files.is_safetensors(start):
            return _read_safetensors(file, size)
        if start.startswith(STARTS):
            return read_networks(read_torch(file))
        if start.startswith(b"\x80"):
            return _read_pickle(file, size)
    raise _stranger(start, size)


def _read_safetensors(file: BinaryIO, size: int) -> Source:
    metadata = safetensors_files.read_header(file, size).get("__metadata__") or {}
    if safetensors_files.is_own(metadata):
        return safetensors_files.read(file, size)
    if safetensors_files.is_difference(metadata):
        raise Unsupported(
            "holds only what was changed of a generator",
            "load the generator that it was made from, and add this file with Apply Difference or stylegan-fusion apply",
        )
    return read_networks(safetensors_files.foreign_weights(file, size))


def _read_pickle(file: BinaryIO, size: int) -> Source:
    content = read_pickle(file, 0, size)
    require_harmless(content)
    if (network := tensorflow.find_network(content.root)) is not None:
        return tensorflow.read(network)
    return read_networks(content.root)


def _stranger(start: bytes, size: int) -> FileError:
    """What to say of a file that is none of these."""
    if size == 0:
        return Damaged("it is empty")
    if start.startswith(b"version https://git-lfs"):
        return Unsupported("only points to a file in git LFS", "run `git lfs pull` there, or download the file itself")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return Unsupported("is a web page: the download went wrong", "download the file again")
    if start.startswith((b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ")):
        return Unsupported("is a compressed archive", "unpack it and choose what is inside")
    for beginnings, what in _FORMATS.items():
        if start.startswith(beginnings):
            return Unsupported(f"is {what}", "choose the file of the program that trained the generator (.pkl, .pt)")
    return Unsupported(
        "is no generator that StyleGAN Fusion knows",
        "choose a safetensors, .pt, .pth or .pkl file of a StyleGAN2, StyleGAN3 or EG3D program",
    )


_FORMATS = {
    (
        b"\x08\x03\x12",
        b"\x08\x04\x12",
        b"\x08\x05\x12",
        b"\x08\x06\x12",
        b"\x08\x07\x12",
        b"\x08\x08\x12",
        b"\x08\x09\x12",
        b"\x08\x0a\x12",
    ): "an ONNX model, whose weights cannot be trained further",
    (b"\x89HDF",): "an HDF5 file (Keras)",
    (b"GGUF",): "a GGUF file, a language or diffusion model",
    (b"\x93NUMPY",): "an array of numpy, such as latents, and no generator",
    (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8"): "a picture",
}
"""Other formats by how their files begin."""
