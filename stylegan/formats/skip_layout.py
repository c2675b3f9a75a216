"""Layouts of StyleGAN2 generators with skips: all programs have the same layers, and each has its own names for them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..config import GeneratorConfig
from ..layers import fir_kernel
from .errors import Unsupported
from .layout import Taking
from .source import channel_limits, const_size, make_config, require_colours, require_setting, scalar

LEARNING_RATE = 0.01
"""Of our mapping, relative to the synthesis network's (arXiv 1812.04948, appendix C)."""


@dataclass(frozen=True)
class Name:
    """A Name is what a weight is called here and there, with the dimensions of one that theirs has before and after."""

    ours: str
    theirs: str
    before: int = 0
    after: int = 0
    optional: bool = False  # whether files may come without it


@dataclass(frozen=True)
class SkipNames:
    """SkipNames hold how a program names the layers of StyleGAN2, and what else is particular to it."""

    mapping: Callable[[int], str]  # module of a fully connected layer, by its number from 0
    const: str
    conv: Callable[[int], str]  # module of a convolution, by its number from 0
    to_rgb: Callable[[int], str]  # module of a ToRGB, by its number from 0
    noise: Callable[[int], str]  # weight, by the number of its convolution
    embed: str | None = None  # module, of conditional generators
    dense: tuple[str, str] = ("weight", "bias")  # within a fully connected layer
    kernel: str = "weight"  # within a convolution or ToRGB
    affine: str = "affine"
    affine_dense: tuple[str, str] = ("weight", "bias")
    bias: str = "bias"
    strength: str = "noise_strength"
    strength_ones: int = 0
    const_ones: int = 0  # dimensions of one before the constant
    leading: int = 0  # and before kernels and the biases of ToRGB
    trailing: int = 0  # and after the latter
    noise_ones: int = 0
    filters: tuple[str, ...] = ()  # endings of the names of low-pass filters
    block: Callable[[int], str] | None = None  # module of a block, by its number from 0, where that has a filter
    filter_gain: float = 4.0
    clamp: float | None = None  # where the file does not say it
    learning_rate: str = "lr_mul"  # attribute of fully connected layers, where the file holds modules
    style_offset: float = 0.0  # what is added to styles, beside their bias
    turned: bool = False  # whether kernels of upsampling layers are turned by 180 degrees
    blue_first: bool = False  # whether colours are in the order BGR
    required: dict[str, object] = field(default_factory=dict)  # attributes of modules, where there are any

    def names(self, config: GeneratorConfig) -> Iterator[Name]:
        """Names of all weights but the average of w."""
        modules = [(f"layers.{i}", self.mapping(i)) for i in range(config.mapping_layers)]
        modules += [("embed", self.embed)] if config.c_dim else []
        for module, there in modules:
            for ours, theirs in zip(("weight", "bias"), self.dense, strict=True):
                yield Name(f"mapping.{module}.{ours}", f"{there}.{theirs}")
        yield from self._synthesis_names(config)

    def _synthesis_names(self, config: GeneratorConfig) -> Iterator[Name]:
        yield Name("synthesis.blocks.0.const", self.const, self.const_ones)
        index = 0
        for block in range(len(config.resolutions)):
            for number in range(1 if block == 0 else 2):
                ours, theirs = f"synthesis.blocks.{block}.convs.{number}", self.conv(index)
                yield from self._modulated(ours, theirs)
                yield Name(f"{ours}.bias", f"{theirs}.{self.bias}")
                yield Name(f"{ours}.noise_strength", f"{theirs}.{self.strength}", self.strength_ones)
                # The first versions of some programs drew noise anew for each picture.
                yield Name(f"{ours}.noise_const", self.noise(index), self.noise_ones, optional=True)
                index += 1
            ours, theirs = f"synthesis.blocks.{block}.to_rgb", self.to_rgb(block)
            yield from self._modulated(ours, theirs)
            yield Name(f"{ours}.bias", f"{theirs}.bias", self.leading, self.trailing)

    def _modulated(self, ours: str, theirs: str) -> Iterator[Name]:
        yield Name(f"{ours}.weight", f"{theirs}.{self.kernel}", self.leading)
        for kind, name in zip(("weight", "bias"), self.affine_dense, strict=True):
            yield Name(f"{ours}.affine.{kind}", f"{theirs}.{self.affine}.{name}")

    def filter_names(self, config: GeneratorConfig) -> Iterator[str]:
        """Names of the low-pass filters that a program which reads the layout expects."""
        blocks = range(len(config.resolutions))
        if self.block is not None:  # in every block and convolution, used or not
            yield from (f"{self.block(block)}.{self.filters[0]}" for block in blocks)
            yield from (f"{self.conv(index)}.{self.filters[0]}" for index in range(2 * len(blocks) - 1))
            return
        for block in blocks[1:]:
            yield f"{self.conv(2 * block - 1)}.{self.filters[0]}"
            yield f"{self.to_rgb(block)}.{self.filters[1]}"


