"""Noise schedules of diffusion models."""

import math

from torch import Tensor

from ..prior import timestep_index


class DiscreteSchedule:
    """A DiscreteSchedule is the noise schedule of a model that was trained at discrete timesteps, from the cumulative
    products abar of 1 - beta. A table with zero terminal signal ends where alpha is 0; that timestep is kept out."""

    def __init__(self, alphas_cumprod: Tensor):
        self.abar = alphas_cumprod.double().cpu()
        usable = ((self.abar > 0) & (self.abar < 1)).nonzero().flatten().tolist()
        self._first, self._last = usable[0], usable[-1]

    def __call__(self, t: float) -> tuple[float, float]:
        """Return (alpha_t, sigma_t)."""
        abar = self.abar[self.index(t)].item()
        return math.sqrt(abar), math.sqrt(1 - abar)

    def index(self, t: float) -> int:
        """Return the timestep that is nearest to a fraction of the schedule."""
        return min(max(timestep_index(t, len(self.abar)), self._first), self._last)
