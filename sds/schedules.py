"""Which timestep a step takes, and how much its gradient counts there, by name."""

import math
from collections.abc import Callable

TimestepSchedule = Callable[[float, float], float]
"""(progress of the training in [0, 1), random number in [0, 1)) to a place in the timestep range, 0 = its lower end."""

Weighting = Callable[[float, float], float]
"""(alpha_t, sigma_t) to w_t, the factor of each term's gradient."""

TIMESTEP_SCHEDULES: dict[str, TimestepSchedule] = {
    "uniform": lambda progress, random: random,  # DreamFusion and the paper
    "annealed": lambda progress, random: (1 - progress) * random,  # the range's upper end falls to the lower one
    "linear": lambda progress, random: 1 - progress,  # never up: large timesteps draw shapes, small ones details
    "sqrt": lambda progress, random: 1 - math.sqrt(progress),  # HiFA, arXiv 2305.18766: soon at small timesteps
}

WEIGHTINGS: dict[str, Weighting] = {
    "sds": lambda alpha, sigma: sigma**2,  # DreamFusion and the paper, eq. 3
    "uniform": lambda alpha, sigma: 1.0,  # every timestep alike
    "fantasia3d": lambda alpha, sigma: alpha * sigma**2,  # arXiv 2303.13873: less at large timesteps
    "x0": lambda alpha, sigma: (
        sigma / alpha
    ),  # the difference of clean latents, z - zhat_0 = (sigma/alpha)(eps_hat - eps)
}


def timestep_weight(name: str, alpha: float, sigma: float) -> float:
    """Return w_t of a weighting. Models that see z_t larger than it is (flow models with scaled noise) are brought back
    to alpha^2 + sigma^2 = 1 first: weights were made for that."""
    radius = max(1.0, math.hypot(alpha, sigma))
    return WEIGHTINGS[name](alpha / radius, sigma / radius)


def scheduled_timestep(name: str, progress: float, random: float, t_min: float, t_max: float) -> float:
    """Return the timestep, a fraction of the schedule between t_min and t_max."""
    return t_min + (t_max - t_min) * TIMESTEP_SCHEDULES[name](progress, random)
