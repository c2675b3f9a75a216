"""The latents that a training draws from again and again, and what is computed once of each."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..stylegan import Draw, Generator
from ..training.draws import MicroStep
from .draws import draw_rows
from .objective import FROZEN_ROWS, Objective, Predictions, Reference
from .schedules import scheduled_timestep
from .settings import TrainSettings

NOISE = "noise pool"
"""The purpose of its random numbers."""


class LatentPool:
    """A LatentPool is K samples that batches are drawn from, each looked at with M noises, or with new ones in every step.

    What the frozen generator and the prior make of a sample is computed when it is first drawn, and kept beside the device.
    That is done for each by itself, so that a training that goes on from a file finds the same bits."""

    def __init__(self, draw: Draw, objective: Objective, frozen: Generator, settings: TrainSettings):
        self.draw, self.objective, self.frozen, self.settings = draw.to("cpu"), objective, frozen, settings
        self._latents: dict[int, Tensor] = {}  # z0 of rows
        self._predictions: dict[tuple[int, int], Predictions] = {}  # of rows and noises

    def rows(self, micro_step: MicroStep) -> list[int]:
        """Draw the rows of a batch."""
        settings = self.settings
        return draw_rows(micro_step, settings.batch_size, settings.accumulation, len(self.draw), "latent pool").tolist()

    def samples(self, rows: Sequence[int]) -> Draw:
        """Return what the pictures of rows are rendered from."""
        draw = self.draw
        cameras = None if draw.cameras is None else draw.cameras[rows]
        seeds = draw.ray_seeds and tuple(draw.ray_seeds[row] for row in rows)
        return Draw(draw.ws[rows], None, cameras, seeds).to(self._device)

    @property
    def _device(self) -> torch.device:
        return self.objective.prior.device

    def noises(self, micro_step: MicroStep, count: int) -> list[int]:
        """Draw which noises a batch is looked at with, spread over all of them."""
        every = self.settings.noise_pool
        first = torch.randint(every, (), generator=micro_step.rng(NOISE)).item()
        return [(first + place * every // count) % every for place in range(count)]

    def timestep(self, noise: int) -> float:
        """Return the timestep of a noise."""
        settings = self.settings
        place = (noise + 0.5) / settings.noise_pool
        return scheduled_timestep(settings.timestep_schedule, 0.0, place, settings.t_min, settings.t_max)

    def noise_source(self, rows: Sequence[int], noises: Sequence[int]) -> Callable[[torch.Size, int], Tensor]:
        """Return a function that gives eps of a shape [B, c, h, w] for rows and one of the noises, by its place."""

        def eps(shape: torch.Size, place: int) -> Tensor:
            drawn = [self._random(row, noises[place]) for row in rows]
            return torch.stack([torch.randn(shape[1:], generator=random) for random in drawn]).to(self._device)

        return eps

    def _random(self, row: int, noise: int) -> torch.Generator:
        return MicroStep(self.settings.seed, row, noise).rng(NOISE)

    def reference(self, rows: Sequence[int], noises: Sequence[int], micro_batch: int | None = None) -> Reference:
        """Return the frozen generator's side of rows, with the predictions for these noises. Raises NonFiniteGradient."""
        z0, predictions = None, []
        if "z0" in self.objective.needs:
            z0 = torch.cat([self._encoded(row) for row in rows])
        if self.objective.needs & FROZEN_ROWS:
            predictions = [Predictions.joined([self._predicted(row, noise) for row in rows]) for noise in noises]
        found = self.objective.reference(self.frozen, self.samples(rows), micro_batch, known=z0)
        return Reference(found.images, found.latents, predictions)

    def _encoded(self, row: int) -> Tensor:
        if row not in self._latents:
            self._latents[row] = self.objective.latents(self.frozen, self.samples([row])).cpu()
        return self._latents[row].to(self._device)

    def _predicted(self, row: int, noise: int) -> Predictions:
        if (row, noise) not in self._predictions:
            z0, cameras = self._encoded(row), self.samples([row]).cameras
            eps = self.noise_source([row], [noise])(z0.shape, 0)
            found = self.objective.predictions(z0, self.timestep(noise), eps, cameras)
            self._predictions[row, noise] = found.to("cpu")
        return self._predictions[row, noise].to(self._device)
