"""A denoiser that is trained, whoever's class it is: a second network beside the prior, which stays as it is."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

PREDICTIONS = ("noise", "velocity")
"""What a denoiser predicts, and is trained to: the noise, or a velocity (of v-prediction and flow models)."""


class TrainableScore(ABC):
    """A TrainableScore is a copy of a denoiser that records gradients, given one prompt or none.

    Notation as everywhere: z_t = alpha_t z + sigma_t eps, t a fraction of the schedule, here one for each row."""

    denoiser: nn.Module
    """What is trained."""

    prediction: str
    """Of PREDICTIONS."""

    device: torch.device

    half: bool = False
    """Whether the model that it is a copy of computes in 16 bits."""

    @abstractmethod
    def schedule(self, t: float) -> tuple[float, float]:
        """Return (alpha_t, sigma_t)."""

    @abstractmethod
    def denoised(self, z_t: Tensor, t: Sequence[float]) -> Tensor:
        """Return the estimate D [B, c, h, w] of z, in float32."""

    def training(self) -> contextlib.AbstractContextManager:
        """Prepare for forward and backward passes that record gradients, within the body."""
        return contextlib.nullcontext()

    def activation_bytes(self, images: Tensor, recompute: bool) -> int:
        """Estimate the bytes of activations in a step with images [B, 3, H, W]; 0 where nobody makes room."""
        return 0

    def eps(self, z_t: Tensor, t: float) -> Tensor:
        """Return eps_hat = (z_t - alpha_t D)/sigma_t of rows at one timestep."""
        alpha, sigma = self.schedule(t)
        return (z_t - alpha * self.denoised(z_t, [t] * len(z_t))) / sigma

    @torch.no_grad()
    def drawn(self, noise: Tensor, steps: int, on_step: Callable[[], None] = lambda: None) -> Tensor:
        """Draw latents [B, c, h, w] from noise by DDIM (arXiv 2010.02502); `on_step` is called before each of its steps
        and may raise."""
        z_t = noise.to(self.device)
        for step in range(steps, 0, -1):
            on_step()
            D = self.denoised(z_t, [step / steps] * len(z_t))
            if step == 1:
                return D
            (alpha, sigma), (lower, below) = self.schedule(step / steps), self.schedule((step - 1) / steps)
            z_t = lower * D + below * (z_t - alpha * D) / sigma

    def loss(self, z: Tensor, eps: Tensor, t: Sequence[float]) -> Tensor:
        """Return each row's mean squared error [B] of what the model predicts: |eps_hat - eps|^2 is
        (alpha_t/sigma_t)^2 |D - z|^2, and that of a velocity is |D - z|^2/sigma_t^2."""
        alpha, sigma = self._at(t, z)
        error = (self.denoised(alpha * z + sigma * eps, t) - z) / sigma
        if self.prediction == "noise":
            error = alpha * error
        return error.square().flatten(1).mean(1)

    def _at(self, t: Sequence[float], like: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) of rows, each [B, 1, 1, 1]."""
        alpha, sigma = zip(*map(self.schedule, t), strict=True)
        return tuple(
            torch.tensor(values, device=like.device, dtype=like.dtype).view(-1, 1, 1, 1) for values in (alpha, sigma)
        )
