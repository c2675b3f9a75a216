"""Two generators blended into one, all weights alike or layer by layer (Pinkney and Adler, arXiv 2010.05334)."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields

import torch

from .architectures import ARCHITECTURES
from .codes import codes_between
from .networks import Generator

_MAY_DIFFER = ("conv_clamp",)  # no sizes of weights


@torch.inference_mode(False)  # a host may blend within inference mode, whose tensors could never be trained
@torch.no_grad()
def blend_generators(
    first: Generator, second: Generator, amounts: Sequence[float], mapping_amount: float = 0.0
) -> Generator:
    """Return a generator with (1 - p) first + p second in every weight: p is amounts[i] for layer i of
    `synthesis.layers`, for the constant that of layer 0, for a ToRGB that of the layer before it, and
    `mapping_amount` for the mapping.

    Where p is 0 or 1 weights are those of one generator, bit for bit. In eval mode, on the first one's device.
    Raises ValueError when the generators are not built alike or the number of amounts is not that of the layers."""
    require_alike(first, second)
    count = len(first.synthesis.layers)
    if len(amounts) != count:
        raise ValueError(f"There are {len(amounts)} amounts for {count} layers; give one for each.")
    first.mapping.centre(), second.mapping.centre()
    blended = copy.deepcopy(first).eval().requires_grad_(False)
    weights, others = blended.state_dict(), second.state_dict()
    for name, amount in _amount_of_each(blended, amounts, mapping_amount).items():
        other = others[name].to(weights[name])
        if amount == 1:
            weights[name].copy_(other)
        elif amount != 0:
            weights[name].lerp_(other, amount)
    return blended


def blended(
    first: Generator,
    second: Generator,
    weight: float,
    swap_from: int | None = None,
    softness: float = 0.0,
    swap_layer: int | None = None,
) -> tuple[Generator, str]:
    """Blend with one weight for the second: in all weights, or where layers are swapped (from a number of pixels over the
    picture on, or from a layer on) in these. Return the generator, and the share of the second in words. Raises
    ValueError as `blend_generators` and `swap_amounts` do."""
    count = len(first.synthesis.layers)
    if swap_layer is not None:
        amounts, said = swap_amounts_at(count, swap_layer, weight, softness), f"from layer {swap_layer} on"
    elif swap_from is not None:
        amounts, said = swap_amounts(first, swap_from, weight, softness), f"from {swap_from} pixels on"
    else:
        return blend_generators(first, second, [weight] * count, weight), f"{weight:g} in all weights"
    return blend_generators(first, second, amounts), f"{weight:g} {said}, softness {softness:g}"


def _amount_of_each(generator: Generator, amounts: Sequence[float], mapping_amount: float) -> dict[str, float]:
    """The amount of each entry of state_dict()."""
    synthesis, found = generator.synthesis, {id(generator.mapping): mapping_amount}
    for layer, companions, amount in zip(synthesis.layers, synthesis.companions, amounts, strict=True):
        found |= dict.fromkeys(map(id, [layer, *companions]), amount)
    result = {name: found[id(value)] for name, value in generator.named_parameters() if id(value) in found}
    for path, module in generator.named_modules():
        if id(module) in found:
            result.update((f"{path}.{name}", found[id(module)]) for name in module.state_dict())
    missing = generator.state_dict().keys() - result.keys()
    assert not missing, f"weights without an amount: {sorted(missing)}"
    return result


def require_alike(first: Generator, second: Generator) -> None:
    """Raise ValueError when two generators are not of one kind and of the same sizes."""
    kinds = [ARCHITECTURES[generator.config.architecture].title for generator in (first, second)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"One of these generators is a {kinds[0]} and the other a {kinds[1]}; take two of one kind.")
    for name in (field.name for field in fields(first.config) if field.name not in _MAY_DIFFER):
        a, b = getattr(first.config, name), getattr(second.config, name)
        if a != b:
            raise ValueError(
                f"These generators are not built alike ({name} is {a} in the first and {b} in the second); take two of the "
                "same sizes, for example one and what was adapted from it."
            )


def swap_amounts(generator: Generator, resolution: int, amount: float = 1.0, softness: float = 0.0) -> list[float]:
    """Return the amounts for `blend_generators`: 0 for the layers that draw what is coarser than `resolution`
    pixels over the picture, and `amount` from there on. With a softness above 0 the change is a logistic curve,
    that many layers long on each side of the border; `synthesis.detail` tells how layers are counted. Raises
    ValueError when no layer is so fine."""
    count = len(generator.synthesis.layers)
    fine = [index for index in codes_between(generator, resolution, float("inf")) if index < count]
    if not fine:
        raise ValueError(f"This generator has no layer for {resolution} pixels and more; swap from a coarser one.")
    return swap_amounts_at(count, fine[0], amount, softness)


def swap_amounts_at(count: int, layer: int, amount: float = 1.0, softness: float = 0.0) -> list[float]:
    """Return the same as `swap_amounts`, for `count` layers, from the index of a layer on. Raises ValueError
    when there is no such layer."""
    if layer >= count:
        raise ValueError(f"There is no layer {layer}: these generators have the layers 0 to {count - 1}.")
    if softness == 0:
        return [amount if index >= layer else 0.0 for index in range(count)]
    places = (torch.arange(count, dtype=torch.float64) + 0.5 - layer) / softness
    return (amount * torch.sigmoid(places * 3)).tolist()  # 95 % of the way `softness` layers from the border


def joint_licence(*metadata: Mapping[str, str]) -> str:
    """Return the licences of generators that one was made of, each once; "" where none has any."""
    parts = (part for one in metadata for part in one.get("license", "").split("; ") if part)
    return "; ".join(dict.fromkeys(parts))


def blend_metadata(
    first: tuple[str, Mapping[str, str]], second: tuple[str, Mapping[str, str]], share: str
) -> dict[str, str]:
    """Make the metadata for `save_generator` of two generators, each a name with its metadata, blended so that the
    second has a `share`, in words. The crop is the first one's, and both licences hold. Of one that was blended itself,
    what went into that is left out: it would double with every blend."""
    described = [
        {"name": name, "metadata": {key: value for key, value in metadata.items() if key != "blend"}}
        for name, metadata in (first, second)
    ]
    licence = joint_licence(first[1], second[1])
    result = {
        "source": f"{first[0]} and {second[0]}",
        "blend": json.dumps({"first": described[0], "second": described[1], "share of the second": share}),
    }
    if licence:
        result["license"] = licence
    if first[1].get("crop"):
        result["crop"] = first[1]["crop"]
    return result
