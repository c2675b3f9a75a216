"""Drawing pictures with a diffusion model: DPM-Solver++ (arXiv 2211.01095), as diffusers has it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .diffusers import DiffusersPrior
from .stable_diffusion import downscale


@torch.no_grad()
def draw_pictures(
    prior: DiffusersPrior, first: int, count: int, steps: int = 25, seed: int = 0, together: int = 4
) -> Iterator[Tensor]:
    """Draw pictures [1, 3, R, R] in [-1, 1], numbers `first` to `first + count - 1` of those that belong to a seed: each
    has noise of its own, so the others leave it as it is."""
    from diffusers import DPMSolverMultistepScheduler

    config = prior.model.scheduler.config
    side, channels = prior.image_size // downscale(prior.model), prior.model.unet.config.in_channels
    last = len(prior.model.scheduler.alphas_cumprod) - 1
    for start in range(first, first + count, together):
        numbers = range(start, min(start + together, first + count))
        sampler = DPMSolverMultistepScheduler.from_config(
            dict(config), algorithm_type="dpmsolver++", prediction_type="epsilon", timestep_spacing="trailing"
        )
        sampler.set_timesteps(steps, device=prior.device)
        noise = [
            torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed((seed + n) % 2**63))
            for n in numbers
        ]
        z = torch.cat(noise).to(prior.device) * sampler.init_noise_sigma
        for step in sampler.timesteps:
            z = sampler.step(prior.guided(z, int(step) / last), step, z).prev_sample
        yield from prior.decode(z).clamp(-1, 1).cpu().split(1)
