"""Copies of Stable Diffusion's UNet as diffusers has it, to be trained."""

import copy
from collections.abc import Sequence

import torch
from einops import repeat
from torch import Tensor, nn

from .. import equations
from ..score import TrainableScore
from .schedule import DiscreteSchedule
from .stable_diffusion import StableDiffusion, downscale


class UNetScore(TrainableScore):
    """A UNetScore is a UNet2DConditionModel, given one prompt: its states [tokens, width], and what it is as a whole
    [width] for SDXL."""

    def __init__(self, model: StableDiffusion, denoiser, states: Tensor, pooled: Tensor | None = None):
        self.denoiser, self.device, self._model = denoiser, model.device, model
        self._states, self.pooled = states.to(model.device), pooled
        self._schedule = DiscreteSchedule(model.scheduler.alphas_cumprod)
        predicts = model.scheduler.config.prediction_type
        self.prediction = "noise" if predicts == "epsilon" else "velocity"
        self.half = model.unet.dtype.itemsize < 4

    @classmethod
    def copied(cls, model: StableDiffusion, states: Tensor, pooled: Tensor | None, low_rank: bool) -> "UNetScore":
        """Copy a model's UNet: to be trained as a whole in float32, in low rank in bfloat16 where the model has 16
        bits."""
        half = low_rank and model.unet.dtype.itemsize < 4
        return cls(model, copied_unet(model, torch.bfloat16 if half else torch.float32), states, pooled)

    def schedule(self, t: float) -> tuple[float, float]:
        return self._schedule(t)

    def denoised(self, z_t: Tensor, t: Sequence[float]) -> Tensor:
        unet = self.denoiser
        index = torch.tensor([self._schedule.index(one) for one in t], device=z_t.device)
        text = repeat(self._states.to(unet.dtype), "n c -> b n c", b=len(z_t))
        more = {}
        if self.pooled is not None:
            height, width = (side * downscale(self._model) for side in z_t.shape[-2:])
            sizes = torch.tensor([height, width, 0, 0, height, width], device=z_t.device, dtype=z_t.dtype)
            pooled = repeat(self.pooled.to(text), "c -> b c", b=len(z_t))
            more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes.expand(len(z_t), -1)}
        found = unet(z_t.to(unet.dtype), index, encoder_hidden_states=text, **more).sample.float()
        alpha, sigma = self._at(t, z_t)
        if self.prediction == "velocity":
            return alpha * z_t - sigma * found
        return equations.denoise(z_t, found, alpha, sigma)


def copied_unet(model: StableDiffusion, dtype: torch.dtype) -> nn.Module:
    """Copy a model's UNet in a precision."""
    return nn.Module.to(copy.deepcopy(model.unet), dtype)  # the library's own warns of parts that there are not
