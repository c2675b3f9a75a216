"""The layout of GenForce's StyleGAN2: a torch file with "generator_smooth".

Styles are added to one, and kernels of upsampling layers are turned by 180 degrees against ours, as in TensorFlow.
"""

from .layout import Layout
from .skip_layout import SkipNames, read_skip

NAMES = SkipNames(
    mapping=lambda i: f"mapping.dense{i}",
    const="synthesis.early_layer.const",
    conv=lambda i: f"synthesis.layer{i}",
    to_rgb=lambda i: f"synthesis.output{i}",
    noise=lambda i: f"synthesis.layer{i}.noise",
    embed="mapping.LabelEmbed",
    affine="style",
    const_ones=1,
    noise_ones=2,
    filters=("filter.kernel", "upsample.kernel"),
    style_offset=1.0,
    turned=True,
)

LAYOUT = Layout("GenForce StyleGAN2", "synthesis.layer0.style.weight", lambda taking: read_skip(NAMES, taking))
