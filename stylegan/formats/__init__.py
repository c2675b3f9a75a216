"""Generators in the formats that people have them in, recognized by what is in the file, not by its name.

Everything is read as data: no pickle is ever executed.
"""

import dataclasses
import os
import stat
from pathlib import Path
from typing import BinaryIO

from . import nvlabs, rosinality, safetensors_files, tensorflow, torch_files, torch_layout
from .errors import Damaged, FileError, Unsupported
from .inert_pickle import read_pickle
from .names import require_harmless
from .source import Source

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
            return safetensors_files.read(file, size)
        if start.startswith((torch_layout.ZIP_START, torch_layout.LEGACY_START)):
            return _read_torch(file, path)
        if start.startswith(b"\x80"):
            return _read_pickle(file, size)
    raise _stranger(start, size)


def _read_torch(file: BinaryIO, path: Path) -> Source:
    root, views = torch_files.load_torch_file(file, path, rosinality.generator_state)
    if not rosinality.is_rosinality(rosinality.generator_state(root)):
        raise Unsupported("is a torch file without a StyleGAN2 generator in rosinality's layout")
    return dataclasses.replace(rosinality.read(root), views=views)


def _read_pickle(file: BinaryIO, size: int) -> Source:
    content = read_pickle(file, 0, size)
    require_harmless(content.globals)
    if tensorflow.is_tensorflow(content.root):
        return tensorflow.read(content.root)
    if nvlabs.is_nvlabs(content.root):
        return nvlabs.read(content.root)
    raise Unsupported("is a pickle without a generator of NVlabs' StyleGAN2 or StyleGAN3 programs")


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
    return Unsupported(
        "is no generator that StyleGAN Fusion knows",
        "choose a safetensors file of its own, a .pt in rosinality's layout, or a .pkl of NVlabs' StyleGAN2 or StyleGAN3",
    )
