"""The objective of a step: from W+ codes to gradients, through generator, encoder and prior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..stylegan import Crop, Generator
from . import terms
from .prior import Prior
from .regularizers import Regularizer, Scores


class NonFiniteGradient(Exception):
    """Something in a step was infinite or not a number; the message names it."""


@dataclass(frozen=True)
class Objective:
    """SDS and regularizers under one prior. Nothing here draws random numbers or keeps state."""

    prior: Prior
    regularizers: Sequence[Regularizer]
    gradient_clamp: float | None
    image_clamp_quantile: float | None
    crop: Crop | None = None

    @property
    def needs_frozen_latent(self) -> bool:
        return any(regularizer.needs_frozen_latent for regularizer in self.regularizers)

    @property
    def rows_per_sample(self) -> int:
        """Rows of one sample in the prior's evaluation, for each of the prior's conditions."""
        return 2 if any(regularizer.needs_frozen_score for regularizer in self.regularizers) else 1

    def frozen_latents(self, frozen: Generator, ws: Tensor) -> Tensor | None:
        """z0 = E(x0) [B, c, h, w] of the frozen generator's images, or None when no regularizer needs it."""
        if not self.needs_frozen_latent:
            return None
        with torch.no_grad():
            return self.prior.encode(self._seen(frozen.synthesis(ws, noise="const")))

    def latent_gradient(self, z: Tensor, z0: Tensor | None, t: float, eps: Tensor) -> tuple[Tensor, dict[str, float]]:
        """g = clamp(g_sds) + sum over regularizers of clamp(lambda w_t g_reg), [B, c, h, w], for each sample by itself;
        and each term's loss, the mean squared difference before weights and clamps.

        One evaluation of the prior, train and frozen rows together. Raises NonFiniteGradient."""
        alpha, sigma = self.prior.schedule(t)
        noisy = [terms.add_noise(z, eps, alpha, sigma)]
        if self.rows_per_sample == 2:
            noisy.append(terms.add_noise(z0, eps, alpha, sigma))
        predictions = self.prior.guided(torch.cat(noisy), t)
        _require_finite(predictions, "the prior's noise prediction")
        eps_hat, *frozen = predictions.chunk(len(noisy))
        scores = Scores(noisy[0], eps, eps_hat, alpha, sigma, z0, frozen[0] if frozen else None)

        g = self._clamp(terms.sds_gradient(eps_hat, eps, sigma))
        losses = {"sds": _mean_square(eps_hat - eps)}
        for regularizer in self.regularizers:
            difference = regularizer.gradient(scores)
            g = g + self._clamp(regularizer.weight * terms.timestep_weight(sigma) * difference)
            losses[regularizer.name] = _mean_square(difference)
        _require_finite(g, "the latent gradient")
        return g, losses

    def gradients(
        self,
        generator: Generator,
        ws: Tensor,
        z0: Tensor | None,
        t: float,
        draw_noise: Callable[[torch.Size], Tensor],
        inputs: Sequence[Tensor],
    ) -> tuple[list[Tensor], dict[str, float]]:
        """Gradients of the batch's mean objective with respect to `inputs` (parameters, ws), and the terms' losses.

        ws [B, num_ws, w_dim]; draw_noise(shape) gives eps for latents of that shape. Raises NonFiniteGradient."""
        images = self._seen(generator.synthesis(ws, noise="const"))
        encoder_input = images.detach().requires_grad_()
        z = self.prior.encode(encoder_input)
        g, losses = self.latent_gradient(z.detach(), z0, t, draw_noise(z.shape))
        (image_gradient,) = torch.autograd.grad(z, encoder_input, g / len(g))
        _require_finite(image_gradient, "the gradient that reaches the image")
        if self.image_clamp_quantile is not None:
            image_gradient = terms.clamp_to_quantile(image_gradient, self.image_clamp_quantile)
        gradients = torch.autograd.grad(images, inputs, image_gradient)
        for gradient in gradients:
            _require_finite(gradient, "the gradient of the generator's weights")
        return list(gradients), losses

    def _seen(self, images: Tensor) -> Tensor:
        return prior_images(images if self.crop is None else self.crop.apply(images), self.prior.image_size)

    def _clamp(self, gradient: Tensor) -> Tensor:
        return gradient if self.gradient_clamp is None else gradient.clamp(-self.gradient_clamp, self.gradient_clamp)


def prior_images(images: Tensor, size: int) -> Tensor:
    """Images [B, 3, H, W], resized bilinearly and clamped to [-1, 1]: squares to [B, 3, size, size], the longer side of
    others to `size` and the shorter one in proportion, to whole eighths of it, which diffusion models can halve."""
    height, width = images.shape[-2:]
    if height == width:
        wanted = size, size
    else:
        shorter = max(1, round(8 * min(height, width) / max(height, width))) * (size // 8)
        wanted = (shorter, size) if height < width else (size, shorter)
    if images.shape[-2:] != wanted:
        images = F.interpolate(images, wanted, mode="bilinear", align_corners=False)
    return images.clamp(-1, 1)


def _mean_square(difference: Tensor) -> float:
    return difference.square().mean().item()


def _require_finite(tensor: Tensor, what: str) -> None:
    if not torch.isfinite(tensor).all():
        raise NonFiniteGradient(what)
