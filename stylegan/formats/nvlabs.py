"""The layouts of NVlabs' PyTorch programs: StyleGAN2-ADA, and both generators of the StyleGAN3 repository.

Their pickles, and files of torch.save, hold modules ("G_ema", "G" and "D"), of which the pickle keeps the program's
source, the class's name, and as state the attributes of torch.nn.Module with "_init_kwargs", the constructor's arguments.
Others have kept the state dictionary alone: then the sizes follow from the weights, and what does not is taken to be as
the programs have it by default.
"""

import math
from collections.abc import Mapping
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ..alias_free import AliasFreeSynthesis, signals
from ..config import SQUARE, Config, StyleGAN3Config
from .errors import Unsupported
from .layout import ARGUMENTS, METADATA, Layout, Taking, listed, no_place
from .skip_layout import LEARNING_RATE, SkipNames, read_skip, skip_state
from .source import entries, make_config, require_colours, require_setting, scalar

_FIRST = 36
"""Width of the first feature maps of a square StyleGAN3 with the arguments that its programs have by default."""

CLAMP = 256.0
"""What their trainings clamp activations at."""

_FILTERS = ("resample_filter",)


def _block(index: int) -> str:
    return f"synthesis.b{4 << index}"


def _conv(index: int) -> str:
    return f"{_block((index + 1) // 2)}.conv{1 if index % 2 == 0 else 0}"


STYLEGAN2_NAMES = SkipNames(
    mapping=lambda i: f"mapping.fc{i}",
    embed="mapping.embed",
    const="synthesis.b4.const",
    conv=_conv,
    to_rgb=lambda i: f"{_block(i)}.torgb",
    noise=lambda i: f"{_conv(i)}.noise_const",
    filters=_FILTERS,
    block=_block,
    filter_gain=1.0,
    clamp=CLAMP,
    learning_rate="bias_gain",
    required={"architecture": "skip", "activation": "lrelu", "use_noise": True},
)

STYLEGAN2 = Layout("NVlabs StyleGAN2", "synthesis.b4.const", lambda taking: read_skip(STYLEGAN2_NAMES, taking))

_FREE = ("magnitude_ema_beta", "num_fp16_res", "w_dim", "img_resolution", "img_channels", "channels_last", "square")
"""Arguments of the synthesis network that do not change what it draws in single precision, or are known otherwise."""

_HUMAN = (4, 2)
"""The proportions that StyleGAN-Human's StyleGAN3 has without its argument "square". Layers are named by their width."""


def _read_stylegan3(taking: Taking) -> tuple[StyleGAN3Config, dict[str, Tensor]]:
    names = _layers(taking)
    mapping, weights = _mapping(taking)
    config = _config(taking, names, mapping)
    with torch.device("meta"):
        ours = AliasFreeSynthesis(config)
    layers = [*ours.convs, ours.to_rgb]
    if len(names) != len(layers):
        raise _other_layers(f"{len(names)} layers instead of {len(layers)}")
    entry = "synthesis.input"
    weights |= {
        f"{entry}.{name}": taking.take(f"{entry}.{name}") for name in ("weight", "freqs", "phases", "transform")
    }
    weights |= _dense(taking, f"{entry}.affine", 1.0)
    for index, (name, layer) in enumerate(zip(names, layers, strict=True)):
        described = name.removeprefix("synthesis.").split("_")[1:]
        wanted = [str(layer.size[1]), str(len(layer.weight))]
        if described and described != wanted:
            raise _other_layers(f"{name!r} where L{index}_{'_'.join(wanted)} belongs")
        for kind in ("up_filter", "down_filter"):
            wanted, there = getattr(layer, kind), f"{name}.{kind}" in taking
            if there != (wanted is not None):
                raise _other_layers(f"{'a' if there else 'no'} filter {name}.{kind}")
            if there:
                taking.filter_as(f"{name}.{kind}", wanted)
        prefix = "synthesis.to_rgb" if layer is ours.to_rgb else f"synthesis.convs.{index}"
        weights |= {f"{prefix}.{kind}": taking.take(f"{name}.{kind}") for kind in ("weight", "bias", "magnitude_ema")}
        affine = _dense(taking, f"{name}.affine", 1.0)
        weights |= {f"{prefix}.affine.{key.rsplit('.', 1)[1]}": value for key, value in affine.items()}
    return config, weights


def _other_layers(what: str) -> Unsupported:
    return Unsupported(f"has other layers than a StyleGAN3 generator of its sizes ({what})")


