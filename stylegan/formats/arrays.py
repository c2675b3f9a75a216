"""Tensors and arrays out of pickles that were read as data."""

import contextlib
import io
import math
import sys
from typing import Any

import torch
from torch import Tensor

from .errors import Damaged, Unsupported
from .inert_pickle import Chunk, Global, Record
from .torch_files import storage_numbers

_FLOATS = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64}


def tensor(value: Any) -> Tensor:
    """Return the torch tensor, parameter, numpy array or numpy number that a record describes, in its own precision.

    Raises FileError when it is something else."""
    if isinstance(value, Record) and isinstance(value.maker, Global):
        match str(value.maker), value.args:
            case "torch._utils._rebuild_parameter", (inner, *_) if _maker(inner).startswith(
                "torch._utils._rebuild_tensor"
            ):
                return tensor(inner)
            case (
                "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                (
                    Record(maker=Global("torch.storage", "_load_from_bytes"), args=(data,)),
                    int(offset),
                    size,
                    stride,
                    *_,
                ),
            ):
                return _strided(storage_numbers(_chunk(data)), offset, _shape(size), _shape(stride))
            case name, _ if name.startswith("numpy."):
                return _from_numpy(value)
    raise Damaged("something else is where a weight should be")


def shape(value: Any) -> tuple[int, ...]:
    """Return the shape of a torch tensor or parameter, without its numbers. Raises FileError."""
    if _maker(value) == "torch._utils._rebuild_parameter" and type(value.args) is tuple and value.args:
        value = value.args[0]
    if _maker(value).startswith("torch._utils._rebuild_tensor") and type(value.args) is tuple and len(value.args) > 2:
        return _shape(value.args[2])
    raise Damaged("something else is where a weight should be")


def _maker(value: Any) -> str:
    return str(value.maker) if isinstance(value, Record) and isinstance(value.maker, Global) else ""


def _strided(numbers: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    # More entries than numbers would be repetitions: a small file could fill the memory.
    if len(size) != len(stride) or math.prod(size) > numbers.numel():
        raise Damaged("a weight's shape does not fit its numbers")
    try:
        return torch.as_strided(numbers, size, stride, offset)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise Damaged("a weight's shape does not fit its numbers") from None


def _from_numpy(value: Record) -> Tensor:
    name = str(value.maker).removeprefix("numpy.core.").removeprefix("numpy._core.")
    match name, value.args, value.state:
        case "multiarray._reconstruct", _, (_, shape, dtype, bool(fortran), data):
            return _array(data, dtype, _shape(shape), "F" if fortran else "C")
        case "multiarray.scalar", (dtype, data), _:
            return _array(data, dtype, (), "C")
        case "numeric._frombuffer", (data, dtype, shape, "C" | "F" as order), _:
            return _array(data, dtype, _shape(shape), order)
    raise Damaged("an array's description makes no sense")


def _array(data: Any, dtype: Any, shape: tuple[int, ...], order: str) -> Tensor:
    match dtype:
        case Record(maker=Global("numpy", "dtype"), args=(str(kind), *_), state=(_, "<" | ">" as byte_order, *_)) if (
            kind in _FLOATS
        ):
            chunk = _chunk(data)
        case _:
            raise Unsupported("holds weights of an unknown type of number")
    if chunk.length != math.prod(shape) * _FLOATS[kind].itemsize or 0 in shape:
        raise Damaged("a weight's shape does not fit its numbers")
    numbers = chunk.numbers(_FLOATS[kind])
    if (byte_order == "<") != (sys.byteorder == "little"):
        numbers = torch.from_numpy(numbers.numpy().byteswap())
    if order == "F":  # the first index runs fastest
        return numbers.reshape(shape[::-1]).permute(*range(len(shape))[::-1])
    return numbers.reshape(shape)


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, Record) and str(value.maker) == "torch.Size" and type(value.args) is tuple and value.args:
        value = value.args[0]
    if type(value) is not tuple or not all(type(n) is int and 0 <= n < 2**32 for n in value) or len(value) > 8:
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
