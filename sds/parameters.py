"""Which tensors of a generator are trained.

As the method's official code does in 2D for StyleGAN2: of a convolution the weight, the style affine's weight and the
noise strength; never a bias. For StyleGAN3, whose layers have no noise, the weight and the style affine's weight. The
mapping is never trained.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..stylegan import Generator


def layer_parameters(generator: Generator, index: int) -> list[nn.Parameter]:
    """Return the trained parameters of the synthesis layer with this index in W+."""
    return _without_biases(generator.synthesis.layers[index])


def group_parameters(generator: Generator, group: str) -> list[nn.Parameter]:
    """Return the trained parameters of a group in `settings.PARAMETER_GROUPS`. Raises ValueError
    when the generator has none."""
    groups = generator.synthesis.groups
    if group not in groups:
        raise ValueError(f"This generator has no group {group!r} to train; it has {', '.join(groups)}.")
    return [
        parameter
        for part in groups[group]
        for parameter in ([part] if isinstance(part, nn.Parameter) else _without_biases(part))
    ]


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


def trained_parameters(generator: Generator, layers: Sequence[int], groups: Sequence[str]) -> list[nn.Parameter]:
    """Return the parameters of these layers and groups, each once."""
    parameters = [p for index in layers for p in layer_parameters(generator, index)]
    parameters += [p for group in groups for p in group_parameters(generator, group)]
    return list(dict.fromkeys(parameters))
