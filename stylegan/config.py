"""What kind of generator it is: every size that its weights depend on."""

from dataclasses import dataclass
from typing import ClassVar

RESOLUTIONS = (32, 64, 128, 256, 512, 1024)

_LARGEST = {
    "z_dim": 2**14,
    "w_dim": 2**14,
    "c_dim": 2**16,
    "mapping_layers": 64,
    "channel_base": 2**20,
    "channel_max": 2**14,
    "img_channels": 64,
    "num_layers": 64,
    "num_critical": 63,
    "margin_size": 256,
    "filter_size": 24,
    "lrelu_upsampling": 4,
}  # far above every generator known, so that a damaged file asks for nothing absurd

_MAY_BE_ZERO = ("c_dim", "num_critical", "margin_size")


@dataclass(frozen=True)
class GeneratorConfig:
    """A GeneratorConfig holds the sizes of a StyleGAN2 generator. Raises ValueError naming the
    size that is out of range."""

    architecture: ClassVar[str] = "stylegan2"

    resolution: int  # side of the square pictures in pixels, a power of two from 32 to 1024
    z_dim: int = 512  # width of the input latent
    w_dim: int = 512  # width of the intermediate latent
    c_dim: int = 0  # width of the class label, 0 = unconditional
    mapping_layers: int = 8  # fully connected layers from z to w
    channel_base: int = 32768  # channels at a resolution: channel_base / resolution ...
    channel_max: int = 512  # ... but at most this many
    img_channels: int = 3
    conv_clamp: float | None = 256.0  # activations are clamped to this magnitude, for half precision

    def __post_init__(self):
        _check_sizes(self)
        if self.channel_base < self.resolution:
            raise ValueError(
                f"channel_base is {self.channel_base}, less than the resolution {self.resolution}: "
                "the last layers would have no channels."
            )

    @property
    def resolutions(self) -> list[int]:
        """Return the sides of the synthesis blocks: 4, 8, ... resolution."""
        return [2**i for i in range(2, self.resolution.bit_length())]

    def channels(self, resolution: int) -> int:
        """Return the channels of the feature maps at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)


@dataclass(frozen=True)
class StyleGAN3Config:
    """A StyleGAN3Config holds the sizes of a StyleGAN3 generator; the defaults are configuration T, and configuration
    R has conv_kernel 1, radial filters and twice the channels (arXiv 2106.12423, appendix D). Raises ValueError
    naming the size out of range."""

    architecture: ClassVar[str] = "stylegan3"

    resolution: int  # side of the square pictures in pixels, a power of two from 32 to 1024
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0
    mapping_layers: int = 2
    channel_base: int = 32768  # channels of a layer: channel_base / 2 / cutoff ...
    channel_max: int = 512  # ... but at most this many
    img_channels: int = 3
    conv_clamp: float | None = 256.0
    num_layers: int = 14  # convolutions, the input and ToRGB aside
    num_critical: int = 2  # the last of them, sampled critically
    first_cutoff: float = 2.0  # f_c of the first layer, in cycles over the picture
    first_stopband: float = 2**2.1  # f_t of the first layer
    last_stopband_rel: float = 2**0.3  # f_t of the last layer, relative to its cutoff
    margin_size: int = 10  # pixels computed beyond the picture's border
    output_scale: float = 0.25
    conv_kernel: int = 3  # side of the kernels: 3 for T, 1 for R
    filter_size: int = 6  # taps of the low-pass filters, for each step of the sampling rate
    lrelu_upsampling: int = 2  # sampling rate of the leaky ReLU, relative to the layer's
    use_radial_filters: bool = False  # downsample with radially symmetric filters

    def __post_init__(self):
        _check_sizes(self)
        if self.conv_kernel not in (1, 3):
            raise ValueError(f"conv_kernel is {self.conv_kernel!r}; it must be 1 or 3.")
        if type(self.use_radial_filters) is not bool:
            raise ValueError(f"use_radial_filters is {self.use_radial_filters!r}; it must be true or false.")
        if self.num_layers < 4:
            raise ValueError(f"num_layers is {self.num_layers}; it must be at least 4.")
        if self.channel_base < self.resolution:
            raise ValueError(f"channel_base is {self.channel_base}; it must be at least the resolution.")
        if self.num_critical >= self.num_layers:
            raise ValueError(f"num_critical is {self.num_critical}; it must be below num_layers, {self.num_layers}.")
        for name, least in {
            "first_cutoff": 0.5,
            "first_stopband": 0.5,
            "last_stopband_rel": 1,
            "output_scale": 1e-6,
        }.items():
            value = getattr(self, name)
            if not _is_number(value) or not least <= value <= self.resolution / 2:
                raise ValueError(f"{name} is {value!r}; it must be a number from {least} to {self.resolution // 2}.")
        if not self.first_cutoff < self.first_stopband:
            raise ValueError(f"first_stopband is {self.first_stopband}; it must be above first_cutoff.")


Config = GeneratorConfig | StyleGAN3Config
"""The configuration of a generator of any architecture."""


def _check_sizes(config: Config) -> None:
    if type(config.resolution) is not int or config.resolution not in RESOLUTIONS:
        raise ValueError(f"The resolution is {config.resolution!r}; it must be a power of two from 32 to 1024.")
    for name, largest in _LARGEST.items():
        if not hasattr(config, name):
            continue
        value, least = getattr(config, name), 0 if name in _MAY_BE_ZERO else 1
        if type(value) is not int or not least <= value <= largest:
            raise ValueError(f"{name} is {value!r}; it must be a whole number from {least} to {largest}.")
    clamp = config.conv_clamp
    if clamp is not None and not (_is_number(clamp) and clamp > 0):
        raise ValueError(f"conv_clamp is {clamp!r}; it must be above 0, or None for no clamp.")


def _is_number(value) -> bool:
    return type(value) in (int, float) and -(2**40) < value < 2**40
