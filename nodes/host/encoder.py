"""A differentiable copy of a VAE's encoder.

The host keeps weights as inference tensors in storage precision, and newer ones hang memory handles on every module.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from types import FunctionType

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

_OF_EVERY_MODULE = frozenset(nn.Module().__dict__)
# What only decoding needs, under the names that the host's autoencoders give it.
_DECODING = frozenset(
    {"decoder", "decoder_model", "post_quant_conv", "conv2", "taesd_decoder", "previewer", "up_blocks", "out_block"}
)


class Encoder(nn.Module):
    """An Encoder takes images [B, 3, H, W] in [-1, 1] to latents [B, c, h, w], the posterior's mode, unscaled, in
    float32.

    A copy on `device` of an autoencoder without its decoder: float32 or, half as large, bfloat16 (the range of float16
    is too small for gradients). `process_input` takes pixels in [0, 1] to what the autoencoder reads. One made for
    video (`frames`) sees each image as a film of one frame; one that reads a fourth channel gets an opaque one.
    Gradients pass through to the images; the weights take none."""

    def __init__(
        self,
        autoencoder: nn.Module,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        process_input: Callable[[Tensor], Tensor] = lambda pixels: pixels * 2 - 1,
        channels: int = 3,
        frames: bool = False,
    ):
        super().__init__()
        self.dtype, self.process_input, self.channels, self.frames = dtype, process_input, channels, frames
        with torch.inference_mode(False):
            self.autoencoder = plain_copy(autoencoder, device, dtype, left_out=_DECODING)
        self.eval()
        _forget_other_frames(self.autoencoder)
        self._blocks = [_made_recomputable(block) for block in _blocks(self.autoencoder)]

    def forward(self, images: Tensor, recompute: bool = False) -> Tensor:
        """Encode images; with `recompute`, what the encoder's blocks hold inside is computed again in the backward
        pass, not kept."""
        for block in self._blocks:
            block.recompute = recompute
        pixels = (images + 1) / 2
        if self.channels > 3:
            pixels = torch.cat([pixels, torch.ones_like(pixels[:, : self.channels - 3])], dim=1)
        pixels = self.process_input(pixels).to(self.dtype)
        if self.frames:
            return self.autoencoder.encode(pixels.unsqueeze(2)).squeeze(2).float()
        return self.autoencoder.encode(pixels).float()


def plain_copy(
    module: nn.Module,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    left_out: frozenset[str] = frozenset(),
) -> nn.Module:
    """Copy a module, its children named in `left_out` empty, with weights of its own and none of the host's
    bookkeeping.

    Private attributes other than numbers, words and functions are left out, and with them the handles of memory that the host
    manages: a deep copy of one would free, when it goes, what the original still uses."""
    copy = type(module).__new__(type(module))
    nn.Module.__init__(copy)
    for name, value in vars(module).items():
        if name not in _OF_EVERY_MODULE and (not name.startswith("_") or _is_plain(value)):
            value = _own(value, device, dtype) if isinstance(value, Tensor) else value
            vars(copy)[name] = [] if name in ("weight_function", "bias_function") else value
    if hasattr(copy, "comfy_cast_weights"):  # the weights are where and what they must be
        copy.comfy_cast_weights = False
    for name, value in module._parameters.items():
        weights = None if value is None else _own(value, device, dtype)
        copy.register_parameter(name, None if weights is None else nn.Parameter(weights, requires_grad=False))
    for name, value in module._buffers.items():
        copy.register_buffer(name, None if value is None else _own(value, device, dtype))
    for name, child in module._modules.items():
        if name in left_out:
            copy.add_module(name, nn.Module())  # some autoencoders look at what they do not call
        else:
            copy.add_module(name, None if child is None else plain_copy(child, device, dtype))
    return copy


def _is_plain(value: object) -> bool:
    if type(value) is dict:
        return _is_plain([*value, *value.values()])
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    of_einops = type(value).__module__.partition(".")[0] == "einops"  # how its layers rearrange
    return value is None or isinstance(value, int | float | str | FunctionType) or of_einops


def _own(value: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    dtype = dtype if value.is_floating_point() else value.dtype
    return value.detach().to(device=device, dtype=dtype, copy=True)


def _blocks(module: nn.Module, depth: int = 0) -> Iterator[nn.Module]:
    """Find the residual, attention and scaling blocks of an autoencoder: the outermost modules with parts inside that
    are called as a whole, below the encoder itself."""
    for child in module.children():
        called = type(child).forward not in (nn.Module.forward, nn.Sequential.forward)
        if depth and called and any(True for _ in child.children()):
            yield child
        else:
            yield from _blocks(child, depth + 1)


class _Recomputable:
    """_Recomputable is mixed into the class of a block, and keeps only the block's input for the backward pass."""

    recompute = False

    def forward(self, *args, **kwargs):
        forward = super().forward
        if not self.recompute:
            return forward(*args, **kwargs)
        return recomputed(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


class _OneFrame:
    """_OneFrame is mixed into the class of a video encoder, and goes without the notes that it takes of one frame for
    the next ones."""

    def forward(self, frame: Tensor, *_, **__) -> Tensor:
        return super().forward(frame)


def _made_recomputable(module: nn.Module) -> nn.Module:
    module.__class__ = mixed(_Recomputable, type(module))
    return module


def _forget_other_frames(autoencoder: nn.Module) -> None:
    for child in autoencoder.children():
        if "feat_cache" in inspect.signature(type(child).forward).parameters:
            child.__class__ = mixed(_OneFrame, type(child))


@functools.cache
def mixed(part: type, whole: type) -> type:
    """Make a class of which `part` comes before `whole`, one for each pair."""
    # A class, not a changed method on the instance: that would be a circle which keeps the weights until collected.
    return type(f"{part.__name__.strip('_')}{whole.__name__}", (part, whole), {})
