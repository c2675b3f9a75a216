"""Computing activations of a denoiser twice in place of keeping them."""

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_BLOCKS = ("ResBlock", "ResnetBlock2D", "SpatialTransformer", "Transformer2DModel")
"""Classes, of the host and of diffusers, of what is computed again as a whole."""


@contextlib.contextmanager
def recomputing(denoiser: nn.Module, wanted: bool) -> Iterator[None]:
    """Let the blocks of a denoiser keep nothing but their inputs for the backward pass of what is computed in the body,
    where that is wanted. Denoisers of other classes recompute each module in their lists of blocks."""
    blocks = _blocks(denoiser) if wanted else []
    for block in blocks:
        block.forward = _recomputed(block.forward, copied=type(block).__name__ not in _BLOCKS)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the one on the instance


def _recomputed(forward, copied: bool):
    """A block's forward pass, computed again for the backward pass; with `copied` on copies of its inputs, which some
    blocks add to in place."""

    def own(value):
        return value.clone() if copied and isinstance(value, Tensor) else value

    def apart(*arguments, **named):
        return forward(*map(own, arguments), **{name: own(value) for name, value in named.items()})

    def again(*arguments, **named):
        return checkpoint(apart, *arguments, use_reentrant=False, preserve_rng_state=False, **named)

    return again


def _blocks(denoiser: nn.Module) -> list[nn.Module]:
    found = [module for module in denoiser.modules() if type(module).__name__ in _BLOCKS]
    if found:
        return found
    lists = [module for module in denoiser.children() if isinstance(module, nn.ModuleList)]
    return [block for one in lists for block in one]
