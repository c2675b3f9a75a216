"""How much memory adapting a generator takes, from its sizes alone."""

import torch

from ..stylegan import Generator
from ..stylegan.memory import draw_on_meta, on_meta, rendering_bytes
from ..stylegan.sampling import render_batch
from ..training.memory import LiveBytes, tensor_bytes


def training_memory(
    generator: Generator, rows: int = 1, samples: int | None = None, recompute: bool = False, accumulate: bool = False
) -> tuple[int, int]:
    """Return (resident_bytes, peak_bytes) of a `MemoryRequest` for training those parameters of a
    generator that require gradients.

    Resident are the copy in training and the frozen one, Adam's two averages, the gradients where parts of a batch
    `accumulate`, and what rendering `rows` images at a time leaves for its backward pass, which waits for the prior.
    The peak is that of the frozen rendering, of the rendering with its backward pass, or of `samples` images rendered
    together for a look at them (None: as many as `render_samples` does); what the prior needs comes on top of the
    resident bytes, not of both."""
    trained = [name for name, parameter in generator.named_parameters() if parameter.requires_grad]
    copy = on_meta(generator.config)
    without_gradient = rendering_bytes(copy, max(rows, samples or render_batch(generator.config)))
    draw = draw_on_meta(copy, rows)
    parameters = [copy.get_parameter(name).requires_grad_() for name in trained]
    with torch.enable_grad(), LiveBytes() as live:
        images = copy.synthesis(draw, recompute=recompute)
        waiting = live.now
        torch.autograd.grad(images, parameters, torch.empty_like(images), allow_unused=True)
    copies = 2 * tensor_bytes([*copy.parameters(), *copy.buffers()])
    resident = copies + (3 if accumulate else 2) * tensor_bytes(parameters) + waiting
    return resident, max(live.peak, without_gradient) - waiting
