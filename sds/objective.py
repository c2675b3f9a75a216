"""The objective of a step: from W+ codes to gradients, through generator, encoder and prior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..stylegan import Crop, Draw, Generator
from . import equations
from .prior import Prior
from .regularizers import ImageRegularizer, Regularizer, Scores
from .schedules import timestep_weight


class NonFiniteGradient(Exception):
    """Something in a step was infinite or not a number; the message names it."""


@dataclass(frozen=True)
class Batch:
    """What a batch of a step consists of, before anything is rendered."""

    ws: Tensor  # W+ codes [B, num_ws, w_dim]
    t: float  # the timestep of all of them
    draw_noise: Callable[[torch.Size], Tensor]  # eps of a shape [B, c, h, w], afresh with every call
    guidance: float = 1.0  # what the prior's guidance scale is multiplied by


@dataclass(frozen=True)
class Reference:
    """The frozen generator's side of a batch, as far as the regularizers need it."""

    images: Tensor | None = None  # [B, 3, H, W] as the prior sees them
    latents: Tensor | None = None  # z0 = E(x0) [B, c, h, w]

    def rows(self, rows: slice) -> "Reference":
        images, latents = (None if part is None else part[rows] for part in (self.images, self.latents))
        return Reference(images, latents)


@dataclass(frozen=True)
class Objective:
    """SDS and regularizers under one prior. Nothing here draws random numbers or keeps state."""

    prior: Prior
    regularizers: Sequence[Regularizer | ImageRegularizer]
    gradient_clamp: float | None
    image_clamp_quantile: float | None
    crop: Crop | None = None
    weighting: str = "sds"

    @property
    def on_latents(self) -> list[Regularizer]:
        return [regularizer for regularizer in self.regularizers if not isinstance(regularizer, ImageRegularizer)]

    @property
    def on_images(self) -> list[ImageRegularizer]:
        return [regularizer for regularizer in self.regularizers if isinstance(regularizer, ImageRegularizer)]

    @property
    def rows_per_sample(self) -> int:
        """Rows of one sample in the prior's evaluation, for each of the prior's conditions."""
        return 2 if any(regularizer.needs_frozen_score for regularizer in self.on_latents) else 1

    def image_size(self, resolution: int) -> tuple[int, int]:
        """Height and width in pixels of what the prior sees of a generator's images."""
        height, width = (resolution, resolution) if self.crop is None else (self.crop.height, self.crop.width)
        return prior_input_size(height, width, self.prior.image_size)

    def reference(self, frozen: Generator, ws: Tensor, piece: int | None = None) -> Reference:
        """What the regularizers need of the frozen generator, `piece` samples at a time (None: all at once)."""
        needs_latents = any(regularizer.needs_frozen_latent for regularizer in self.on_latents)
        if not (needs_latents or self.on_images):
            return Reference()
        images, latents = [], []
        with torch.no_grad():
            for rows in pieces(len(ws), piece):
                seen = self._seen(frozen.synthesis(Draw(ws[rows]), noise="const"))
                if self.on_images:
                    images.append(seen)
                if needs_latents:
                    latents.append(self.prior.encode(seen))
        return Reference(torch.cat(images) if images else None, torch.cat(latents) if latents else None)

    def latent_gradient(
        self, z: Tensor, z0: Tensor | None, t: float, eps: Tensor, guidance: float = 1.0
    ) -> tuple[Tensor, dict[str, float]]:
        """g = clamp(g_sds) + sum over regularizers of clamp(lambda w_t g_reg), [B, c, h, w], for each sample by itself;
        and each term's loss, the mean squared difference before weights and clamps.

        One evaluation of the prior, train and frozen rows together. Raises NonFiniteGradient."""
        alpha, sigma = self.prior.schedule(t)
        weight = timestep_weight(self.weighting, alpha, sigma)
        noisy = [equations.add_noise(z, eps, alpha, sigma)]
        if self.rows_per_sample == 2:
            noisy.append(equations.add_noise(z0, eps, alpha, sigma))
        predictions = self.prior.guided(torch.cat(noisy), t, guidance)
        _require_finite(predictions, "the prior's noise prediction")
        eps_hat, *frozen = predictions.chunk(len(noisy))
        scores = Scores(noisy[0], eps, eps_hat, alpha, sigma, z0, frozen[0] if frozen else None)

        g = self._clamp(equations.sds_gradient(eps_hat, eps, weight))
        losses = {"sds": _mean_square(eps_hat - eps)}
        for regularizer in self.on_latents:
            difference = regularizer.gradient(scores)
            g = g + self._clamp(regularizer.weight * weight * difference)
            losses[regularizer.name] = _mean_square(difference)
        _require_finite(g, "the latent gradient")
        return g, losses

    def gradients(
        self,
        generator: Generator,
        batch: Batch,
        reference: Reference,
        inputs: Sequence[Tensor],
        piece: int | None = None,
        checkpoint: bool = False,
    ) -> tuple[list[Tensor], dict[str, float]]:
        """Gradients of the batch's mean objective with respect to `inputs` (parameters, batch.ws), and the terms' losses.

        At most `piece` samples are rendered and evaluated at a time (None: all), with the same result but for rounding;
        with `checkpoint`, activations are computed again in the backward passes. Raises NonFiniteGradient."""
        total, eps = len(batch.ws), None
        sums, losses = None, {}
        for rows in pieces(total, piece):
            images = self._seen(generator.synthesis(Draw(batch.ws[rows]), noise="const", recompute=checkpoint))
            encoder_input = images.detach().requires_grad_()
            z = self.prior.encode(encoder_input, checkpoint)
            if eps is None:
                eps = batch.draw_noise(torch.Size([total, *z.shape[1:]]))
            here = reference.rows(rows)
            g, of_rows = self.latent_gradient(z.detach(), here.latents, batch.t, eps[rows], batch.guidance)
            (image_gradient,) = torch.autograd.grad(z, encoder_input, g / total)
            del z
            _require_finite(image_gradient, "the gradient that reaches the image")
            if self.image_clamp_quantile is not None:
                image_gradient = equations.clamp_to_quantile(image_gradient, self.image_clamp_quantile)
            for regularizer in self.on_images:
                distance = regularizer.distance(encoder_input, here.images)
                (pull,) = torch.autograd.grad(distance.sum() * (regularizer.weight / total), encoder_input)
                _require_finite(pull, f"the gradient of the {regularizer.name} regularizer")
                image_gradient = image_gradient + pull
                of_rows[regularizer.name] = distance.detach().mean().item()
            found = torch.autograd.grad(images, inputs, image_gradient)
            sums = list(found) if sums is None else [a.add_(b) for a, b in zip(sums, found, strict=True)]
            for name, loss in of_rows.items():
                losses[name] = losses.get(name, 0.0) + loss * len(encoder_input) / total
        for gradient in sums:
            _require_finite(gradient, "the gradient of the generator's weights")
        return sums, losses

    def _seen(self, images: Tensor) -> Tensor:
        return prior_input(images if self.crop is None else self.crop.apply(images), self.prior.image_size)

    def _clamp(self, gradient: Tensor) -> Tensor:
        return gradient if self.gradient_clamp is None else gradient.clamp(-self.gradient_clamp, self.gradient_clamp)


def pieces(count: int, piece: int | None) -> list[slice]:
    """The rows of a batch in slices of at most `piece`; None: in one."""
    size = piece or count
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def prior_input_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of what `prior_input` makes of images: squares become size x size, the longer side of others
    `size` and the shorter one in proportion, in whole eighths of it, which diffusion models can halve."""
    if height == width:
        return size, size
    shorter = max(1, round(8 * min(height, width) / max(height, width))) * (size // 8)
    return (shorter, size) if height < width else (size, shorter)


def prior_input(images: Tensor, size: int) -> Tensor:
    """Images [B, 3, H, W], resized bilinearly to `prior_input_size` and clamped to [-1, 1]."""
    wanted = prior_input_size(*images.shape[-2:], size)
    if images.shape[-2:] != wanted:
        images = F.interpolate(images, wanted, mode="bilinear", align_corners=False)
    return images.clamp(-1, 1)


def _mean_square(difference: Tensor) -> float:
    return difference.square().mean().item()


def _require_finite(tensor: Tensor, what: str) -> None:
    if not torch.isfinite(tensor).all():
        raise NonFiniteGradient(what)
