"""What trains a denoiser, whatever it shall learn: the plain error of its predictions."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..training.out_of_memory import MemoryPolicy, split_rows
from ..training.phases import Outcome, accumulate, gradients_of
from .recomputing import recomputing
from .score import TrainableScore

LONGEST_GRADIENT = 1.0
"""The norm at which the phases that train a denoiser clip their gradients."""


class Denoising:
    """A Denoising computes the gradients of a score's error on noisy latents for what is trained of it; its loss and what
    was not finite are said by `name`."""

    def __init__(self, score: TrainableScore, trained: nn.ParameterDict, memory: MemoryPolicy, half: bool, name: str):
        self.score, self.trained, self.memory, self.half, self.name = score, trained, memory, half, name

    def outcome(self, batches: Iterable[tuple[Tensor, Tensor, Sequence[float]]]) -> Outcome:
        """Return the mean gradient of batches of equal size, each latents [B, c, h, w], noise and timesteps of the rows;
        nothing where there are none."""
        pieces = [piece for batch in batches for piece in self._pieces(*batch)]
        if not pieces:
            return Outcome({})
        found = accumulate((self._outcome(*piece) for piece in pieces), len(pieces))
        if not all(gradient.isfinite().all() for gradient in found.gradients.values()):
            return Outcome({}, found.losses, skipped=f"the gradient of the {self.name}")
        return found

    def _pieces(
        self, z: Tensor, eps: Tensor, t: Sequence[float]
    ) -> list[tuple[Tensor, Tensor, Sequence[float], float]]:
        """A batch in pieces that fit into memory, and how much each counts."""
        pieces = split_rows(len(z), self.memory.micro_batch)
        return [(z[rows], eps[rows], t[rows], len(t[rows]) * len(pieces) / len(z)) for rows in pieces]

    def _outcome(self, z: Tensor, eps: Tensor, t: Sequence[float], share: float) -> Outcome:
        device = self.score.device
        with recomputing(self.score.denoiser, self.memory.recompute), self.score.training():
            with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
                loss = self.score.loss(z.to(device), eps.to(device), t).mean() * share
            return Outcome(gradients_of(loss, self.trained.values()), {self.name: loss.item()})
