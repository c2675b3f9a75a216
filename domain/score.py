"""What a domain's training asks of a text-free copy, whoever's class it is."""

import torch
from torch import Tensor

from ..sds.score import TrainableScore
from .text_free import Removal, make_text_free, measured_removals

_PROBES = 8
"""Rows of the evaluation in which the vectors are measured, each at a timestep of its own."""


class TextFreeScore(TrainableScore):
    """A TextFreeScore is given the empty prompt, until that is taken out."""

    def take_out_text(self, latents: Tensor) -> list[Removal]:
        """Make the denoiser text-free, as it is for the empty prompt, and return what was taken out. What its
        cross-attentions put out is measured on noisy latents [N, c, h, w], such as those that it shall learn. Raises
        NotTextFree."""
        t = [(row + 0.5) / _PROBES for row in range(_PROBES)]
        z = latents[torch.arange(_PROBES) % len(latents)]
        eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).to(z)
        alpha, sigma = self._at(t, z)
        z_t = (alpha * z + sigma * eps).to(self.device)
        removals = measured_removals(self.denoiser, lambda: self.denoised(z_t, t))
        make_text_free(self.denoiser, removals)
        return removals
