"""The settings of a training, checked once."""

import math
from dataclasses import dataclass

from ..stylegan import Crop
from .schedules import TIMESTEP_SCHEDULES, WEIGHTINGS, guidance_scaling

PARAMETER_GROUPS = ("constant", "4x4", "to_rgb")
"""Groups that are frozen by default and can be trained too, by name."""


def parse_groups(text: str) -> tuple[str, ...]:
    """Names of parameter groups written with commas, "" for none; `TrainSettings` checks them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True)
class TrainSettings:
    """How long, how fast and at which timesteps to train. Raises ValueError naming the setting that is out of range."""

    steps: int = 1000  # 1000 for faces, 2000 for cats in the paper; fewer selected layers need more
    batch_size: int = 1  # samples that share a timestep; leaves the size of a step alone
    accumulation: int = (
        1  # batches a step, one after the other and each with its own timestep; memory stays that of one
    )
    learning_rate: float = 0.001  # before the factor 4/5 of StyleGAN2's lazy regularization: Adam gets 0.0008
    cooldown: float = 0.0  # share of the steps, the last ones, over which the learning rate falls linearly to 0
    t_min: float = 0.01  # lowest timestep, as a fraction of the schedule: 0 = clean
    t_max: float = 0.5  # highest timestep, as a fraction of the schedule: 1 = pure noise
    timestep_schedule: str = "uniform"  # of TIMESTEP_SCHEDULES: how timesteps are taken from that range
    weighting: str = "sds"  # of WEIGHTINGS: what a gradient counts at its timestep
    guidance_end: float = 1.0  # share of the prior's guidance scale that is left at the last step; 1 keeps it
    seed: int = 0  # latents, noise and timesteps of a step are a function of (seed, step)
    gradient_clamp: float | None = 1.0  # each term's latent gradient is clamped to [-this, this]; None: not at all
    image_clamp_quantile: float | None = 0.95  # each sample's image gradient is clamped at this quantile; None: off
    also_train: tuple[str, ...] = ()  # of PARAMETER_GROUPS, in addition to the chosen layers
    class_index: int | None = None  # of a generator with classes: the one to draw; None: a random one for each sample
    crop: Crop | None = None  # what the prior looks at of each image; None: all
    diversity_every: int = 50  # steps between two measurements of diversity
    diversity_samples: int = 16  # samples they compare
    collapse_threshold: float = 0.5  # share of the frozen generator's diversity under which a collapse is reported
    checkpoint: bool | None = (
        None  # compute activations again instead of keeping them; None: for priors above 256 pixels
    )
    max_skipped_in_a_row: int = 10  # steps in a row with a non-finite gradient that end the run

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulation", "diversity_every", "max_skipped_in_a_row"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.diversity_samples < 2:
            raise ValueError(f"diversity_samples is {self.diversity_samples}; a distance needs at least 2 samples.")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"The seed is {self.seed}; give a whole number from 0 to 2^64 - 1.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"The learning rate is {self.learning_rate}; it must be above 0 (0.001 is the default).")
        if not 0.0 <= self.collapse_threshold <= 1.0:
            raise ValueError(
                f"The collapse threshold is {self.collapse_threshold}; give a share from 0 (never warn) to 1."
            )
        if not (math.isfinite(self.guidance_end) and self.guidance_end >= 0):
            raise ValueError(
                f"guidance_end is {self.guidance_end}; give the share of the guidance scale at the last step, 1 to keep it."
            )
        for name, known in (("timestep_schedule", TIMESTEP_SCHEDULES), ("weighting", WEIGHTINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"There is no {name} {getattr(self, name)!r}; choose from {', '.join(known)}.")
        if not 0.0 <= self.cooldown <= 1.0:
            raise ValueError(f"The cooldown is {self.cooldown}; give a share of the steps from 0 (none) to 1 (all).")
        if not (0.0 <= self.t_min <= 1.0 and 0.0 <= self.t_max <= 1.0):
            raise ValueError(
                f"The timestep range {self.t_min} to {self.t_max} leaves the schedule; "
                "give two fractions between 0 (clean) and 1 (pure noise)."
            )
        if self.t_min > self.t_max:
            raise ValueError(
                f"The timestep range {self.t_min} to {self.t_max} is empty; t_min must not be above t_max."
            )
        if self.gradient_clamp is not None and not self.gradient_clamp > 0:
            raise ValueError(f"gradient_clamp is {self.gradient_clamp}; give a number above 0, or None to turn it off.")
        if self.image_clamp_quantile is not None and not 0.0 < self.image_clamp_quantile <= 1.0:
            raise ValueError(
                f"image_clamp_quantile is {self.image_clamp_quantile}; "
                "give a fraction above 0 and at most 1, or None to turn it off."
            )
        unknown = [name for name in self.also_train if name not in PARAMETER_GROUPS]
        if unknown:
            raise ValueError(f"There is no parameter group {unknown[0]!r}; choose from {', '.join(PARAMETER_GROUPS)}.")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.cooldown == 0:
            return self.learning_rate
        return self.learning_rate * min(1.0, (self.steps - step) / (self.cooldown * self.steps))

    def guidance_at(self, step: int) -> float:
        """What the prior's guidance scale is multiplied by in a step, counted from 0."""
        return guidance_scaling(step / max(1, self.steps - 1), self.guidance_end)
