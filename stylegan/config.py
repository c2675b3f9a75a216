"""What kind of generator it is: every size that its weights and its pictures depend on."""

from collections.abc import Container
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
    "num_layers": 64,
    "num_critical": 63,
    "margin_size": 256,
    "filter_size": 24,
    "lrelu_upsampling": 4,
    "plane_side": 1024,
    "plane_channels": 256,
    "decoder_width": 2**12,
    "render_side": 1024,
    "depth_samples": 1024,
    "importance_samples": 1024,
}  # far above every generator known, so that a damaged file asks for nothing absurd

_MAY_BE_ZERO = ("c_dim", "num_critical", "margin_size", "importance_samples")

CHANNELS = {1: "grey", 3: "RGB", 4: "RGBA"}
"""What the channels of pictures are, by their number."""

SQUARE = (4, 4)
"""The const_size of nearly all generators."""

_LARGEST_CONST, _LONGEST = 64, 4096


class _Pictures:
    """Has the size of the pictures, from `resolution` and `const_size`, and what the mapping's label says."""

    takes_cameras: ClassVar[bool] = False
    label_scale: ClassVar[float] = 1.0  # what the label is multiplied by in the mapping

    @property
    def classes(self) -> int:
        """Return the number of classes, 0 without any."""
        return self.c_dim

    @property
    def height(self) -> int:
        """Return the height of the pictures in pixels."""
        return self.resolution * self.const_size[0] // 4

    @property
    def width(self) -> int:
        """Return the width of the pictures in pixels."""
        return self.resolution * self.const_size[1] // 4


@dataclass(frozen=True)
class GeneratorConfig(_Pictures):
    """A GeneratorConfig holds the sizes of a StyleGAN2 generator. Raises ValueError naming the
    size that is out of range."""

    architecture: ClassVar[str] = "stylegan2"
    channel_counts: ClassVar[Container[int]] = CHANNELS  # that img_channels may be

    resolution: int  # side of the pictures in pixels where the constant is 4 x 4: a power of two from 32 to 1024
    z_dim: int = 512  # width of the input latent
    w_dim: int = 512  # width of the intermediate latent
    c_dim: int = 0  # width of the class label, 0 = unconditional
    mapping_layers: int = 8  # fully connected layers from z to w
    channel_base: int = 32768  # channels at a resolution: channel_base / resolution ...
    channel_max: int = 512  # ... but at most this many
    img_channels: int = 3  # 1 (grey), 3 (RGB) or 4 (RGBA)
    conv_clamp: float | None = 256.0  # activations are clamped to this magnitude, for half precision
    const_size: tuple[int, int] = SQUARE  # height and width of the learned constant, which pictures have in proportion

    def __post_init__(self):
        _check_sizes(self)
        if self.channel_base < self.resolution:
            raise ValueError(
                f"channel_base is {self.channel_base}, less than the resolution {self.resolution}: "
                "the last layers would have no channels."
            )

    @property
    def resolutions(self) -> list[int]:
        """Return the sides of the synthesis blocks where the constant is 4 x 4: 4, 8, ... resolution."""
        return [2**i for i in range(2, self.resolution.bit_length())]

    def channels(self, resolution: int) -> int:
        """Return the channels of the feature maps at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)

    def size(self, resolution: int) -> tuple[int, int]:
        """Return height and width of the feature maps of a block."""
        return resolution // 4 * self.const_size[0], resolution // 4 * self.const_size[1]


@dataclass(frozen=True)
class StyleGAN3Config(_Pictures):
    """A StyleGAN3Config holds the sizes of a StyleGAN3 generator; the defaults are configuration T, and configuration
    R has conv_kernel 1, radial filters and twice the channels (arXiv 2106.12423, appendix D). Raises ValueError
    naming the size out of range."""

    architecture: ClassVar[str] = "stylegan3"

    resolution: int  # side of the pictures in pixels where they are square: a power of two from 32 to 1024
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0
    mapping_layers: int = 2
    channel_base: int = 32768  # channels of a layer: channel_base / 2 / cutoff ...
    channel_max: int = 512  # ... but at most this many
    img_channels: int = 3  # 1 (grey), 3 (RGB) or 4 (RGBA)
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
    const_size: tuple[int, int] = SQUARE  # height and width of feature maps and pictures, in quarters of square ones

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


@dataclass(frozen=True)
class PlanesConfig(GeneratorConfig):
    """A PlanesConfig holds the sizes of a StyleGAN2 that draws feature planes in place of pictures."""

    channel_counts: ClassVar[Container[int]] = range(1, 4097)


Matrix = tuple[tuple[float, float, float], ...]

PLANES: tuple[Matrix, ...] = (
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)),
    ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
)
"""Axes of the planes (x, y), (x, z) and (z, y), one a row: a point is a sum of the axes, and its first two shares are its
place on the plane. Those of EG3D's published files are (x, y), (x, z) and (z, x)."""