def _layers(taking: Taking) -> list[str]:
    """The modules of the convolutions and of ToRGB: L0_36_512 and so on, or L0."""
    by_number = {}
    for name in taking.network.weights:
        match name.split("."):
            case ["synthesis", layer, "weight"] if layer[:1] == "L":
                by_number[layer.split("_")[0]] = f"synthesis.{layer}"
    names = []
    for index in count():
        if f"L{index}" not in by_number:
            return names
        names.append(by_number[f"L{index}"])


def _dense(taking: Taking, name: str, rate: float) -> dict[str, Tensor]:
    """Weight and bias of a fully connected layer, with its learning rate turned into ours: both count only as their
    product."""
    theirs = scalar("bias_gain", taking.setting(name, "bias_gain"))
    values = {f"{name}.{kind}": taking.take(f"{name}.{kind}") for kind in ("weight", "bias")}
    return values if theirs in (None, rate) else {key: value * (theirs / rate) for key, value in values.items()}


def _mapping(taking: Taking) -> tuple[dict[str, int], dict[str, Tensor]]:
    """Sizes and weights of the mapping."""
    weights, layers = {}, 0
    while f"mapping.fc{layers}.weight" in taking and layers < 64:
        require_setting(taking.network.attributes.get(f"mapping.fc{layers}", {}), "activation", "lrelu")
        dense = _dense(taking, f"mapping.fc{layers}", LEARNING_RATE)
        weights |= {f"mapping.layers.{layers}.{key.rsplit('.', 1)[1]}": value for key, value in dense.items()}
        layers += 1
    first = taking.shape("mapping.fc0.weight", 2)
    last = taking.shape(f"mapping.fc{layers - 1}.weight", 2)
    width, c_dim = 0, 0
    if "mapping.embed.bias" in taking:
        width, c_dim = taking.shape("mapping.embed.weight", 2)
        weights |= _dense(taking, "mapping.embed", 1.0)
    else:
        taking.leave("mapping.embed.weight")  # unconditional StyleGAN-XL keeps an embedding that it does not use
    sizes = {"z_dim": first[1] - width, "w_dim": last[0], "c_dim": c_dim, "mapping_layers": layers}
    return sizes, weights


def _config(taking: Taking, names: list[str], mapping: dict[str, int]) -> StyleGAN3Config:
    """The configuration, from the constructor's arguments or from the weights."""
    if len(names) < 2:
        raise _other_layers(f"{len(names)} layers")
    colours = require_colours(taking.shape(f"{names[-1]}.weight", 4)[0])
    known = {f for f in StyleGAN3Config.__dataclass_fields__ if f not in ("z_dim", "w_dim", "c_dim", "mapping_layers")}
    resolution = taking.setting("synthesis", "img_resolution")
    arguments = taking.setting("synthesis", "_init_kwargs")
    if arguments is None and taking.arguments:
        resolution = taking.arguments.get("img_resolution")
        arguments = {name: value for name, value in taking.arguments.items() if name in {*known, "square"}}
    if arguments is None:
        return make_config(StyleGAN3Config, **mapping, img_channels=colours, **_inferred(taking, names))
    sizes = {}
    for name, value in entries(arguments).items():
        if name in known:
            sizes[name] = scalar(name, value)
        elif name not in _FREE:
            raise Unsupported(f"was made with an argument {str(name)[:80]!r}, which StyleGAN Fusion does not know")
    sizes |= {
        "resolution": scalar("img_resolution", resolution),
        "img_channels": colours,
        "const_size": SQUARE if entries(arguments).get("square", True) is True else _HUMAN,
    }
    return make_config(StyleGAN3Config, **mapping, **sizes)


