"""The layout of OpenMMLab's MMGeneration and MMagic: a torch file whose "state_dict" has "generator_ema." before the names.

Their networks see and draw pictures in the order blue, green, red; their "_orig" weights are those before the equalized
learning rate, as ours are.
"""

from .layout import Layout
from .skip_layout import SkipNames, read_skip

NAMES = SkipNames(
    mapping=lambda i: f"style_mapping.{i + 1}",
    const="constant_input.input",
    conv=lambda i: f"convs.{i - 1}" if i else "conv1",
    to_rgb=lambda i: f"to_rgbs.{i - 1}" if i else "to_rgb1",
    noise=lambda i: f"injected_noise_{i}",
    dense=("linear.weight_orig", "bias"),
    kernel="conv.weight_orig",
    affine="conv.style_modulation",
    affine_dense=("linear.weight_orig", "bias"),
    bias="activate.bias",
    strength="noise_injector.weight",
    strength_ones=1,
    const_ones=1,
    leading=1,
    trailing=2,
    noise_ones=2,
    filters=("conv.blur.kernel", "upsample.kernel"),
    blue_first=True,
)

LAYOUT = Layout(
    "MMGeneration StyleGAN2",
    "conv1.conv.style_modulation.linear.weight_orig",
    lambda taking: read_skip(NAMES, taking),
)
