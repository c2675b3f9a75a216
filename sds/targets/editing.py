"""Editing pictures with a diffusion model: DDIM there and back (Song et al., arXiv 2010.02502).

A picture's latent goes up to a noise level along the model's own path for what the picture shows, and comes down along
the path for what it shall show. In the notation of z_t = alpha_t z + sigma_t eps a step between two levels keeps eps and
the denoised latent; for flow models, alpha = 1 - t and sigma = t, that is Euler's step of their own equation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import equations
from ..prior import Prior

INVERSIONS = ("ddim", "noise")
"""How a latent gets to its noise level: along the model's path, or with one fixed noise for all."""


def timesteps_up_to(strength: float, levels: int) -> list[float]:
    """Return `levels` timesteps evenly from 0, which is left out, up to `strength`."""
    return [strength * (level + 1) / levels for level in range(levels)]


def invert(prior: Prior, z: Tensor, timesteps: Sequence[float]) -> Tensor:
    """Take clean latents z [B, c, h, w] up rising timesteps to z_t at the last one: at each, with the prediction for it
    of the latent from the level before."""
    alpha, sigma = 1.0, 0.0
    for t in timesteps:
        eps_hat = prior.guided(z, t)
        clean = equations.denoise(z, eps_hat, alpha, sigma)
        alpha, sigma = prior.schedule(t)
        z = equations.add_noise(clean, eps_hat, alpha, sigma)
    return z


def edited(prior: Prior, z_t: Tensor, timesteps: Sequence[float]) -> Tensor:
    """Take latents z_t [B, c, h, w] from the last of rising timesteps down to clean ones, by the prior's guided
    predictions."""
    lower = [*timesteps[:-1]]
    for t in reversed(timesteps):
        eps_hat = prior.guided(z_t, t)
        alpha, sigma = prior.schedule(t)
        z_t = equations.denoise(z_t, eps_hat, alpha, sigma)
        if lower:
            alpha, sigma = prior.schedule(lower.pop())
            z_t = equations.add_noise(z_t, eps_hat, alpha, sigma)
    return z_t


def noised(prior: Prior, z: Tensor, t: float, random: torch.Generator) -> Tensor:
    """Take clean latents z [B, c, h, w] to z_t with one noise for all of them, which `random` draws."""
    alpha, sigma = prior.schedule(t)
    eps = torch.randn(z.shape[1:], generator=random).to(z.device)
    return equations.add_noise(z, eps.expand_as(z), alpha, sigma)
