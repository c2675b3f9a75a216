"""The noise schedule of any of the host's model types, found by asking its model_sampling.

Notation: z_t = alpha_t z + sigma_t eps as everywhere; the host's x = a z + b eps at its own noise level `sigma`, with a
and b as its noise_scaling mixes them. Imports nothing of the host.
"""

import math

import torch
from torch import Tensor

from ...sds.equations import eps_from_denoised
from ...sds.prior import timestep_index


class HostSchedule:
    """HostSchedule translates between fractions t of the schedule and the host's noise levels, and between z_t and the
    host's x.

    Flow models and others whose x is a mixture of data and noise keep their own a and b as alpha and sigma; where x is
    z + sigma eps it is divided by sqrt(1 + sigma^2), so that alpha^2 + sigma^2 = 1. Raises ValueError for types that do
    not denoise."""

    def __init__(self, sampling):
        self._sampling = sampling
        try:
            a, b = self._mixture(self._host_sigma_of(1.0, flow=False))
            self._mixes = abs(a - 1) > 1e-3
            # A model of z + sigma eps has to scale that down before reading it.
            reads = float(sampling.calculate_input(*_at(self._host_sigma_of(1.0, flow=self._mixes), 1.0)))
        except (AttributeError, NotImplementedError, TypeError) as error:
            raise ValueError(_NO_DENOISER) from error
        if b == 0 or (not self._mixes and abs(reads - 1) < 1e-3):
            raise ValueError(_NO_DENOISER)

    def __call__(self, t: float) -> tuple[float, float]:
        """Return (alpha_t, sigma_t)."""
        a, b = self._mixture(self.host_sigma(t))
        if self._mixes:
            return a, b
        radius = math.hypot(a, b)
        return a / radius, b / radius

    def host_sigma(self, t: float) -> float:
        """Return the host's noise level at a fraction of the schedule, off the endpoints where alpha or sigma is 0."""
        return self._host_sigma_of(t, self._mixes)

    def host_input(self, z_t: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Return x and the noise level of each of its rows, as the host's models take them."""
        alpha, _ = self(t)
        sigma = self.host_sigma(t)
        a, _ = self._mixture(sigma)
        x = z_t if self._mixes else z_t * (a / alpha)
        return x, torch.full([len(z_t)], sigma, device=z_t.device)

    def noise_in(self, x: Tensor, denoised: Tensor, t: float) -> Tensor:
        """Return eps_hat = (x - a D)/b of the host's denoised estimate D."""
        a, b = self._mixture(self.host_sigma(t))
        return eps_from_denoised(x, denoised, a, b).float()

    def _host_sigma_of(self, t: float, flow: bool) -> float:
        table = None if flow else getattr(self._sampling, "sigmas", None)
        if table is not None:  # a table that the model was trained on: meet its entries exactly
            usable = ((table > 0) & torch.isfinite(table)).nonzero().flatten()
            index = min(max(timestep_index(t, len(table)), int(usable[0])), int(usable[-1]))
            return float(table[index])
        timestep_index(t, 2)  # refuses what lies outside the schedule
        low, high = float(self._sampling.sigma_min), float(self._sampling.sigma_max)
        sigma = float(self._sampling.percent_to_sigma(1 - t))
        sigma = min(max(sigma, max(low, 1e-4)), min(high, 1 - 1e-4) if flow else high)
        return float(torch.tensor(sigma))  # as the host's tensors hold it

    def _mixture(self, sigma: float) -> tuple[float, float]:
        """Return (a, b) of the host's x = a z + b eps."""
        data = float(self._sampling.noise_scaling(*_at(sigma, 0.0), _at(sigma, 1.0)[1]))
        noise = float(self._sampling.noise_scaling(*_at(sigma, 1.0), _at(sigma, 0.0)[1]))
        return data, noise


_NO_DENOISER = (
    "The MODEL does not denoise still images (it turns one image into another, or makes video), so it cannot judge them; "
    "load a text-to-image diffusion model such as Stable Diffusion 1.5."
)


def _at(sigma: float, value: float) -> tuple[Tensor, Tensor]:
    """Make a noise level and a latent of one value."""
    return torch.full([1], sigma, dtype=torch.float64), torch.full([1, 1, 1, 1], value, dtype=torch.float64)