@dataclass(frozen=True)
class Superresolution:
    """A Superresolution is what follows the volume rendering: two blocks of StyleGAN2, of which the second doubles the
    side."""

    first_up: bool  # whether the first block doubles it, too
    enlarges_only: bool  # whether a rendering that is larger than what the blocks begin with stays as it is
    may_antialias: bool = True

    @property
    def scale(self) -> int:
        """Return how many times the side of what they begin with the pictures have."""
        return 4 if self.first_up else 2


SUPERRESOLUTIONS: dict[str, Superresolution | None] = {
    "none": None,
    "8XDC": Superresolution(first_up=True, enlarges_only=False),
    "8X": Superresolution(first_up=True, enlarges_only=False),
    "4X": Superresolution(first_up=False, enlarges_only=True),
    "2X": Superresolution(first_up=False, enlarges_only=False),
    "Deepfp32": Superresolution(first_up=False, enlarges_only=True, may_antialias=False),
}
"""What may follow the volume rendering, by the name that EG3D's programs have for it."""

RAY_NOISE = ("none", "random")


@dataclass(frozen=True)
class EG3DConfig(_Pictures):
    """An EG3DConfig holds the sizes of an EG3D generator (arXiv 2112.07945), and how its volume is rendered. Lengths are
    those of the generator's world. Raises ValueError naming what is out of range."""

    architecture: ClassVar[str] = "eg3d"
    takes_cameras: ClassVar[bool] = True
    classes: ClassVar[int] = 0
    const_size: ClassVar[tuple[int, int]] = SQUARE

    resolution: int  # side of the pictures in pixels: a power of two from 32 to 1024
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 25  # width of the mapping's label: a camera
    mapping_layers: int = 2
    channel_base: int = 32768  # of the StyleGAN2 that draws the planes
    channel_max: int = 512
    img_channels: int = 3
    conv_clamp: float | None = None
    plane_side: int = 256  # side of the planes in pixels: a power of two from 32
    plane_channels: int = 32  # features of each plane, and colours that the decoder puts out
    decoder_width: int = 64  # features in the decoder's middle
    render_side: int = 64  # rays across the picture
    depth_samples: int = 48  # points of a ray in the coarse pass
    importance_samples: int = 48  # points that the fine pass adds; 0: there is none
    ray_start: float | None = 2.25  # distance at which rays begin; None: where they enter the box
    ray_end: float | None = 3.3  # and end; None: where they leave it
    disparity: bool = False  # whether points are even in one over the distance
    box_warp: float = 1.0  # side of the cube that the planes span
    white_back: bool = False  # whether what is behind the volume is white, not black
    plane_axes: tuple[Matrix, ...] = PLANES
    label_scale: float = 1.0  # what the camera is multiplied by in the mapping, 0: it does not count
    superresolution: str = "none"  # of SUPERRESOLUTIONS
    superresolution_channels: tuple[int, int] = (128, 64)  # of its two blocks
    superresolution_clamp: float | None = None
    superresolution_noise: str = "none"  # or "random": whether its layers take noise inputs
    antialias: bool = True  # whether what it begins with is resized without aliasing
    camera_radius: float = 2.7  # distance of the usual camera from its pivot
    camera_pivot: tuple[float, float, float] = (0.0, 0.0, 0.0)  # what it looks at
    focal: float = 4.2647  # focal length of the usual camera, in widths of the picture

    def __post_init__(self):
        _check_sizes(self)
        if self.c_dim != 25:
            raise ValueError(f"c_dim is {self.c_dim}; a camera has 25 numbers.")
        for name, wanted in (("superresolution", SUPERRESOLUTIONS), ("superresolution_noise", RAY_NOISE)):
            if getattr(self, name) not in wanted:
                raise ValueError(f"{name} is {str(getattr(self, name))[:80]!r}; it must be one of {', '.join(wanted)}.")
        for name in ("disparity", "white_back", "antialias"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be true or false.")
        for name in ("box_warp", "camera_radius", "focal"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value < 2**20:
                raise ValueError(f"{name} is {value!r}; it must be a number above 0.")
        if not _is_number(self.label_scale):
            raise ValueError(f"label_scale is {self.label_scale!r}; it must be a number.")
        _check_rays(self.ray_start, self.ray_end)
        _check_numbers("camera_pivot", self.camera_pivot, 3)
        if len(self.superresolution_channels) != 2 or any(
            type(n) is not int or not 1 <= n <= 2**14 for n in self.superresolution_channels
        ):
            raise ValueError(f"superresolution_channels is {self.superresolution_channels!r}; give two whole numbers.")
        if self.superresolution == "none" and self.render_side != self.resolution:
            raise ValueError(
                f"render_side is {self.render_side}; without a superresolution it must be the resolution, {self.resolution}."
            )
        _check_axes(self.plane_axes)
        if self.depth_samples < 4:
            raise ValueError(f"depth_samples is {self.depth_samples}; it must be at least 4.")
        _ = self.planes  # its sizes are checked as it is made

    @property
    def planes(self) -> PlanesConfig:
        """Return the sizes of the StyleGAN2 that draws the planes."""
        return PlanesConfig(
            self.plane_side,
            self.z_dim,
            self.w_dim,
            self.c_dim,
            self.mapping_layers,
            self.channel_base,
            self.channel_max,
            len(self.plane_axes) * self.plane_channels,
            self.conv_clamp,
        )


def _check_rays(start: float | None, end: float | None) -> None:
    if (start is None) != (end is None):
        raise ValueError("ray_start and ray_end must both be numbers, or both be found automatically.")
    if start is not None and not (_is_number(start) and _is_number(end) and 0 <= start < end):
        raise ValueError(
            f"Rays go from {start!r} to {end!r}; the first must be a number from 0 and the second above it."
        )


def _check_numbers(name: str, values: object, count: int) -> None:
    if type(values) is not tuple or len(values) != count or not all(map(_is_number, values)):
        raise ValueError(f"{name} is {str(values)[:80]}; it must be {count} numbers.")


def _check_axes(planes: object) -> None:
    if type(planes) is not tuple or not 1 <= len(planes) <= 16:
        raise ValueError("plane_axes must be the axes of 1 to 16 planes.")
    for axes in planes:
        if type(axes) is not tuple or len(axes) != 3:
            raise ValueError("plane_axes must have three axes for each plane.")
        for axis in axes:
            _check_numbers("An axis of plane_axes", axis, 3)
        (a, b, c), (d, e, f), (g, h, i) = axes
        if abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) < 1e-6:
            raise ValueError("plane_axes must have three axes for each plane that do not lie in one plane.")


Config = GeneratorConfig | StyleGAN3Config | EG3DConfig
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
    if config.img_channels not in getattr(config, "channel_counts", CHANNELS):
        raise ValueError(f"img_channels is {config.img_channels!r}; it must be 1 (grey), 3 (RGB) or 4 (RGBA).")
    sides = config.const_size
    if (
        type(sides) is not tuple
        or len(sides) != 2
        or any(type(n) is not int or not 1 <= n <= _LARGEST_CONST for n in sides)
    ):
        raise ValueError(f"const_size is {sides!r}; it must be a height and a width from 1 to {_LARGEST_CONST}.")
    if max(config.height, config.width) > _LONGEST:
        raise ValueError(f"The pictures are {config.width} x {config.height} pixels; at most {_LONGEST} are supported.")
    clamp = config.conv_clamp
    if clamp is not None and not (_is_number(clamp) and clamp > 0):
        raise ValueError(f"conv_clamp is {clamp!r}; it must be above 0, or None for no clamp.")


def _is_number(value) -> bool:
    return type(value) in (int, float) and -(2**40) < value < 2**40
