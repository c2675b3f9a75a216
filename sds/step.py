"""One training step."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..stylegan import class_labels
from .objective import NonFiniteGradient
from .progress import StepRecord
from .state import TrainState

# What a step draws, each from a generator of its own: more of one leaves the others as they are.
_TIMESTEP, _LATENTS, _NOISE, _CLASSES = range(4)


def train_step(state: TrainState) -> StepRecord:
    """Draw a batch, choose layers, update them. A step whose gradient is not finite changes no weight."""
    step, settings = state.step, state.settings
    t = draw_timestep(settings.seed, step, settings.t_min, settings.t_max)
    try:
        layers, losses = _update(state, t)
        record = StepRecord(step + 1, t, losses, layers)
    except NonFiniteGradient as error:
        record = StepRecord(step + 1, t, skipped=str(error))
    state.optimizer.zero_grad()
    state.step += 1
    return record


def _update(state: TrainState, t: float) -> tuple[tuple[int, ...], dict[str, float]]:
    """The layers that were updated and the terms' losses."""
    objective, generator, settings = state.objective, state.generator, state.settings
    device = objective.prior.device
    with torch.no_grad():
        style = draw_latents(settings.seed, state.step, settings.batch_size, generator.z_dim)
        label = draw_labels(settings.seed, state.step, settings.batch_size, generator.c_dim, settings.class_index)
        ws = state.frozen.mapping(style.to(device), label=None if label is None else label.to(device))
    z0 = objective.frozen_latents(state.frozen, ws)
    draw_noise = noise_source(settings.seed, state.step, device)

    parameters = state.parameters(state.candidates)
    codes = [ws.requires_grad_()] if state.layers.needs_code_gradient else []
    gradients, losses = objective.gradients(generator, ws, z0, t, draw_noise, parameters + codes)

    def code_gradient_at(shift: Tensor) -> Tensor:
        code = (ws.detach() + shift).requires_grad_()
        (gradient,), _ = objective.gradients(generator, code, z0, t, draw_noise, [code])
        return gradient * settings.batch_size

    code_gradient = gradients[-1] * settings.batch_size if codes else None
    layers = state.layers.choose(state.candidates, code_gradient, code_gradient_at)
    # The others' gradients stay None: a gradient of zero would still age Adam's moments of them.
    chosen = set(state.parameters(layers))
    for parameter, gradient in zip(parameters, gradients, strict=False):
        if parameter in chosen:
            parameter.grad = gradient
    state.update()
    return layers, losses


def draw_timestep(seed: int, step: int, t_min: float, t_max: float) -> float:
    """The timestep of a step (counted from 0), uniform in [t_min, t_max]."""
    fraction = torch.rand((), generator=_random(seed, step, _TIMESTEP), dtype=torch.float64).item()
    return t_min + (t_max - t_min) * fraction


def draw_latents(seed: int, step: int, count: int, z_dim: int) -> Tensor:
    """The generator's latents [count, z_dim] of a step, on the CPU."""
    return torch.randn(count, z_dim, generator=_random(seed, step, _LATENTS))


def draw_labels(seed: int, step: int, count: int, c_dim: int, class_index: int | None) -> Tensor | None:
    """One-hot labels [count, c_dim] of a step, on the CPU, of random classes unless one is given; None without any."""
    if c_dim == 0 or class_index is not None:
        return class_labels(c_dim, count, class_index=class_index)
    return torch.eye(c_dim)[torch.randint(c_dim, (count,), generator=_random(seed, step, _CLASSES))]


def noise_source(seed: int, step: int, device: torch.device) -> Callable[[torch.Size], Tensor]:
    """A function that draws eps of a shape, afresh with every call of a step."""
    random = _random(seed, step, _NOISE)
    return lambda shape: torch.randn(shape, generator=random).to(device)


def _random(seed: int, step: int, purpose: int) -> torch.Generator:
    """A generator on the CPU, whatever the device, so that every device draws the same numbers."""
    mixed = np.random.SeedSequence(seed, spawn_key=(step, purpose)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))