def _inferred(taking: Taking, names: list[str]) -> Mapping[str, object]:
    """Sizes of the synthesis network that its names and shapes tell; its filters are compared later."""
    described = names[-1].split("_")
    if len(described) != 3 or not described[1].isdecimal() or len(described[1]) > 6:
        raise Unsupported(
            f"does not tell the size of its pictures (its layers are named {listed([names[-1].split('.')[1]])})",
            "choose the .pkl that it was made from",
        )
    kernel = taking.shape(f"{names[0]}.weight", 4)[2]
    width, first = int(described[1]), names[0].split("_")[1:2]
    is_square = first != [str(_FIRST // 2)]
    sizes = {
        "resolution": width if is_square else 2 * width,
        "const_size": SQUARE if is_square else _HUMAN,
        "num_layers": len(names) - 1,
        "conv_kernel": kernel,
        "use_radial_filters": any(
            len(value.shape) == 2 for name, value in taking.network.weights.items() if name.endswith(".down_filter")
        ),
    }
    channels = [taking.shape(f"{name}.weight", 4)[0] for name in names[:-1]]
    base = make_config(StyleGAN3Config, **sizes, channel_base=2**20, channel_max=2**14)
    cutoffs = [signal.cutoff for signal in signals(base)][: len(channels)]
    return {
        **sizes,
        "channel_max": max(channels),
        "channel_base": _channel_base(channels, cutoffs, sizes["resolution"]),
    }


def _channel_base(channels: list[int], cutoffs: list[float], resolution: int) -> int:
    """The roundest channel_base that gives layers with these cutoffs that many channels, min(base / 2 / cutoff, max)."""
    largest = max(channels)
    pairs = list(zip(channels, cutoffs, strict=True))
    low = max(2 * cutoff * (each - 0.5) for each, cutoff in pairs)
    high = min((2 * cutoff * (each + 0.5) for each, cutoff in pairs if each < largest), default=math.inf)
    power = 2 ** math.ceil(math.log2(max(low, resolution, 1)))
    if power <= high:
        return power
    for step in (2**k for k in range(power.bit_length(), -1, -1)):
        found = math.ceil(low / step) * step
        if found <= high:
            return found
    raise _other_layers(f"{channels[-1]} channels in the end")


STYLEGAN3 = Layout("NVlabs StyleGAN3", "synthesis.input.freqs", _read_stylegan3)


def write(config: Config, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what torch.save shall write for a generator: its state dictionary, which the classes of the StyleGAN3
    repository load strictly, and their arguments. Raises FileError when the layout has no place for it.

    Forks of the programs that draw other pictures than squares have the same names: StyleGAN-Human with the argument
    square, eps696's stylegan2ada with init_res."""
    if config.takes_cameras:
        raise no_place("NVlabs", f"a {config.architecture.upper()} generator")
    if isinstance(config, StyleGAN3Config):
        if config.const_size not in (SQUARE, _HUMAN):
            raise no_place(
                "NVlabs", f"pictures of StyleGAN3 that are not square ({config.width} x {config.height} pixels)"
            )
        state, own = _stylegan3_state(config, weights), _STYLEGAN3_ARGUMENTS
    else:
        state, own = skip_state(STYLEGAN2_NAMES, config, weights), ("channel_base", "channel_max", "conv_clamp")
    arguments = {
        "class_name": f"training.networks_{config.architecture}.Generator",
        **{name: getattr(config, name) for name in ("z_dim", "c_dim", "w_dim")},
        "img_resolution": config.resolution,
        "img_channels": config.img_channels,
        "mapping_kwargs": {"num_layers": config.mapping_layers},
        **{name: getattr(config, name) for name in own},
    }
    if config.const_size == _HUMAN:
        arguments["square"] = False
    elif config.const_size != SQUARE:
        arguments["init_res"] = list(config.const_size)
    state["mapping.w_avg"] = weights["mapping.w_avg"]
    return {"G_ema": state, ARGUMENTS: arguments, METADATA: dict(metadata)}


_STYLEGAN3_ARGUMENTS = (
    "channel_base",
    "channel_max",
    "conv_clamp",
    "num_layers",
    "num_critical",
    "first_cutoff",
    "first_stopband",
    "last_stopband_rel",
    "margin_size",
    "output_scale",
    "conv_kernel",
    "filter_size",
    "lrelu_upsampling",
    "use_radial_filters",
)


def _stylegan3_state(config: StyleGAN3Config, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    with torch.device("meta"):
        ours = AliasFreeSynthesis(config)
    modules = {"mapping.embed": "mapping.embed", "synthesis.input": "synthesis.input"}
    modules |= {f"mapping.layers.{i}": f"mapping.fc{i}" for i in range(config.mapping_layers)}
    state = {}
    for index, layer in enumerate([*ours.convs, ours.to_rgb]):
        name = f"synthesis.L{index}_{layer.size[1]}_{len(layer.weight)}"
        modules["synthesis.to_rgb" if layer is ours.to_rgb else f"synthesis.convs.{index}"] = name
        filters = {kind: getattr(layer, kind) for kind in ("up_filter", "down_filter")}
        state |= {f"{name}.{kind}": value for kind, value in filters.items() if value is not None}
    for ours, theirs in modules.items():
        inside = (name for name in weights if name.startswith(f"{ours}."))
        state |= {theirs + name.removeprefix(ours): weights[name] for name in inside}
    return state
