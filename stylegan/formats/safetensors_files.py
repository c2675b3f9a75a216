"""Our own files: safetensors with the whole configuration as metadata, so that a path is enough.

A file is the length of its header in 8 bytes, the header as JSON, and the tensors' numbers one after the other.
"""

import dataclasses
import json
import math
import mmap
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..architectures import ARCHITECTURES
from ..config import SQUARE, Config, GeneratorConfig
from .errors import Damaged, Unsupported
from .source import MAPPED, Source
from .weights import Storage, Weight, row_major

FORMAT = "stylegan-fusion/1"
"""Value of the metadata entry "format" of the files that this version writes."""

DIFFERENCE = "stylegan-fusion-difference/1"
"""The same of files that hold only what was changed of a generator."""

OWN = "StyleGAN Fusion (safetensors)"

MAX_HEADER = 4_000_000  # bytes; that of the largest diffusion models is a tenth

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def describe(config: Config) -> dict[str, str]:
    """Return the metadata that makes a path enough."""
    settings = {"architecture": config.architecture, **dataclasses.asdict(config)}
    if config.const_size == SQUARE:  # of nearly all: earlier versions, which do not know it, read these
        settings.pop("const_size", None)
    return {"format": FORMAT, "config": json.dumps(settings)}


def is_safetensors(start: bytes) -> bool:
    """Tell whether a file that begins with these bytes, nine at least, may be one."""
    return start[8:9] == b"{" and start[7:8] == b"\0"


def read_header(file: BinaryIO, size: int) -> dict[str, Any]:
    """Read the header of an open file of `size` bytes. Raises FileError."""
    file.seek(0)
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= MAX_HEADER:
        raise Damaged("its header is larger than any" if length else "it is empty")
    if size < 8 + length:
        raise Damaged("it ends in its header")
    try:
        header = json.loads(file.read(length).decode())
        if not all(isinstance(value, str) for value in header.get("__metadata__", {}).values()):
            raise ValueError("the metadata is not text")
    except (ValueError, AttributeError, RecursionError):
        raise Damaged("its header cannot be read") from None
    return header


def is_own(metadata: Mapping[str, str]) -> bool:
    """Tell whether the text entries are those of a file of ours."""
    return metadata.get("format", "").startswith("stylegan-fusion/")


def is_difference(metadata: Mapping[str, str]) -> bool:
    """Tell whether the text entries are those of a file that holds only what was changed of a generator."""
    return metadata.get("format", "").startswith("stylegan-fusion-difference/")


def foreign_weights(file: BinaryIO, size: int) -> dict[str, Weight]:
    """Return the tensors of another program's file. Raises FileError."""
    header = read_header(file, size)
    header.pop("__metadata__", None)
    begin = file.tell()
    return {name: read_entry(file, size, begin, name, described) for name, described in header.items()}


def read_entry(file: BinaryIO, size: int, begin: int, name: str, described: Any) -> Weight:
    """Return the tensor that an entry of a header describes, in a file of `size` bytes whose header ends at `begin`.
    Raises FileError."""
    match described:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            if (
                0 <= start <= end <= size - begin
                and len(shape) <= 16
                and all(type(n) is int and 0 <= n < 2**40 for n in shape)
            ):
                dtype = _DTYPES.get(kind)
                count = math.prod(shape)
                if dtype is None or end - start == count * dtype.itemsize:
                    storage = Storage(file, begin + start, count, dtype)
                    return Weight(lambda: storage, tuple(shape), row_major(tuple(shape)))
    raise Damaged(f"the header is wrong about {name[:80]!r}")


def read(file: BinaryIO, size: int) -> Source:
    """Read the generator in an open file of ours, of `size` bytes. Raises FileError."""
    header = read_header(file, size)
    metadata = header.pop("__metadata__", {})
    config = described_config(metadata)
    described = {key: value for key, value in metadata.items() if key not in ("format", "config")}
    is_single = all(isinstance(entry, dict) and entry.get("dtype") == "F32" for entry in header.values())
    view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if size < MAPPED and is_single else None
    return Source(OWN, config, _tensors(file, size, header, view), described, views=view is not None)


def read_difference(file: BinaryIO, size: int) -> tuple[dict[str, Tensor], Config, dict[str, str]]:
    """Read what an open file of `size` bytes holds of a generator's changes: tensors, the configuration of the generator,
    and the text entries. Raises FileError."""
    header = read_header(file, size)
    metadata = header.pop("__metadata__", {})
    if not is_difference(metadata):
        raise Unsupported("holds no differences", "choose a file that Save Difference wrote")
    if metadata["format"] != DIFFERENCE:
        raise _of_another_version(metadata["format"], DIFFERENCE)
    return _tensors(file, size, header, None), _config(metadata), metadata


def described_config(metadata: Mapping[str, str]) -> Config:
    """Return the configuration that the text entries of a file of ours describe. Raises FileError."""
    if (written := metadata.get("format", "")) != FORMAT:
        raise _of_another_version(written, FORMAT)
    return _config(metadata)


def _of_another_version(written: str, ours: str) -> Unsupported:
    return Unsupported(
        f"was written by another version of StyleGAN Fusion ({written[:40]}; this one reads {ours})", "update it"
    )


def _config(metadata: Mapping[str, str]) -> Config:
    try:
        sizes = json.loads(metadata["config"])
        kind = ARCHITECTURES[
            sizes.pop("architecture", GeneratorConfig.architecture)
        ].config  # the first files named none
        return kind(**{name: _tuples(value) for name, value in sizes.items()})
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Unsupported(f"has no usable configuration ({str(error)[:200]})", "save the generator again") from None


def _tuples(value: Any) -> Any:
    """What a configuration has as tuples, of JSON's lists."""
    return tuple(map(_tuples, value)) if type(value) is list else value


def _tensors(file: BinaryIO, size: int, header: dict[str, Any], view: mmap.mmap | None) -> dict[str, Tensor]:
    """Views of the file, or, without one, copies."""
    begin, position = file.tell(), 0
    tensors = {}
    for name, dtype, shape, start, end in sorted(
        (tensor_entry(*item) for item in header.items()), key=lambda entry: entry[3]
    ):
        if start != position or end - start != math.prod(shape) * dtype.itemsize or begin + end > size:
            raise Damaged(f"the header is wrong about {name!r}")
        if view is not None and start < end:
            numbers = torch.frombuffer(view, dtype=dtype, count=math.prod(shape), offset=begin + start)
        else:
            numbers = Storage(file, begin + start, math.prod(shape), dtype).read(0, math.prod(shape) - 1)
        tensors[name] = numbers.reshape(shape)
        position = end
    if begin + position != size:
        raise Damaged("its header and its size disagree")
    return tensors


def tensor_entry(name: str, described: Any) -> tuple[str, torch.dtype, list[int], int, int]:
    """Read a header's entry of one tensor: its name, type, shape, and start and end in bytes. Raises FileError."""
    match described:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(start), int(end)]} if kind in _DTYPES:
            if 0 <= start <= end and len(shape) <= 8 and all(type(n) is int and 0 < n < 2**40 for n in shape):
                return name, _DTYPES[kind], shape, start, end
    raise Damaged(f"the header is wrong about {name[:80]!r}")
