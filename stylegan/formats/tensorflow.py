"""Pickles of NVlabs' TensorFlow programs: StyleGAN2 and StyleGAN2-ADA.

Three networks, the last one being the averaged generator: each has "static_kwargs", "variables" (names and arrays) and
"components", in the generator "mapping" and "synthesis". Kernels are [k, k, in, out], those of upsampling layers turned
by 180 degrees against ours, and styles are added to one.
"""

from typing import Any

from torch import Tensor

from ..config import GeneratorConfig
from .arrays import weight
from .errors import Damaged, Unsupported
from .inert_pickle import Global, Record
from .layout import listed
from .skip_layout import LEARNING_RATE
from .source import (
    Source,
    channel_limits,
    const_size,
    entries,
    layer_names,
    make_config,
    require_colours,
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
    "fmap_decay": 1.0,
}
"""Settings that have to be these, or left out."""


def find_network(root: Any) -> Any:
    """Return the averaged generator of a pickle's object, or its only network; None when it has none."""
    if isinstance(root, dict):
        root = next((root[name] for name in ("Gs", "G_ema", "G") if _is_network(root.get(name))), None)
    if type(root) in (tuple, list) and root and all(_is_network(network) for network in root):
        root = root[-1]
    return root if _is_network(root) else None


def _is_network(value: Any) -> bool:
    return isinstance(value, Record) and value.maker == _NETWORK


def read(network: Any) -> Source:
    """Read the generator that a network is. Raises FileError."""
    state = entries(network.state)
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
    rate = scalar("mapping_lrmul", settings.get("mapping_lrmul", LEARNING_RATE)) or LEARNING_RATE
    weights = {"mapping.w_avg": _Variables(state).tensor("dlatent_avg")}
    for index in range(config.mapping_layers):
        weights |= _dense(mapping, f"Dense{index}", f"mapping.layers.{index}", rate / LEARNING_RATE)
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
    left = [*mapping.left(), *synthesis.left()]
    if left:
        raise Unsupported(f"looks like {FORMAT}, but has {listed(left)}, which that has not: it is another network")
    return Source(FORMAT, config, weights)


class _Variables:
    """The variables of a network by their names."""

    def __init__(self, state: Any):
        self.values, self.taken = {}, {"lod"}
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
        if name not in self.taken:
            found = weight(self.values[name])
            if found is None:
                raise Damaged("something else is where a weight should be")
            self.values[name] = found.read()
            self.taken.add(name)
        value = self.values[name]
        if dimensions is not None and (value.ndim != dimensions or value.numel() == 0):
            raise Damaged(f"its variable {name!r} has shape {list(value.shape)}")
        return value

    def left(self) -> list[str]:
        """Return the names of the variables that nothing asked for."""
        return [name for name in self.values if name not in self.taken]


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
        img_channels=require_colours(synthesis.tensor("4x4/ToRGB/weight", 4).shape[3]),
        conv_clamp=scalar("conv_clamp", clamp),
        const_size=const_size(synthesis.tensor("4x4/Const/const", 4).shape[1:]),
    )


def _dense(variables: _Variables, theirs: str, ours: str, rate: float = 1.0) -> dict[str, Tensor]:
    """Weight and bias, times a learning rate relative to ours: both count only as their product."""
    weight, bias = variables.tensor(f"{theirs}/weight", 2).t(), variables.tensor(f"{theirs}/bias", 1)
    if rate != 1:
        weight, bias = weight * rate, bias * rate
    return {f"{ours}.weight": weight, f"{ours}.bias": bias}


def _modulated(variables: _Variables, theirs: str, ours: str, turned: bool = False) -> dict[str, Tensor]:
    weight = variables.tensor(f"{theirs}/weight", 4).permute(3, 2, 0, 1)
    return {
        f"{ours}.weight": weight.flip(2, 3) if turned else weight,
        f"{ours}.bias": variables.tensor(f"{theirs}/bias", 1),
        f"{ours}.affine.weight": variables.tensor(f"{theirs}/mod_weight", 2).t(),
        f"{ours}.affine.bias": variables.tensor(f"{theirs}/mod_bias", 1) + 1,
    }
