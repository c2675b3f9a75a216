"""The layout of BasicSR's StyleGAN2, which GFPGAN publishes its generators in: a torch file with "params_ema"."""

from .layout import Layout
from .skip_layout import SkipNames, read_skip

NAMES = SkipNames(
    mapping=lambda i: f"style_mlp.{i + 1}",
    const="constant_input.weight",
    conv=lambda i: f"style_convs.{i - 1}" if i else "style_conv1",
    to_rgb=lambda i: f"to_rgbs.{i - 1}" if i else "to_rgb1",
    noise=lambda i: f"noises.noise{i}",
    kernel="modulated_conv.weight",
    affine="modulated_conv.modulation",
    bias="activate.bias",
    strength="weight",
    strength_ones=1,
    const_ones=1,
    leading=1,
    trailing=2,
    noise_ones=2,
    filters=("smooth.kernel", "upsample.kernel"),
)

LAYOUT = Layout(
    "BasicSR StyleGAN2", "style_conv1.modulated_conv.modulation.weight", lambda taking: read_skip(NAMES, taking)
)
