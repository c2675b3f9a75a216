"""What a batch of a training draws, from the random numbers of its micro step."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..stylegan import Config, class_labels, on_sphere
from ..training.draws import MicroStep
from .schedules import scheduled_timestep
from .settings import TrainSettings

HEIGHT = 1.52
"""The middle of the cameras' vertical angles in radians, as EG3D counts them: a little above the front."""


def draw_timestep(micro_step: MicroStep, settings: TrainSettings, place: int = 0) -> float:
    """Draw the timestep of a batch, in [t_min, t_max]; those at the further places are spread evenly from it."""
    random = torch.rand((), generator=micro_step.rng("timestep"), dtype=torch.float64).item()
    random = (random + place / settings.timesteps_per_image) % 1.0
    progress = micro_step.step / settings.steps
    return scheduled_timestep(settings.timestep_schedule, progress, random, settings.t_min, settings.t_max)


def draw_later(micro_step: MicroStep, t: float, settings: TrainSettings) -> float:
    """Draw a timestep up to a tenth of the way from t_min to t later than t (ASD, arXiv 2407.02040)."""
    random = torch.rand((), generator=micro_step.rng("later timestep"), dtype=torch.float64).item()
    return min(1.0, t + 0.1 * random * (t - settings.t_min))


def draw_z(micro_step: MicroStep, count: int, z_dim: int) -> Tensor:
    """Draw the generator's input latents [count, z_dim] of a batch, on the CPU."""
    return torch.randn(count, z_dim, generator=micro_step.rng("latents"))


def draw_labels(micro_step: MicroStep, count: int, c_dim: int, class_index: int | None) -> Tensor | None:
    """Draw one-hot labels [count, c_dim] of a batch, on the CPU, of random classes unless one
    is given; None without any."""
    if c_dim == 0 or class_index is not None:
        return class_labels(c_dim, count, class_index=class_index)
    return torch.eye(c_dim)[torch.randint(c_dim, (count,), generator=micro_step.rng("classes"))]


def draw_cameras(micro_step: MicroStep, count: int, config: Config, settings: TrainSettings) -> Tensor | None:
    """Draw cameras [count, 25] of a batch, on the CPU: on the ellipse of the method's official code, whose middle is a
    little above the front, or all around; None for a generator that takes none."""
    if not config.takes_cameras:
        return None
    turns, heights = torch.rand(2, count, generator=micro_step.rng("cameras"), dtype=torch.float64)
    yaw, pitch = math.radians(settings.camera_yaw), math.radians(settings.camera_pitch)
    if settings.camera_yaw == 180:
        return on_sphere(config, 2 * math.pi * turns, HEIGHT + pitch * (2 * heights - 1))
    wave = 2 * math.pi * turns
    return on_sphere(config, math.pi / 2 + yaw * wave.sin(), HEIGHT + pitch * wave.cos())


def draw_ray_seeds(micro_step: MicroStep, count: int, config: Config) -> tuple[int, ...] | None:
    """Draw the seeds of where on its rays each picture of a batch is looked at; None for a generator without rays."""
    if not config.takes_cameras:
        return None
    return tuple(torch.randint(2**62, (count,), generator=micro_step.rng("rays")).tolist())


def draw_rows(micro_step: MicroStep, count: int, accumulation: int, size: int, purpose: str) -> Tensor:
    """Draw the rows [count] of a batch from a pool of a size. All come once before any comes again, in another order each
    time."""
    start = (micro_step.step * accumulation + micro_step.index) * count
    places = torch.arange(start, start + count)
    orders = {
        turn: torch.randperm(size, generator=MicroStep(micro_step.seed, turn).rng(purpose))
        for turn in (places // size).unique().tolist()
    }
    return torch.stack([orders[place // size][place % size] for place in places.tolist()])


def noise_source(micro_step: MicroStep, device: torch.device) -> Callable[..., Tensor]:
    """Return a function that draws eps of a shape, afresh with every call, whichever of an image's timesteps it is for."""
    random = micro_step.rng("noise")
    return lambda shape, place=0: torch.randn(shape, generator=random).to(device)
