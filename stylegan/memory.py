"""How much memory a generator takes, from its sizes alone."""

import functools

import torch

from ..training.memory import tensor_bytes, transient_bytes
from .config import Config
from .networks import Generator
from .sampling import render_batch
from .synthesis import Draw


def on_meta(config: Config) -> Generator:
    """Make a generator of these sizes that holds no numbers and takes no memory."""
    with torch.device("meta"):
        return Generator(config).requires_grad_(False)


def draw_on_meta(generator: Generator, count: int) -> Draw:
    """Return what a generator on the meta device renders `count` images from."""
    with torch.device("meta"):
        return Draw(torch.empty(count, generator.num_ws, generator.w_dim))


def rendering_bytes(generator: Generator, count: int) -> int:
    """Return the bytes that a generator on the meta device takes to render `count` images
    together, without gradients."""
    draw = draw_on_meta(generator, count)
    with torch.no_grad():
        return transient_bytes(lambda: generator.synthesis(draw))


@functools.lru_cache(maxsize=16)
def drawing_memory(config: Config) -> int:
    """Return the bytes of the weights of such a generator and of what `render_samples` takes beside them."""
    generator = on_meta(config)
    weights = tensor_bytes([*generator.parameters(), *generator.buffers()])
    return weights + rendering_bytes(generator, render_batch(config))
