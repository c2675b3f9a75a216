"""Score distillation as pure functions, named after the equations of arXiv 2212.04473.

Tensors are [B, c, h, w] unless stated; alpha and sigma are the schedule's numbers at the timestep of the batch.
Gradients are with respect to the latent z, as the paper defines them (the model's Jacobian is left out).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def add_noise(z: Tensor, eps: Tensor, alpha: float, sigma: float) -> Tensor:
    """Return z_t = alpha_t z + sigma_t eps."""
    return alpha * z + sigma * eps


def denoise(z_t: Tensor, eps_hat: Tensor, alpha: float, sigma: float) -> Tensor:
    """Return zhat_0 = (z_t - sigma_t eps_hat) / alpha_t."""
    return (z_t - sigma * eps_hat) / alpha


def eps_from_denoised(z_t: Tensor, denoised: Tensor, alpha: float, sigma: float) -> Tensor:
    """Return eps_hat = (z_t - alpha_t D) / sigma_t, of a denoised estimate D of any model type."""
    return (z_t - alpha * denoised) / sigma


def eps_from_velocity(z_t: Tensor, v: Tensor, alpha: float, sigma: float) -> Tensor:
    """Return eps_hat = alpha_t v + sigma_t z_t, of a velocity v = alpha_t eps - sigma_t z
    (alpha_t^2 + sigma_t^2 = 1)."""
    return alpha * v + sigma * z_t


def guide(eps: Mapping[str, Tensor], scales: Mapping[str, float]) -> Tensor:
    """Return eps_u + sum_i s_i (eps_i - eps_u) over the named predictions that have a scale: classifier-free guidance,
    eq. 4 with one of them. eps["unconditional"] is eps_u."""
    eps_u = eps["unconditional"]
    return eps_u + sum(scale * (eps[name] - eps_u) for name, scale in scales.items())


def score_difference(eps_hat: Tensor, eps: Tensor) -> Tensor:
    """Return g_sds / w_t = eps_hat - eps (eq. 3); the weightings w_t are in `schedules`."""
    return eps_hat - eps


def directional_gradient(eps_hat_train: Tensor, eps_hat_frozen: Tensor) -> Tensor:
    """Return g_dir = r (eps_hat_train/||eps_hat_train|| - eps_hat_frozen/||eps_hat_frozen||), r = sqrt(c h w) (eq. 5).

    Both predictions belong to the same timestep and noise. Norms are per sample."""
    return _radius(eps_hat_train) * (_unit(eps_hat_train) - _unit(eps_hat_frozen))


def reconstruction_score(z_t: Tensor, eps_hat: Tensor, z0: Tensor, alpha: float, sigma: float) -> Tensor:
    """Return e_rec = dL_rec/d eps_hat = -2 (sigma_t/alpha_t) (zhat_0 - z0) / N, with L_rec the mean squared error of
    zhat_0 to the frozen latent z0 of each sample and N = c h w."""
    return -2.0 * (sigma / alpha) * (denoise(z_t, eps_hat, alpha, sigma) - z0) / z0[0].numel()


def reconstruction_gradient(z_t: Tensor, eps_hat: Tensor, z0: Tensor, alpha: float, sigma: float) -> Tensor:
    """Return g_rec = r (eps_hat/||eps_hat|| - e_rec/||e_rec||), r = sqrt(c h w) (eq. 6). Norms are per sample."""
    e_rec = reconstruction_score(z_t, eps_hat, z0, alpha, sigma)
    return _radius(eps_hat) * (_unit(eps_hat) - _unit(e_rec))


def clamp_to_quantile(gradient: Tensor, quantile: float) -> Tensor:
    """Clamp each sample of a gradient [B, ...] to plus and minus the quantile of its absolute values."""
    # One sample at a time: torch.quantile refuses more than 2^24 values.
    limits = torch.stack([torch.quantile(sample.abs().flatten(), quantile) for sample in gradient])
    limits = limits.view(-1, *[1] * (gradient.ndim - 1))
    return gradient.clamp(-limits, limits)


def _radius(x: Tensor) -> float:
    return math.sqrt(x[0].numel())


def _unit(x: Tensor) -> Tensor:
    """Each sample divided by its norm; a sample of zeros stays zero."""
    norm = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return x / norm.clamp_min(torch.finfo(x.dtype).tiny)
