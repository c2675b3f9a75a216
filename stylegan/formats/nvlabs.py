"""Pickles of NVlabs' PyTorch programs: StyleGAN2-ADA, and both generators of the StyleGAN3 repository.

A dictionary holds "G_ema", "G" and "D": modules of which the pickle keeps the program's source, the class's name, and
as state the attributes of torch.nn.Module with "_init_kwargs", the constructor's arguments. The source is never used.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..alias_free import AliasFreeSynthesis
from ..config import GeneratorConfig, StyleGAN3Config
from ..layers import fir_kernel
from .arrays import shape, tensor
from .errors import Damaged, Unsupported
from .inert_pickle import Global, Record
from .source import (
    Source,
    channel_limits,
    entries,
    layer_names,
    make_config,
    require_setting,
    scalar,
)

STYLEGAN2 = "NVlabs StyleGAN2 (PyTorch pickle)"
STYLEGAN3 = "NVlabs StyleGAN3 (PyTorch pickle)"

_RECONSTRUCT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")


class Module:
    """A Module is one of their modules, as data."""

    def __init__(self, record: Any):
        match record:
            case Record(maker=maker, args=(dict(meta),)) if maker == _RECONSTRUCT:
                self.state = entries(meta.get("state"))
            case _:
                raise Damaged("something else is where a network should be")
        self.children: Mapping[str, Any] = entries(self.state.get("_modules", {}))

    def child(self, name: str) -> "Module":
        return Module(self._find(self.children, name))

    def weight(self, name: str) -> Tensor:
        """Return the parameter or buffer of this name."""
        kind = "_parameters" if name in entries(self.state.get("_parameters", {})) else "_buffers"
        return tensor(self._find(entries(self.state.get(kind, {})), name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the parameter, without reading its numbers."""
        return shape(self._find(entries(self.state.get("_parameters", {})), name))

    def whole(self, name: str) -> int:
        value = self._find(self.state, name)
        if type(value) is not int:
            raise Damaged(f"its {name!r} is no whole number")
        return value

    def require(self, name: str, wanted: Any) -> None:
        """Raise FileError when the attribute is there and is another one."""
        require_setting(self.state, name, wanted)

    def arguments(self) -> Mapping[str, Any]:
        """Return what the constructor was called with."""
        return entries(self.state.get("_init_kwargs", {}))

    @staticmethod
    def _find(mapping: Mapping[str, Any], name: str) -> Any:
        if name not in mapping:
            raise Damaged(f"it lacks {name!r}")
        return mapping[name]


def is_nvlabs(root: Any) -> bool:
    networks = entries(root) if isinstance(root, dict | Record) else {}
    return any(_is_module(networks.get(name)) for name in ("G_ema", "G")) or _is_module(root)


def _is_module(value: Any) -> bool:
    return isinstance(value, Record) and value.maker == _RECONSTRUCT


def read(root: Any) -> Source:
    """Read the generator of a pickle's object. Raises FileError."""
    if _is_module(root):
        generator = Module(root)
    else:
        networks = entries(root)
        generator = Module(networks["G_ema"] if _is_module(networks.get("G_ema")) else networks["G"])
    if "synthesis" not in generator.children or "mapping" not in generator.children:
        raise Unsupported("holds another network, not a StyleGAN generator")
    mapping, synthesis = generator.child("mapping"), generator.child("synthesis")
    if "b4" in synthesis.children:
        source, config = STYLEGAN2, _stylegan2_config(mapping, synthesis)
        weights = _stylegan2_weights(synthesis, config)
    elif "input" in synthesis.children:
        source, config = STYLEGAN3, _stylegan3_config(mapping, synthesis)
        weights = _stylegan3_weights(synthesis, config)
    else:
        raise Unsupported("holds a generator of another kind than StyleGAN2 and StyleGAN3")
    return Source(source, config, {**_mapping_weights(mapping, config.mapping_layers), **weights})


def _mapping_sizes(mapping: Module) -> dict[str, int]:
    return {
        "z_dim": mapping.whole("z_dim"),
        "w_dim": mapping.whole("w_dim"),
        "c_dim": mapping.whole("c_dim"),
        "mapping_layers": mapping.whole("num_layers"),
    }


def _mapping_weights(mapping: Module, layers: int) -> dict[str, Tensor]:
    weights = {}
    for index in range(layers):
        layer = mapping.child(f"fc{index}")
        layer.require("activation", "lrelu")
        layer.require("bias_gain", 0.01)
        weights |= {f"mapping.layers.{index}.{kind}": layer.weight(kind) for kind in ("weight", "bias")}
    if mapping.whole("c_dim"):
        embed = mapping.child("embed")
        weights |= {f"mapping.embed.{kind}": embed.weight(kind) for kind in ("weight", "bias")}
    if "w_avg" in entries(mapping.state.get("_buffers", {})):
        weights["mapping.w_avg"] = mapping.weight("w_avg")
    return weights


