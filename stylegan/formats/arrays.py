"""Tensors and arrays in pickles that were read as data."""

import contextlib
import io
import math
import sys
from typing import Any

import torch

from .errors import Damaged, Unsupported
from .inert_pickle import Chunk, Global, Record, Stored, read_pickle
from .names import ITEM_SIZES, require_harmless
from .torch_layout import FLOATS, legacy_content, storage_of
from .weights import Storage, Weight, row_major

_DTYPES = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64}

_REBUILT = ("_rebuild_tensor", "_rebuild_tensor_v2")
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")


def weight(value: Any) -> Weight | None:
    """Return the torch tensor, parameter, numpy array or numpy number that a record describes, None when it is
    something else. Raises FileError when its description makes no sense."""
    match value:
        case Record(maker=Global("torch._utils", kind), args=(inner, *_)) if kind in _PARAMETERS:
            return weight(inner)
        case Record(maker=Global("torch.nn.parameter", "Parameter"), state=(inner, _, _, _, _)):
            return weight(inner)
        case Record(maker=Global("torch.nn.parameter", "Parameter"), args=(inner, *_)):
            return weight(inner)
        case Record(maker=Global("torch._utils", kind), args=(numbers, offset, size, stride, *_)) if kind in _REBUILT:
            return _view(numbers, offset, size, stride)
        case Record(
            maker=Global("torch", "DoubleTensor" | "FloatTensor" | "HalfTensor"), state=(numbers, offset, size, stride)
        ):
            return _view(numbers, offset, size, stride)
        case Record(maker=Global(module, _)) if module.startswith(("numpy.core.", "numpy._core.")):
            return _array(value)
    return None


def _view(numbers: Any, offset: Any, size: Any, stride: Any) -> Weight:
    shape, strides = _sizes(size), _sizes(stride)
    if type(offset) is not int or not 0 <= offset < 2**40 or len(shape) != len(strides):
        raise Damaged("a weight's shape is no list of sizes")
    match numbers:
        case Stored(storage=Storage() as storage):
            return Weight(lambda: storage, shape, strides, offset)
        case Record(maker=Global("torch.storage", "_load_from_bytes"), args=(data,)):
            return Weight(lambda: _nested_storage(data), shape, strides, offset)
    raise Damaged("a weight has no numbers")


def _nested_storage(data: Any) -> Storage:
    """The storage that torch.save wrote into these bytes."""
    chunk = _chunk(data)
    if chunk.storage is None:
        content, places = legacy_content(chunk.file, chunk.start, chunk.start + chunk.length, read_pickle)
        require_harmless(content)
        if not isinstance(content.root, Stored):
            raise Damaged("a weight is no storage of numbers")
        place_storages(chunk.file, content.stored, places)
        chunk.storage = content.root.storage
    return chunk.storage


def place_storages(file: Any, stored: tuple[Stored, ...], places: Any) -> None:
    """Tell the storages of a pickle where in `file` their numbers lie; the same key is the same storage."""
    by_key: dict[str, Storage] = {}
    for each in stored:
        key, length = storage_of(each)
        kind = each.id[1].name
        if key not in by_key:
            by_key[key] = Storage(file, places[key][0], length // ITEM_SIZES[kind], FLOATS.get(kind))
        each.storage = by_key[key]


def _array(value: Record) -> Weight | None:
    name = str(value.maker).removeprefix("numpy.core.").removeprefix("numpy._core.")
    match name, value.args, value.state:
        case "multiarray._reconstruct", _, (_, shape, dtype, bool(fortran), data):
            return _numbers(data, dtype, _sizes(shape), fortran)
        case "multiarray.scalar", (dtype, data), _:
            return _numbers(data, dtype, (), False)
        case "numeric._frombuffer", (data, dtype, shape, "C" | "F" as order), _:
            return _numbers(data, dtype, _sizes(shape), order == "F")
    raise Damaged("an array's description makes no sense")


def _numbers(data: Any, dtype: Any, shape: tuple[int, ...], fortran: bool) -> Weight | None:
    match dtype:
        case Record(
            maker=Global("numpy", "dtype"), args=(str(kind), *_), state=(_, "<" | ">" | "|" | "=" as order, *_)
        ):
            pass
        case _:
            raise Unsupported("holds weights of an unknown type of number")
    if kind not in _DTYPES:
        return None  # counts, text and times of a training
    stride = row_major(shape[::-1])[::-1] if fortran else row_major(shape)
    swapped = (order == ">") if sys.byteorder == "little" else (order == "<")
    count = math.prod(shape)

    def find() -> Storage:
        chunk = _chunk(data)
        if chunk.length != count * _DTYPES[kind].itemsize:
            raise Damaged("a weight's shape does not fit its numbers")
        if chunk.storage is None:
            chunk.storage = Storage(chunk.file, chunk.start, count, _DTYPES[kind], swapped)
        return chunk.storage

    return Weight(find, shape, stride)


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, Record) and str(value.maker) == "torch.Size" and type(value.args) is tuple and value.args:
        value = value.args[0]
    if type(value) is not tuple or not all(type(n) is int and 0 <= n < 2**40 for n in value) or len(value) > 8:
        raise Damaged("a weight's shape is no list of sizes")
    return value


def _chunk(value: Any) -> Chunk:
    """Bytes, wherever the pickle has them."""
    if isinstance(value, Chunk):
        return value
    match value:  # how Python 2 and protocol 2 write bytes
        case Record(maker=Global("_codecs", "encode"), args=(str(text), "latin1" | "latin-1")):
            with contextlib.suppress(UnicodeEncodeError):
                value = text.encode("latin1")
    if type(value) is bytes:
        return Chunk(io.BytesIO(value), 0, len(value))
    raise Damaged("a weight has no bytes")
