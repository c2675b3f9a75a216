"""How much memory a training needs, from sizes alone: nothing here touches a device."""

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..stylegan import Generator, GeneratorConfig, StyleGAN3Config
from ..stylegan.sampling import together


@dataclass(frozen=True)
class Work:
    """What a training is going to ask of its prior and of the device; bytes count tensors on the device."""

    rows: int  # the largest batch that is evaluated at once
    height: int  # of the images that are encoded, in pixels
    width: int
    held: int = 0  # bytes that the training is going to keep, beside what it has on the device already
    peak: int = 0  # bytes at most in one of the training's own stages, beyond `held`
    images: int = 0  # the largest batch that is encoded with gradients at once; 0: rows
    checkpoint: bool = False  # whether it is encoded with activations computed again


def training_memory(
    generator: Generator, rows: int = 1, samples: int | None = None, checkpoint: bool = False, accumulate: bool = False
) -> tuple[int, int]:
    """(held, peak) of `Work` for training those parameters of a generator that require gradients.

    Held are the copy in training and the frozen one, Adam's two moments, the gradients where pieces of a batch
    `accumulate`, and what rendering `rows` images at a time leaves for its backward pass, which waits for the prior.
    The peak is that of the frozen rendering, of the rendering with its backward pass, or of `samples` images rendered
    together for a look at them (None: as many as `render_samples` does); what the prior needs comes on top of `held`, not of both."""
    trained = [name for name, parameter in generator.named_parameters() if parameter.requires_grad]
    copy = _on_meta(generator.config)
    without_gradient = _rendering_bytes(copy, max(rows, samples or together(generator.resolution)))
    with torch.device("meta"):
        codes = torch.empty(rows, copy.num_ws, copy.w_dim)
    parameters = [copy.get_parameter(name).requires_grad_() for name in trained]
    with torch.enable_grad(), LiveBytes() as live:
        images = copy.synthesis(codes, checkpoint=checkpoint)
        waiting = live.now
        torch.autograd.grad(images, parameters, torch.empty_like(images), allow_unused=True)
    copies = 2 * _bytes([*copy.parameters(), *copy.buffers()])
    held = copies + (3 if accumulate else 2) * _bytes(parameters) + waiting
    return held, max(live.peak, without_gradient) - waiting


@functools.lru_cache(maxsize=16)
def drawing_memory(config: GeneratorConfig | StyleGAN3Config) -> int:
    """Bytes of the weights of such a generator and of what `render_samples` takes beside them."""
    generator = _on_meta(config)
    return _bytes([*generator.parameters(), *generator.buffers()]) + _rendering_bytes(
        generator, together(config.resolution)
    )


def _rendering_bytes(on_meta: Generator, samples: int) -> int:
    with torch.device("meta"):
        codes = torch.empty(samples, on_meta.num_ws, on_meta.w_dim)
    with torch.no_grad():
        return transient_bytes(lambda: on_meta.synthesis(codes))


def _on_meta(config: GeneratorConfig | StyleGAN3Config) -> Generator:
    with torch.device("meta"):
        return Generator(config).requires_grad_(False)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def transient_bytes(body: Callable[[], object]) -> int:
    """The largest number of bytes of tensors alive at once while body() runs, beyond those that were alive before.

    On the meta device it takes no memory and little time. Counted is what tensors store: views once, and what autograd
    keeps or computes again for a backward pass; not the scratch space inside of an operation."""
    with LiveBytes() as live:
        body()
    return live.peak


class LiveBytes(TorchDispatchMode):
    """Follows the storages that operations make until they are freed."""

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
