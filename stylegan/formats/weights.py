"""Tensors that still lie in their file: known by shape and type, and read when they are asked for, each number once."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

import torch
from torch import Tensor

from .errors import Damaged, Unsupported


@dataclass(eq=False, slots=True)
class Storage:
    """A Storage is numbers one after the other in a file, which tensors are views of."""

    file: BinaryIO
    start: int  # in bytes
    count: int  # of numbers
    dtype: torch.dtype | None  # None for a type that torch has no name for
    swapped: bool = False  # whether the bytes of a number are in the other order than this machine's
    taken: list[tuple[int, int]] = field(default_factory=list)  # first and last number of what was read

    def read(self, first: int, last: int) -> Tensor:
        """Return the numbers from `first` to `last` in memory of their own.

        Raises FileError when one was read before: used for many weights, the same numbers could fill the memory."""
        if self.dtype is None or not self.dtype.is_floating_point:
            raise Unsupported("holds weights of an unknown type of number")
        if any(first <= b and a <= last for a, b in self.taken):
            raise Damaged("two of its weights have the same numbers")
        self.taken.append((first, last))
        data = torch.empty((last + 1 - first) * self.dtype.itemsize, dtype=torch.uint8)
        self.file.seek(self.start + first * self.dtype.itemsize)
        if self.file.readinto(data.numpy()) != len(data):
            raise Damaged("it ends within its weights")
        if self.swapped:
            data = data.reshape(-1, self.dtype.itemsize).flip(1).reshape(-1)
        return data.view(self.dtype)


@dataclass(eq=False, frozen=True, slots=True)
class Weight:
    """A Weight is a tensor in a file: which numbers of its storage, and in which order."""

    find: Callable[[], Storage]
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # in numbers
    offset: int = 0

    def read(self) -> Tensor:
        """Return the tensor in its own precision. Raises FileError when it does not lie within its storage."""
        storage = self.find()
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        # More entries than numbers would be repetitions: a small file could fill the memory.
        if 0 in self.shape or last >= storage.count or math.prod(self.shape) > last + 1 - self.offset:
            raise Damaged("a weight's shape does not fit its numbers")
        return storage.read(self.offset, last).as_strided(self.shape, self.stride)


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of numbers of which the last index runs fastest."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
