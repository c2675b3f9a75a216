"""One training step."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..stylegan import class_labels
from ..training.out_of_memory import is_out_of_memory, switch_off_onednn
from .objective import Batch, NonFiniteGradient, Reference
from .progress import StepRecord
from .schedules import scheduled_timestep
from .settings import TrainSettings
from .state import TrainState

# What a batch draws, each from a generator of its own: more of one leaves the others as they are.
_TIMESTEP, _LATENTS, _NOISE, _CLASSES = range(4)


def train_step(state: TrainState) -> StepRecord:
    """Draw batches, choose layers, update them. A step whose gradient is not finite changes no weight.

    Where memory runs out, the gradients are computed again in smaller pieces. Raises NoMemoryLeft when there are none."""
    timesteps = [draw_timestep(state.settings, state.step, turn) for turn in range(state.settings.accumulation)]
    t = sum(timesteps) / len(timesteps)
    try:
        layers, losses = _update(state, timesteps)
        record = StepRecord(state.step + 1, t, losses, layers)
    except NonFiniteGradient as error:
        record = StepRecord(state.step + 1, t, skipped=str(error))
    state.whole = False
    state.optimizer.zero_grad()
    state.step += 1
    state.history.records.append(record)
    state.whole = True
    return record


def _update(state: TrainState, timesteps: list[float]) -> tuple[tuple[int, ...], dict[str, float]]:
    """The layers that were updated and the terms' losses."""
    while True:
        try:
            parameters, gradients, layers, losses = _gradients(state, timesteps)
            state.reserve(layers)
            break
        except Exception as error:
            again = switch_off_onednn(error)
            if not again and not is_out_of_memory(error):
                raise
            reason = str(error)
        # Outside of the handler, whose error holds on to every tensor of the attempt.
        state.give_up_attempt()
        if not again:
            state.use_less_memory(reason)
    # The others' gradients stay None: a gradient of zero would still age Adam's moments of them.
    chosen = set(state.parameters(layers))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if parameter in chosen:
            parameter.grad = gradient
    state.whole = False
    state.update()
    return layers, losses


def _gradients(state: TrainState, timesteps: list[float]):
    """The candidates' parameters, the mean of the batches' gradients for each, the chosen layers, the terms' losses."""
    objective, generator, count = state.objective, state.generator, len(timesteps)
    batches = [_draw_batch(state, turn, t) for turn, t in enumerate(timesteps)]
    parameters = state.parameters(state.candidates)

    references = [objective.reference(state.frozen, batch.ws, state.piece) for batch in batches]

    def gradients(batch: Batch, reference: Reference, inputs: list[Tensor]) -> tuple[list[Tensor], dict[str, float]]:
        return objective.gradients(generator, batch, reference, inputs, state.piece, state.checkpoint)

    sums, codes, losses = None, [], {}
    for batch, reference in zip(batches, references, strict=True):
        leaf = [batch.ws.requires_grad_()] if state.layers.needs_code_gradient else []
        found, of_batch = gradients(batch, reference, parameters + leaf)
        codes += [found.pop() * len(batch.ws) for _ in leaf]
        sums = found if sums is None else [a.add_(b) for a, b in zip(sums, found, strict=True)]
        for name, loss in of_batch.items():
            losses[name] = losses.get(name, 0.0) + loss / count
    if count > 1:
        sums = [gradient.div_(count) for gradient in sums]

    def code_gradient_at(shift: Tensor) -> Tensor:
        moved = []
        parts = shift.split(state.settings.batch_size)
        for batch, reference, part in zip(batches, references, parts, strict=True):
            code = (batch.ws.detach() + part).requires_grad_()
            (gradient,), _ = gradients(dataclasses.replace(batch, ws=code), reference, [code])
            moved.append(gradient * len(code))
        return torch.cat(moved)

    layers = state.layers.choose(state.candidates, torch.cat(codes) if codes else None, code_gradient_at)
    return parameters, sums, layers, losses


def _draw_batch(state: TrainState, turn: int, t: float) -> Batch:
    settings, frozen, step = state.settings, state.frozen, state.step
    device = state.objective.prior.device
    style = draw_latents(settings.seed, step, settings.batch_size, frozen.z_dim, turn)
    label = draw_labels(settings.seed, step, settings.batch_size, frozen.c_dim, settings.class_index, turn)
    with torch.no_grad():
        ws = frozen.mapping(style.to(device), label=None if label is None else label.to(device))
    return Batch(ws, t, noise_source(settings.seed, step, device, turn), settings.guidance_at(step))


def draw_timestep(settings: TrainSettings, step: int, turn: int = 0) -> float:
    """The timestep of a step's batch (both counted from 0), in [t_min, t_max]."""
    random = torch.rand((), generator=_random(settings.seed, step, _TIMESTEP, turn), dtype=torch.float64).item()
    return scheduled_timestep(settings.timestep_schedule, step / settings.steps, random, settings.t_min, settings.t_max)


def draw_latents(seed: int, step: int, count: int, z_dim: int, turn: int = 0) -> Tensor:
    """The generator's latents [count, z_dim] of a step's batch, on the CPU."""
    return torch.randn(count, z_dim, generator=_random(seed, step, _LATENTS, turn))


def draw_labels(seed: int, step: int, count: int, c_dim: int, class_index: int | None, turn: int = 0) -> Tensor | None:
    """One-hot labels [count, c_dim] of a step's batch, on the CPU, of random classes unless one is given; None without
    any."""
    if c_dim == 0 or class_index is not None:
        return class_labels(c_dim, count, class_index=class_index)
    return torch.eye(c_dim)[torch.randint(c_dim, (count,), generator=_random(seed, step, _CLASSES, turn))]


def noise_source(seed: int, step: int, device: torch.device, turn: int = 0) -> Callable[[torch.Size], Tensor]:
    """A function that draws eps of a shape, afresh with every call of a step's batch."""
    random = _random(seed, step, _NOISE, turn)
    return lambda shape: torch.randn(shape, generator=random).to(device)


def _random(seed: int, step: int, purpose: int, turn: int) -> torch.Generator:
    """A generator on the CPU, whatever the device, so that every device draws the same numbers."""
    key = (step, purpose, turn) if turn else (step, purpose)
    mixed = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))