def _stylegan2_config(mapping: Module, synthesis: Module) -> GeneratorConfig:
    resolution = synthesis.whole("img_resolution")
    channels, clamps = {}, []
    side = 4
    while side <= min(resolution, 2048):
        block = synthesis.child(f"b{side}")
        block.require("architecture", "skip")
        conv = block.child("conv1")
        channels[side] = (conv.shape("weight") or (0,))[0]
        clamps.append(scalar("conv_clamp", conv.state.get("conv_clamp")))
        side *= 2
    if any(clamp != clamps[0] for clamp in clamps):
        raise Unsupported("clamps its layers at different values, which StyleGAN Fusion does not support")
    if not channels:
        raise Damaged(f"its resolution is {resolution}")
    base, largest = channel_limits(channels)
    return make_config(
        GeneratorConfig,
        resolution=resolution,
        **_mapping_sizes(mapping),
        channel_base=base,
        channel_max=largest,
        img_channels=synthesis.whole("img_channels"),
        conv_clamp=clamps[0],
    )


def _stylegan2_weights(synthesis: Module, config: GeneratorConfig) -> dict[str, Tensor]:
    weights = {"synthesis.blocks.0.const": synthesis.child("b4").weight("const")}
    for resolution in config.resolutions:
        _require_filter(synthesis.child(f"b{resolution}").weight("resample_filter"), fir_kernel())
    for resolution, conv, ours in layer_names(config):
        layer = synthesis.child(f"b{resolution}").child(f"conv{1 if resolution == 4 else conv}")
        layer.require("activation", "lrelu")
        layer.require("use_noise", True)
        weights |= _modulated(layer, ours)
        weights |= {f"{ours}.{name}": layer.weight(name) for name in ("noise_strength", "noise_const")}
    for block, resolution in enumerate(config.resolutions):
        weights |= _modulated(synthesis.child(f"b{resolution}").child("torgb"), f"synthesis.blocks.{block}.to_rgb")
    return weights


def _modulated(layer: Module, ours: str) -> dict[str, Tensor]:
    affine = layer.child("affine")
    return {
        f"{ours}.weight": layer.weight("weight"),
        f"{ours}.bias": layer.weight("bias"),
        f"{ours}.affine.weight": affine.weight("weight"),
        f"{ours}.affine.bias": affine.weight("bias"),
    }


def _require_filter(theirs: Tensor, ours: Tensor) -> None:
    if theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours, atol=1e-4):
        raise Unsupported("has other low-pass filters than its settings say, which StyleGAN Fusion does not support")


_FREE = ("magnitude_ema_beta", "num_fp16_res", "w_dim", "img_resolution", "img_channels", "channels_last")
"""Arguments of the synthesis network that do not change what it draws in single precision, or are known otherwise."""


def _stylegan3_config(mapping: Module, synthesis: Module) -> StyleGAN3Config:
    known = {f for f in StyleGAN3Config.__dataclass_fields__ if f not in ("z_dim", "w_dim", "c_dim", "mapping_layers")}
    sizes = {}
    for name, value in synthesis.arguments().items():
        if name in known:
            sizes[name] = scalar(name, value)
        elif name not in _FREE:
            raise Unsupported(f"was made with an argument {name!r}, which StyleGAN Fusion does not know")
    sizes |= {"resolution": synthesis.whole("img_resolution"), "img_channels": synthesis.whole("img_channels")}
    return make_config(StyleGAN3Config, **_mapping_sizes(mapping), **sizes)


def _stylegan3_weights(synthesis: Module, config: StyleGAN3Config) -> dict[str, Tensor]:
    with torch.device("meta"):
        layers = AliasFreeSynthesis(config)
    entry = synthesis.child("input")
    weights = {f"synthesis.input.{name}": entry.weight(name) for name in ("weight", "freqs", "phases", "transform")}
    weights |= {f"synthesis.input.affine.{kind}": entry.child("affine").weight(kind) for kind in ("weight", "bias")}
    for index, ours in enumerate([*layers.convs, layers.to_rgb]):
        name = next((name for name in synthesis.children if str(name).startswith(f"L{index}_")), f"L{index}")
        layer = synthesis.child(name)
        for kind in ("up_filter", "down_filter"):
            theirs = entries(layer.state.get("_buffers", {})).get(kind)
            if (theirs is None) != (getattr(ours, kind) is None):
                raise Unsupported("has other filters than its settings say, which StyleGAN Fusion does not support")
            if theirs is not None:
                _require_filter(tensor(theirs), getattr(ours, kind))
        prefix = "synthesis.to_rgb" if index == config.num_layers else f"synthesis.convs.{index}"
        weights |= _modulated(layer, prefix)
        weights[f"{prefix}.magnitude_ema"] = layer.weight("magnitude_ema")
    return weights
