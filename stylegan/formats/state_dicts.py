"""Tensors by name, out of files that hold nothing but tensors: torch's state dictionaries, and safetensors.

Only what is asked for is read, so that a part of a large file costs no more memory than the part.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from . import safetensors_files
from .arrays import weight
from .errors import Damaged, Unsupported
from .inert_pickle import Pickle, PickleReader
from .modules import dictionary
from .names import TENSORS
from .torch_files import STARTS, read_torch
from .weights import Weight

_HARMLESS = TENSORS | {"torch.nn.parameter.Parameter", *(kind.replace("Storage", "Tensor") for kind in TENSORS)}
"""What torch has written for tensors in state dictionaries since its first versions."""


def read_tensors(path: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Read those of the named tensors that the file has, in float32 and in memory of their own.

    Raises FileError, also when one has another shape than the given one or a value that is not finite, and OSError
    when the file cannot be read."""
    if path.exists() and not path.is_file():  # a pipe would wait
        raise Unsupported("is no ordinary file")
    with path.open("rb") as file:
        found = _weights(file, os.fstat(file.fileno()).st_size)
        tensors = {}
        for name, shape in shapes.items():
            if name in found:
                if found[name].shape != tuple(shape):
                    raise Unsupported(
                        f"has a weight {name!r} of shape {list(found[name].shape)} instead of {list(shape)}"
                    )
                try:
                    value = found[name].read()
                except Damaged as error:
                    raise Damaged(f"its weight {name!r} makes no sense") from error
                tensors[name] = value.to(torch.float32, memory_format=torch.contiguous_format)
                if not torch.isfinite(tensors[name]).all():
                    raise Damaged(f"its weight {name!r} has values that are not finite numbers")
        return tensors


def _weights(file: BinaryIO, size: int) -> dict[str, Weight]:
    start = file.read(64)
    if safetensors_files.is_safetensors(start):
        return safetensors_files.foreign_weights(file, size)
    if not start.startswith(STARTS):
        raise Unsupported("is neither a safetensors file nor one of torch.save", "download it again")
    state = dictionary(read_torch(file, _read_plain))
    if state is None:
        raise Unsupported("is a torch file, but holds no state dictionary")
    tensors = {name: weight(value) for name, value in state.items()}
    return {name: value for name, value in tensors.items() if value is not None}


class _TextReader(PickleReader):
    """Takes Python 2's strings for text: state dictionaries hold no other bytes."""

    def push_bytes(self, length: int) -> None:
        self.push_text(length)


def _read_plain(file: BinaryIO, start: int, end: int) -> Pickle:
    content = _TextReader(file, start, end).run()
    foreign = sorted(str(name) for name in content.globals if str(name) not in _HARMLESS)
    if foreign:
        raise Unsupported(
            f"is refused: it names {foreign[0][:80]}, which plain weights do not need, and which other programs may run "
            "when they open the file",
            "get the weights from another place",
        )
    return content