def read_skip(
    names: SkipNames, taking: Taking, kind: type[GeneratorConfig] = GeneratorConfig
) -> tuple[GeneratorConfig, dict[str, Tensor]]:
    """Read a generator whose weights are named so, as a `kind` of configuration. Raises FileError."""
    config = _config(names, taking, kind)
    _require_attributes(names, taking)
    for name in taking.network.weights:
        if name.endswith(names.filters):
            taking.filter_as(name, names.filter_gain * fir_kernel())
    weights = {}
    for name in names.names(config):
        if not (name.optional and name.theirs not in taking):
            weights[name.ours] = _scaled(names, taking, name)
    _to_ours(names, weights)
    return config, weights


def skip_state(names: SkipNames, config: GeneratorConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights by a program's names, with its filters: of one that has styles, kernels and colours as ours."""
    state = {}
    for name in names.names(config):
        value = weights[name.ours]
        state[name.theirs] = value.reshape([1] * name.before + list(value.shape) + [1] * name.after)
    return state | {name: names.filter_gain * fir_kernel() for name in names.filter_names(config)}


def _scaled(names: SkipNames, taking: Taking, name: Name) -> Tensor:
    """The weight, with the learning rate of its layer turned into ours: both count only as their product."""
    value = taking.take(name.theirs, name.before, name.after)
    is_mapping = name.ours.startswith("mapping.layers.")
    if not (is_mapping or ".affine." in name.ours or name.ours.startswith("mapping.embed.")):
        return value
    layer = _module(name.theirs, names.affine_dense if ".affine." in name.ours else names.dense)
    rate = scalar(names.learning_rate, taking.setting(layer, names.learning_rate))
    ours = LEARNING_RATE if is_mapping else 1.0
    return value if rate is None or rate == ours else value * (rate / ours)


def _module(weight: str, kinds: tuple[str, str]) -> str:
    for kind in kinds:
        if weight.endswith(f".{kind}"):
            return weight.removesuffix(f".{kind}")
    return weight


def _to_ours(names: SkipNames, weights: dict[str, Tensor]) -> None:
    for name, value in weights.items():
        if names.style_offset and name.endswith(".affine.bias"):
            weights[name] = value + names.style_offset
        if names.turned and name.endswith(".convs.0.weight") and not name.startswith("synthesis.blocks.0."):
            weights[name] = value.flip(2, 3)
        if names.blue_first and name.endswith((".to_rgb.weight", ".to_rgb.bias")) and len(value) == 3:
            weights[name] = value.flip(0)


def _config(names: SkipNames, taking: Taking, kind: type[GeneratorConfig]) -> GeneratorConfig:
    layers = 0
    while f"{names.mapping(layers)}.{names.dense[0]}" in taking and layers < 64:
        layers += 1
    blocks = 1
    while f"{names.conv(2 * blocks)}.{names.kernel}" in taking and blocks < 16:
        blocks += 1
    ones = names.leading
    kernels = [taking.shape(f"{names.conv(2 * block)}.{names.kernel}", 4 + ones)[ones:] for block in range(blocks)]
    out, width = taking.shape(f"{names.mapping(max(layers - 1, 0))}.{names.dense[0]}", 2)[0], 0
    first = taking.shape(f"{names.mapping(0)}.{names.dense[0]}", 2)
    c_dim = 0
    if names.embed and f"{names.embed}.{names.dense[0]}" in taking:
        width, c_dim = taking.shape(f"{names.embed}.{names.dense[0]}", 2)
    base, largest = channel_limits({4 << block: kernel[0] for block, kernel in enumerate(kernels)})
    colours = taking.shape(f"{names.to_rgb(0)}.{names.kernel}", 4 + ones)[ones]
    return make_config(
        kind,
        resolution=4 << (blocks - 1),
        z_dim=first[1] - width,
        w_dim=out,
        c_dim=c_dim,
        mapping_layers=layers,
        channel_base=base,
        channel_max=largest,
        img_channels=colours if colours in kind.channel_counts else require_colours(colours),
        conv_clamp=_clamp(names, taking, blocks),
        const_size=const_size(taking.weight(names.const).shape[names.const_ones :]),
    )


def _clamp(names: SkipNames, taking: Taking, blocks: int) -> float | None:
    if not taking.network.attributes:
        return scalar("conv_clamp", taking.arguments.get("conv_clamp", names.clamp))
    modules = [names.conv(index) for index in range(2 * blocks - 1)] + [names.to_rgb(block) for block in range(blocks)]
    known = [module for module in modules if "conv_clamp" in taking.network.attributes.get(module, {})]
    clamps = {scalar("conv_clamp", taking.setting(module, "conv_clamp")) for module in known}
    if len(clamps) > 1:
        raise Unsupported("clamps its layers at different values, which StyleGAN Fusion does not support")
    return clamps.pop() if clamps else None


def _require_attributes(names: SkipNames, taking: Taking) -> None:
    if not names.required:
        return
    layers = {names.mapping(index) for index in range(64)} | {names.conv(index) for index in range(32)}
    for module, attributes in taking.network.attributes.items():
        for name, wanted in names.required.items():
            # Other layers, ToRGB and affine ones, have no activation.
            if name != "activation" or module in layers:
                require_setting(attributes, name, wanted)
