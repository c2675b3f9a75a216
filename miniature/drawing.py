"""Pictures by the miniature's diffusion model itself, as a reference for what a generator can learn from it."""

import torch
from torch import Tensor

from ..sds.priors.diffusers import DiffusersPrior
from .stages import seeded


@torch.no_grad()
def draw(prior: DiffusersPrior, count: int, seed: int, steps: int = 20) -> Tensor:
    """Draw `count` pictures [count, 3, 64, 64] in [-1, 1] of the prior's prompt, by `steps` DDIM
    steps (arXiv 2010.02502)."""
    from diffusers import DDIMScheduler

    vae, table = prior.model.vae, len(prior.model.scheduler.alphas_cumprod)
    scheduler = DDIMScheduler.from_config(prior.model.scheduler.config)
    scheduler.set_timesteps(steps)
    pictures = []
    for start in range(0, count, 100):
        z = torch.randn(min(100, count - start), 4, 16, 16, generator=seeded(seed, start))
        for t in scheduler.timesteps:
            z = scheduler.step(prior.guided(z, t.item() / (table - 1)), t, z).prev_sample
        pictures.append(vae.decode(z / vae.config.scaling_factor).sample.clamp(-1, 1))
    return torch.cat(pictures)
