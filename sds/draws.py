"""What a batch of a training draws, from the random numbers of its micro step."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..stylegan import class_labels
from ..training.draws import MicroStep
from .schedules import scheduled_timestep
from .settings import TrainSettings


def draw_timestep(micro_step: MicroStep, settings: TrainSettings) -> float:
    """Draw the timestep of a batch, in [t_min, t_max]."""
    random = torch.rand((), generator=micro_step.rng("timestep"), dtype=torch.float64).item()
    progress = micro_step.step / settings.steps
    return scheduled_timestep(settings.timestep_schedule, progress, random, settings.t_min, settings.t_max)


def draw_z(micro_step: MicroStep, count: int, z_dim: int) -> Tensor:
    """Draw the generator's input latents [count, z_dim] of a batch, on the CPU."""
    return torch.randn(count, z_dim, generator=micro_step.rng("latents"))


def draw_labels(micro_step: MicroStep, count: int, c_dim: int, class_index: int | None) -> Tensor | None:
    """Draw one-hot labels [count, c_dim] of a batch, on the CPU, of random classes unless one
    is given; None without any."""
    if c_dim == 0 or class_index is not None:
        return class_labels(c_dim, count, class_index=class_index)
    return torch.eye(c_dim)[torch.randint(c_dim, (count,), generator=micro_step.rng("classes"))]


def noise_source(micro_step: MicroStep, device: torch.device) -> Callable[[torch.Size], Tensor]:
    """Return a function that draws eps of a shape, afresh with every call."""
    random = micro_step.rng("noise")
    return lambda shape: torch.randn(shape, generator=random).to(device)
