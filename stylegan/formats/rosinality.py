"""The layout of rosinality's stylegan2-pytorch, which StyleGAN-NADA and the method's first code use, too.

A torch file holds "g_ema", the state of a network whose names are listed below, and perhaps "latent_avg". Weights have
an extra first dimension of one. Channels are 512 up to 32 pixels, then 256 m at 64, halving with each doubling, for a
channel multiplier m of 1 or 2; activations are not clamped.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..architectures import ARCHITECTURES
from ..config import Config, GeneratorConfig
from ..layers import fir_kernel
from .errors import Damaged, Unsupported
from .source import Source, channel_limits, make_config

FORMAT = "rosinality StyleGAN2"
METADATA = "metadata"  # where our own files of this layout keep theirs; other programs ignore it


def generator_state(root: Any) -> Any:
    """Return the generator's part of what the file holds: the averaged weights, if there are any."""
    for key in ("g_ema", "g"):
        if isinstance(root, Mapping) and key in root:
            return root[key]
    return root


def is_rosinality(state: Any) -> bool:
    return isinstance(state, Mapping) and "conv1.conv.modulation.weight" in state and "style.1.weight" in state


def read(root: Mapping[str, Any]) -> Source:
    """Read the generator in what a file of this layout holds. Raises FileError."""
    state = generator_state(root)
    tensors = {name: value for name, value in state.items() if type(name) is str and isinstance(value, Tensor)}
    config = _config(tensors)
    _check_filters(tensors)
    weights = {}
    for ours, theirs, before, after in _names(config):
        if theirs in tensors:
            weights[ours] = _without_ones(theirs, tensors[theirs], before, after)
        elif not theirs.startswith("noises."):  # the first versions drew them anew each time
            raise Damaged(f"it lacks the weight {theirs!r}")
    average = root.get("latent_avg") if root is not state else None
    if isinstance(average, Tensor) and average.numel() == config.w_dim:
        weights["mapping.w_avg"] = average.reshape(config.w_dim)
    described = root.get(METADATA) if root is not state else None
    metadata = described if isinstance(described, dict) else {}
    return Source(FORMAT, config, weights, {k: v for k, v in metadata.items() if type(k) is type(v) is str})


def write(config: Config, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what torch.save shall write for a generator. Raises FileError when the layout has no place for it."""
    if config.architecture != GeneratorConfig.architecture:
        raise no_place(f"a {ARCHITECTURES[config.architecture].title} generator")
    multiplier = _multiplier(config)
    state = {}
    for ours, theirs, before, after in _names(config):
        value = weights[ours]
        state[theirs] = value.reshape([1] * before + list(value.shape) + [1] * after)
    for name in _filter_names(config):
        state[name] = 4 * fir_kernel()
    described = {**metadata, "channel_multiplier": str(multiplier)}
    return {"g_ema": state, "latent_avg": weights["mapping.w_avg"], METADATA: described}


def _config(tensors: Mapping[str, Tensor]) -> GeneratorConfig:
    blocks = 1
    while f"convs.{2 * blocks - 1}.conv.weight" in tensors and blocks < 16:
        blocks += 1
    layers = 0
    while f"style.{layers + 1}.weight" in tensors and layers < 256:
        layers += 1
    names = ["conv1", *(f"convs.{2 * block - 1}" for block in range(1, blocks))]
    channels = {}
    for block, name in enumerate(names):
        weight = tensors.get(f"{name}.conv.weight")
        if weight is None or weight.ndim != 5:
            raise Damaged(f"its weight {name}.conv.weight is missing or has another shape")
        channels[4 << block] = weight.shape[1]
    first, colours = tensors.get("style.1.weight"), tensors.get("to_rgb1.conv.weight")
    if first is None or first.ndim != 2 or colours is None or colours.ndim != 5:
        raise Damaged("its weights have other shapes than a generator's")
    base, largest = channel_limits(channels)
    return make_config(
        GeneratorConfig,
        resolution=4 << (blocks - 1),
        z_dim=first.shape[1],
        w_dim=first.shape[0],
        mapping_layers=layers,
        channel_base=base,
        channel_max=largest,
        img_channels=colours.shape[1],
        conv_clamp=None,
    )


def _names(config: GeneratorConfig) -> Iterator[tuple[str, str, int, int]]:
    """Our name and theirs of every weight, and how many dimensions of one theirs has before and after ours."""
    for i in range(config.mapping_layers):
        for kind in ("weight", "bias"):
            yield f"mapping.layers.{i}.{kind}", f"style.{i + 1}.{kind}", 0, 0
    yield "synthesis.blocks.0.const", "input.input", 1, 0
    index = 0
    for block in range(len(config.resolutions)):
        for conv in range(1 if block == 0 else 2):
            ours, theirs = f"synthesis.blocks.{block}.convs.{conv}", "conv1" if index == 0 else f"convs.{index - 1}"
            yield from _modulated(ours, theirs)
            yield f"{ours}.bias", f"{theirs}.activate.bias", 0, 0
            yield f"{ours}.noise_strength", f"{theirs}.noise.weight", 1, 0
            yield f"{ours}.noise_const", f"noises.noise_{index}", 2, 0
            index += 1
        ours, theirs = f"synthesis.blocks.{block}.to_rgb", "to_rgb1" if block == 0 else f"to_rgbs.{block - 1}"
        yield from _modulated(ours, theirs)
        yield f"{ours}.bias", f"{theirs}.bias", 1, 2


def _modulated(ours: str, theirs: str) -> Iterator[tuple[str, str, int, int]]:
    yield f"{ours}.weight", f"{theirs}.conv.weight", 1, 0
    for kind in ("weight", "bias"):
        yield f"{ours}.affine.{kind}", f"{theirs}.conv.modulation.{kind}", 0, 0


def _without_ones(name: str, value: Tensor, before: int, after: int) -> Tensor:
    shape = list(value.shape)
    if shape[:before] != [1] * before or shape[len(shape) - after :] != [1] * after or len(shape) < before + after:
        raise Damaged(f"its weight {name!r} has shape {shape}")
    return value.reshape(shape[before : len(shape) - after])


def _filter_names(config: GeneratorConfig) -> list[str]:
    blocks = len(config.resolutions) - 1
    return [name for i in range(blocks) for name in (f"convs.{2 * i}.conv.blur.kernel", f"to_rgbs.{i}.upsample.kernel")]


def _check_filters(tensors: Mapping[str, Tensor]) -> None:
    for name, value in tensors.items():
        if name.endswith(".kernel") and not (value.shape == (4, 4) and torch.allclose(value.float(), 4 * fir_kernel())):
            raise Unsupported("resamples with another filter than [1, 3, 3, 1], which StyleGAN Fusion does not support")


def _multiplier(config: GeneratorConfig) -> int:
    if config.z_dim != config.w_dim:
        raise no_place(f"latents of different widths, {config.z_dim} and {config.w_dim}")
    if config.c_dim or config.img_channels != 3:
        raise no_place("class labels" if config.c_dim else f"pictures of {config.img_channels} channels")
    for multiplier in (1, 2):
        expected = {r: 512 if r <= 32 else 16384 * multiplier // r for r in config.resolutions}
        if all(config.channels(r) == count for r, count in expected.items()):
            return multiplier
    raise no_place(f"{config.channels(4)} channels at 4 pixels and {config.channels(config.resolution)} in the end")


def no_place(what: str) -> Unsupported:
    return Unsupported(f"was not written: rosinality's layout has no place for {what}", "keep it as safetensors")
