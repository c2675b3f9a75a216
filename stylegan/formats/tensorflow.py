"""Pickles of NVlabs' TensorFlow programs: StyleGAN2 and StyleGAN2-ADA.

Three networks, the last one being the averaged generator: each has "static_kwargs", "variables" (names and arrays) and
"components", in the generator "mapping" and "synthesis". Kernels are [k, k, in, out], those of upsampling layers turned
by 180 degrees against ours, and styles are added to one.
"""

from typing import Any

from torch import Tensor

from ..config import GeneratorConfig
from .arrays import tensor
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

FORMAT = "NVlabs StyleGAN2 (TensorFlow pickle)"

_NETWORK = Global("dnnlib.tflib.network", "Network")

_ASSUMED = {
    "architecture": "skip",
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "resample_kernel": [1, 3, 3, 1],
    "use_noise": True,
    "normalize_latents": True,
    "mapping_lrmul": 0.01,
    "fmap_decay": 1.0,
}
"""Settings that have to be these, or left out."""


def is_tensorflow(root: Any) -> bool:
    return type(root) in (tuple, list) and len(root) == 3 and all(_is_network(network) for network in root)


def _is_network(value: Any) -> bool:
    return isinstance(value, Record) and value.maker == _NETWORK


def read(root: Any) -> Source:
    """Read the generator of a pickle's object. Raises FileError."""
    state = entries(root[2].state)
    settings = entries(state.get("static_kwargs", {}))
    for name, wanted in _ASSUMED.items():
        require_setting(settings, name, wanted)
    components = entries(state.get("components", {}))
    if not all(_is_network(components.get(name)) for name in ("mapping", "synthesis")):
        raise Unsupported("holds another network, not a StyleGAN2 generator")
    mapping = _Variables(entries(components["mapping"].state))
    synthesis = _Variables(entries(components["synthesis"].state))
    if "4x4/ToRGB/weight" not in synthesis:
        raise Unsupported(
            "is a StyleGAN1 or an early configuration of StyleGAN2 (A to D, or without skips), which StyleGAN Fusion "
            "does not support",
            "choose one of the configurations E and F",
        )
    config = _config(mapping, synthesis, settings.get("conv_clamp"))
    weights = {"mapping.w_avg": _Variables(state).tensor("dlatent_avg")}
    for index in range(config.mapping_layers):
        weights |= _dense(mapping, f"Dense{index}", f"mapping.layers.{index}")
    if config.c_dim:
        weights |= _dense(mapping, "LabelEmbed", "mapping.embed")
    weights["synthesis.blocks.0.const"] = synthesis.tensor("4x4/Const/const", 4)[0]
    for index, (resolution, conv, ours) in enumerate(layer_names(config)):
        theirs = "4x4/Conv" if index == 0 else f"{resolution}x{resolution}/{'Conv1' if conv else 'Conv0_up'}"
        weights |= _modulated(synthesis, theirs, ours, turned=theirs.endswith("_up"))
        weights[f"{ours}.noise_strength"] = synthesis.tensor(f"{theirs}/noise_strength", 0)
        weights[f"{ours}.noise_const"] = synthesis.tensor(f"noise{index}", 4)[0, 0]
    for block, resolution in enumerate(config.resolutions):
        weights |= _modulated(synthesis, f"{resolution}x{resolution}/ToRGB", f"synthesis.blocks.{block}.to_rgb")
    return Source(FORMAT, config, weights)


class _Variables:
    """The variables of a network by their names."""

    def __init__(self, state: Any):
        self.values = {}
        listed = state.get("variables", [])
        for pair in listed if type(listed) is list else []:
            match pair:
                case (str(name), value):
                    self.values[name] = value
                case _:
                    raise Damaged("its list of variables makes no sense")

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def tensor(self, name: str, dimensions: int | None = None) -> Tensor:
        if name not in self.values:
            raise Damaged(f"it lacks the variable {name!r}")
        value = self.values[name]
        if not isinstance(value, Tensor):
            value = self.values[name] = tensor(value)
        if dimensions is not None and (value.ndim != dimensions or value.numel() == 0):
            raise Damaged(f"its variable {name!r} has shape {list(value.shape)}")
        return value


def _config(mapping: _Variables, synthesis: _Variables, clamp: Any) -> GeneratorConfig:
    channels = {4: synthesis.tensor("4x4/Conv/weight", 4).shape[3]}
    resolution = 4
    while f"{2 * resolution}x{2 * resolution}/Conv1/weight" in synthesis and resolution < 4096:
        resolution *= 2
        channels[resolution] = synthesis.tensor(f"{resolution}x{resolution}/Conv1/weight", 4).shape[3]
    layers = 0
    while f"Dense{layers}/weight" in mapping and layers < 256:
        layers += 1
    if "LabelConcat/weight" in mapping:
        raise Unsupported("takes class labels in the way of StyleGAN1, which StyleGAN Fusion does not support")
    first = mapping.tensor("Dense0/weight", 2)
    w_dim = mapping.tensor(f"Dense{layers - 1}/weight", 2).shape[1]
    c_dim = mapping.tensor("LabelEmbed/weight", 2).shape[0] if "LabelEmbed/weight" in mapping else 0
    base, largest = channel_limits(channels)
    return make_config(
        GeneratorConfig,
        resolution=resolution,
        z_dim=first.shape[0] - (w_dim if c_dim else 0),
        w_dim=w_dim,
        c_dim=c_dim,
        mapping_layers=layers,
        channel_base=base,
        channel_max=largest,
        img_channels=synthesis.tensor("4x4/ToRGB/weight", 4).shape[3],
        conv_clamp=scalar("conv_clamp", clamp),
    )


def _dense(variables: _Variables, theirs: str, ours: str) -> dict[str, Tensor]:
    return {
        f"{ours}.weight": variables.tensor(f"{theirs}/weight", 2).t(),
        f"{ours}.bias": variables.tensor(f"{theirs}/bias", 1),
    }


def _modulated(variables: _Variables, theirs: str, ours: str, turned: bool = False) -> dict[str, Tensor]:
    weight = variables.tensor(f"{theirs}/weight", 4).permute(3, 2, 0, 1)
    return {
        f"{ours}.weight": weight.flip(2, 3) if turned else weight,
        f"{ours}.bias": variables.tensor(f"{theirs}/bias", 1),
        f"{ours}.affine.weight": variables.tensor(f"{theirs}/mod_weight", 2).t(),
        f"{ours}.affine.bias": variables.tensor(f"{theirs}/mod_bias", 1) + 1,
    }
