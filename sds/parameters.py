"""Which tensors of a generator are trained: a parameterization says which of a layer's.

The mapping is never trained.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..stylegan import Generator


def _weights(generator: Generator, index: int) -> list[nn.Parameter]:
    """As the method's official code does in 2D for StyleGAN2: of a convolution the weight, the style affine's weight and
    the noise strength; never a bias. For StyleGAN3, whose layers have no noise, the weight and the style affine's
    weight."""
    return _without_biases(generator.synthesis.layers[index])


def _weights_of_group(generator: Generator, group: str) -> list[nn.Parameter]:
    return [
        parameter
        for part in generator.synthesis.groups[group]
        for parameter in ([part] if isinstance(part, nn.Parameter) else _without_biases(part))
    ]


def _shifts(generator: Generator, index: int) -> list[nn.Parameter]:
    """As in StyleDomain (Alanov et al., arXiv 2212.10229): what is added to each style channel, which is the bias of the
    style affine, of a layer and of the ToRGB that follows it."""
    parts = [generator.synthesis.layers[index], *generator.synthesis.companions[index]]
    return [affine.bias for part in parts if isinstance(affine := getattr(part, "affine", None), nn.Module)]


@dataclass(frozen=True)
class Parameterization:
    """A Parameterization says what of a layer is trained, and of a group of those that are frozen by default; None where
    it has no such groups."""

    of_layer: Callable[[Generator, int], list[nn.Parameter]]
    of_group: Callable[[Generator, str], list[nn.Parameter]] | None = None


PARAMETERIZATIONS = {"weights": Parameterization(_weights, _weights_of_group), "styles": Parameterization(_shifts)}
"""Parameterizations by their names in the settings."""


def group_parameters(generator: Generator, group: str, parameterization: str = "weights") -> list[nn.Parameter]:
    """Return the trained parameters of a group in `settings.PARAMETER_GROUPS`. Raises ValueError when the generator has
    none, or what is trained is nothing that groups have."""
    of_group = PARAMETERIZATIONS[parameterization].of_group
    if of_group is None:
        raise ValueError(
            f"Trained are {parameterization} alone, of which {group!r} has none to add; leave also_train empty, or train "
            "weights."
        )
    groups = generator.synthesis.groups
    if group not in groups:
        raise ValueError(f"This generator has no group {group!r} to train; it has {', '.join(groups)}.")
    return of_group(generator, group)


def copy_generator(generator: Generator, device: torch.device) -> Generator:
    """Make an independent copy in float32 and eval mode on a device, its parameters not recording gradients.

    Outside of torch.inference_mode the copies of inference tensors are normal ones."""
    return copy.deepcopy(generator).to(device=device, dtype=torch.float32).requires_grad_(False).eval()


def with_weights(generator: Generator, weights: Mapping[str, Tensor]) -> Generator:
    """Copy a generator, where it lives, with some of its parameters replaced, given by name. Raises ValueError when a
    name or a shape is not the generator's."""
    changed = copy_generator(generator, next(generator.parameters()).device)
    parameters = dict(changed.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            if name not in parameters or parameters[name].shape != value.shape:
                raise ValueError(f"The weights do not belong to this generator: {name} {tuple(value.shape)}.")
            parameters[name].copy_(value)
    return changed


def _without_biases(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for name, parameter in module.named_parameters() if name.split(".")[-1] != "bias"]


def trained_parameters(
    generator: Generator, layers: Sequence[int], groups: Sequence[str] = (), parameterization: str = "weights"
) -> list[nn.Parameter]:
    """Return what a parameterization trains of these layers and groups, each parameter once. Raises ValueError as
    `group_parameters`."""
    of_layer = PARAMETERIZATIONS[parameterization].of_layer
    parameters = [p for index in layers for p in of_layer(generator, index)]
    parameters += [p for group in groups for p in group_parameters(generator, group, parameterization)]
    return list(dict.fromkeys(parameters))
