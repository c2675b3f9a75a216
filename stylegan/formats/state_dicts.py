"""Tensors by name, out of files that hold nothing but tensors: torch's state dictionaries, and safetensors.

Only what is asked for is read, so that a part of a large file costs no more memory than the part. Not even torch's own
restricted unpickler sees a file: what a pickle says is read as data, and the numbers straight from their places.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from . import safetensors_files
from .errors import Damaged, Unsupported
from .inert_pickle import Chunk, Global, Pickle, PickleReader, Record, Stored
from .names import ITEM_SIZES, TENSORS
from .torch_layout import FLOATS, LEGACY_START, ZIP_START, Places, is_within, legacy_content, storage_of, zip_content

_HARMLESS = TENSORS | {"torch.nn.parameter.Parameter", *(kind.replace("Storage", "Tensor") for kind in TENSORS)}
"""What torch has written for tensors in state dictionaries since its first versions."""


def read_tensors(path: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Read those of the named tensors that the file has, in float32 and in memory of their own.

    Raises FileError, also when one has another shape than the given one or a value that is not finite, and OSError
    when the file cannot be read."""
    if path.exists() and not path.is_file():  # a pipe would wait
        raise Unsupported("is no ordinary file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(64)
        if safetensors_files.is_safetensors(start):
            read = _from_safetensors(file, size)
        elif start.startswith(ZIP_START):
            read = _from_torch(file, *zip_content(file, size, _read_plain))
        elif start.startswith(LEGACY_START):
            read = _from_torch(file, *legacy_content(file, 0, size, _read_plain))
        else:
            raise Unsupported("is neither a safetensors file nor one of torch.save", "download it again")
        tensors = {}
        for name, shape in shapes.items():
            if (value := read(name, tuple(shape))) is not None:
                tensors[name] = value.to(torch.float32, memory_format=torch.contiguous_format)
                if not torch.isfinite(tensors[name]).all():
                    raise Damaged(f"its weight {name!r} has values that are not finite numbers")
        return tensors


Reading = Callable[[str, tuple[int, ...]], Tensor | None]
"""Reads the tensor of a name and a shape, if there is one."""


def _from_safetensors(file: BinaryIO, size: int) -> Reading:
    header = safetensors_files.read_header(file, size)
    begin = file.tell()

    def read(name: str, shape: tuple[int, ...]) -> Tensor | None:
        if name not in header or name == "__metadata__":
            return None
        _, dtype, found, start, end = safetensors_files.tensor_entry(name, header[name])
        _require_shape(name, tuple(found), shape)
        if end - start != math.prod(shape) * dtype.itemsize or begin + end > size:
            raise Damaged(f"the header is wrong about {name!r}")
        return Chunk(file, begin + start, end - start).numbers(dtype).reshape(shape)

    return read


def _from_torch(file: BinaryIO, content: Pickle, places: Places) -> Reading:
    state = _entries(content.root)

    def read(name: str, shape: tuple[int, ...]) -> Tensor | None:
        if name not in state:
            return None
        stored, offset, size, stride = _described(state[name])
        key, _ = storage_of(stored)
        kind = stored.id[1].name
        if not is_within(stored, offset, size, stride) or kind not in FLOATS:
            raise Damaged(f"its weight {name!r} makes no sense")
        _require_shape(name, size, shape)
        used = 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        item = ITEM_SIZES[kind]
        numbers = Chunk(file, places[key][0] + offset * item, used * item).numbers(FLOATS[kind])
        return numbers.as_strided(size, stride)

    return read


def _entries(root: Any) -> dict[str, Any]:
    """Those of a dictionary, plain or ordered; Python 2 gives the latter its pairs when it is made."""
    if type(root) is dict:
        return root
    if not (isinstance(root, Record) and root.maker == Global("collections", "OrderedDict")):
        raise Unsupported("is a torch file, but holds no state dictionary")
    entries = dict(root.entries or {})
    for pair in root.args[0] if type(root.args) is tuple and root.args and type(root.args[0]) is list else ():
        match pair:
            case [str(name), value]:
                entries[name] = value
            case _:
                raise Damaged("its dictionary makes no sense")
    return entries


def _described(value: Any) -> tuple[Stored, int, tuple, tuple]:
    """Storage, offset, size and stride of a tensor or parameter, in any way that torch has written them."""
    match value:
        case Record(maker=Global("torch._utils", "_rebuild_parameter"), args=(inner, *_)):
            value = inner
        case Record(maker=Global("torch.nn.parameter", "Parameter"), state=(inner, _, _, _, _)):
            value = inner
        case Record(maker=Global("torch.nn.parameter", "Parameter"), args=(inner, *_)):
            value = inner
    match value:
        case (
            Record(
                maker=Global("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2"),
                args=(Stored() as stored, int(offset), tuple(size), tuple(stride), *_),
            )
            | Record(
                maker=Global("torch", "DoubleTensor" | "FloatTensor" | "HalfTensor"),
                state=(Stored() as stored, int(offset), tuple(size), tuple(stride)),
            )
        ):
            return stored, offset, size, stride
    raise Damaged("something else is where a weight should be")


class _TextReader(PickleReader):
    """Takes Python 2's strings for text: state dictionaries hold no other bytes."""

    def push_bytes(self, length: int) -> None:
        self.push_text(length)


def _read_plain(file: BinaryIO, start: int, end: int) -> Pickle:
    content = _TextReader(file, start, end).run()
    _require_harmless(content.globals)
    return content


def _require_harmless(names: Iterable[Global]) -> None:
    foreign = sorted(str(name) for name in names if str(name) not in _HARMLESS)
    if foreign:
        raise Unsupported(
            f"is refused: it names {foreign[0][:80]}, which plain weights do not need, and which other programs may run "
            "when they open the file",
            "get the weights from another place",
        )


def _require_shape(name: str, found: tuple, wanted: tuple) -> None:
    if found != wanted:
        raise Unsupported(f"has a weight {name!r} of shape {list(found)} instead of {list(wanted)}")
