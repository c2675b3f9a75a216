"""How much memory computations take, from sizes alone: nothing here touches a device."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class MemoryRequest:
    """A MemoryRequest says what a training is going to ask of its prior and of the device;
    bytes count tensors there."""

    rows: int  # the largest batch that is evaluated at once
    height: int  # of the images that are encoded, in pixels
    width: int
    resident_bytes: int = 0  # what the training is going to keep, beside what it has on the device already
    peak_bytes: int = 0  # at most in one of the training's own stages, beyond `resident_bytes`
    images: int = 0  # the largest batch that is encoded with gradients at once; 0: rows
    recompute: bool = False  # whether it is encoded with activations computed again


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of these tensors together."""
    return sum(tensor.nbytes for tensor in tensors)


def transient_bytes(body: Callable[[], object]) -> int:
    """Return the largest number of bytes of tensors alive at once while body() runs, beyond
    those that were alive before.

    On the meta device it takes no memory and little time. Counted is what tensors store: views once, and what autograd
    keeps or computes again for a backward pass; not the scratch space inside of an operation."""
    with LiveBytes() as live:
        body()
    return live.peak


class LiveBytes(TorchDispatchMode):
    """LiveBytes follows the storages that operations make until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._storages: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # A view of a tensor from before, or an operation in its place, makes nothing new.
        for tensor in _tensors((args, list(kwargs.values()))):
            self._follow(tensor, 0)
        result = operation(*args, **kwargs)
        for tensor in _tensors(result):
            self._follow(tensor, tensor.untyped_storage().nbytes())
        return result

    def _follow(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return

        def freed(_) -> None:
            self.now -= size
            del self._storages[key]

        self._storages[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


def _tensors(values: object) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
