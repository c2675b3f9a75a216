"""The layout of rosinality's stylegan2-pytorch, which StyleGAN-NADA, the encoders for editing and the method's first code
use, too.

A torch file holds "g_ema", the state of a network, and perhaps "latent_avg". Weights have an extra first dimension of
one. Channels are 512 up to 32 pixels, then 256 m at 64, halving with each doubling, for a channel multiplier m of 1 or 2;
activations are not clamped.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..architectures import ARCHITECTURES
from ..config import SQUARE, Config, GeneratorConfig
from .errors import Unsupported
from .layout import METADATA, Layout, no_place
from .skip_layout import SkipNames, read_skip, skip_state

NAMES = SkipNames(
    mapping=lambda i: f"style.{i + 1}",
    const="input.input",
    conv=lambda i: f"convs.{i - 1}" if i else "conv1",
    to_rgb=lambda i: f"to_rgbs.{i - 1}" if i else "to_rgb1",
    noise=lambda i: f"noises.noise_{i}",
    kernel="conv.weight",
    affine="conv.modulation",
    bias="activate.bias",
    strength="noise.weight",
    strength_ones=1,
    const_ones=1,
    leading=1,
    trailing=2,
    noise_ones=2,
    filters=("conv.blur.kernel", "upsample.kernel"),
)

LAYOUT = Layout("rosinality StyleGAN2", "conv1.conv.modulation.weight", lambda taking: read_skip(NAMES, taking))


def write(config: Config, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what torch.save shall write for a generator. Raises FileError when the layout has no place for it."""
    if config.architecture != GeneratorConfig.architecture:
        raise _no_place(f"a {ARCHITECTURES[config.architecture].title} generator")
    multiplier = _multiplier(config)
    described = {**metadata, "channel_multiplier": str(multiplier)}
    return {"g_ema": skip_state(NAMES, config, weights), "latent_avg": weights["mapping.w_avg"], METADATA: described}


def _multiplier(config: GeneratorConfig) -> int:
    if config.z_dim != config.w_dim:
        raise _no_place(f"latents of different widths, {config.z_dim} and {config.w_dim}")
    if config.c_dim or config.img_channels != 3:
        raise _no_place("class labels" if config.c_dim else f"pictures of {config.img_channels} channels")
    if config.const_size != SQUARE:
        raise _no_place(f"pictures that are not square ({config.width} x {config.height} pixels)")
    for multiplier in (1, 2):
        expected = {r: 512 if r <= 32 else 16384 * multiplier // r for r in config.resolutions}
        if all(config.channels(r) == count for r, count in expected.items()):
            return multiplier
    raise _no_place(f"{config.channels(4)} channels at 4 pixels and {config.channels(config.resolution)} in the end")


def _no_place(what: str) -> Unsupported:
    return no_place("rosinality", what, "write NVlabs' layout, or keep it as safetensors")
