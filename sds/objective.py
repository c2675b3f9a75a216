"""The objective of a step: from a batch to gradients, through generator, encoder and prior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics.colours import rgb
from ..stylegan import Crop, Draw, Generator, picture_size
from ..training.out_of_memory import split_rows
from . import equations
from .fake_score import LATENTS
from .prior import TEXT, Prior
from .schedules import timestep_weight
from .targets.pool import Targets
from .terms import ImageTerm, LatentTerm, Term, View, instance_names
from .views import seen_from

FROZEN_ROWS = frozenset({"eps_hat_frozen", "conditions_frozen"})
"""Parts of a View for which the prior is asked about the frozen generator's latents, too."""


class NonFiniteGradient(Exception):
    """Something in a step was infinite or not a number; the message names it."""


@dataclass(frozen=True)
class Batch:
    """A Batch is what a step draws, before anything is rendered."""

    draw: Draw  # of B samples
    timesteps: Sequence[float]  # at which each of them is looked at
    draw_noise: Callable[[torch.Size, int], Tensor]  # eps of a shape [B, c, h, w] for the timestep at a place
    guidance: float = 1.0  # what the prior's guidance scale is multiplied by
    targets: Tensor | None = None  # [B, 3, H, W], where a term has them
    later: Sequence[float] = (1.0,)  # for each timestep, that of predictions which are a little later
    progress: float = 0.0  # share of the training that is done
    kept: dict[str, Tensor] = field(default_factory=dict)  # what phases after this one need of all samples


@dataclass(frozen=True)
class Predictions:
    """Predictions are what the prior says of noisy latents."""

    eps_hat: Tensor  # guided, [B, c, h, w]
    conditions: dict[str, Tensor] = field(default_factory=dict)  # those of each condition, where a term asks for them

    def __getitem__(self, rows: slice) -> "Predictions":
        return Predictions(self.eps_hat[rows], {name: eps_hat[rows] for name, eps_hat in self.conditions.items()})

    def to(self, device: torch.device | str) -> "Predictions":
        """Return them on a device."""
        conditions = {name: eps_hat.to(device) for name, eps_hat in self.conditions.items()}
        return Predictions(self.eps_hat.to(device), conditions)

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Put the rows of several below each other."""
        conditions = {name: torch.cat([part.conditions[name] for part in parts]) for name in parts[0].conditions}
        return cls(torch.cat([part.eps_hat for part in parts]), conditions)


@dataclass(frozen=True)
class Reference:
    """A Reference is the frozen generator's side of a batch, as far as the terms need it."""

    images: Tensor | None = None  # [B, 3, H, W] as the prior sees them
    latents: Tensor | None = None  # z0 = E(x0) [B, c, h, w]
    predictions: Sequence[Predictions] = ()  # of them at each timestep, where they are known beforehand

    def __getitem__(self, rows: slice) -> "Reference":
        images, latents = (None if part is None else part[rows] for part in (self.images, self.latents))
        return Reference(images, latents, [part[rows] for part in self.predictions])


@dataclass(frozen=True)
class Objective:
    """An Objective is a sum of terms under one prior. Nothing here draws random numbers or keeps state."""

    prior: Prior
    terms: Sequence[Term]
    gradient_clamp: float | None
    image_clamp_quantile: float | None
    crop: Crop | None = None
    weighting: str = "sds"
    scale: float = 1.0  # of every term's gradient, before any clamp
    half: bool = False  # whether the generators compute in bfloat16 where that loses little

    @property
    def needs(self) -> frozenset[str]:
        """Return the parts of a View that some term reads."""
        named = frozenset().union(*(term.needs for term in self.terms))
        return named | {"z0"} if named & FROZEN_ROWS else named

    @property
    def pool(self) -> Targets | None:
        """Return the targets that batches are drawn from; None: they are drawn at random."""
        return next((term.pool for term in self.terms if term.pool is not None), None)

    @property
    def rows_per_sample(self) -> int:
        """Return the rows of one sample in the prior's evaluation, for each of the prior's conditions."""
        return 2 if self.needs & FROZEN_ROWS else 1

    def on(self, where: str) -> list[tuple[str, Term]]:
        """Return the terms on "latent" or "image", each with its name in this objective."""
        return [pair for pair in zip(instance_names(self.terms), self.terms, strict=True) if pair[1].on == where]

    def image_size(self, generator: Generator) -> tuple[int, int]:
        """Return height and width in pixels of what the prior sees of a generator's images."""
        return sample_size(generator, self.prior.image_size, self.crop)

    @torch.no_grad()
    def reference(
        self, frozen: Generator, draw: Draw, micro_batch: int | None = None, known: Tensor | None = None
    ) -> Reference:
        """Return what the terms need of the frozen generator, `micro_batch` samples at a time (None: all at once), without
        encoding what is `known` of it: z0 [B, c, h, w]."""
        images, latents = [], []
        encoded = "z0" in self.needs and known is None
        if encoded or "frozen_images" in self.needs:
            for rows in split_rows(len(draw), micro_batch):
                seen = self._seen(self._rendered(frozen, draw[rows]))
                if "frozen_images" in self.needs:
                    images.append(seen)
                if encoded:
                    latents.append(self.prior.encode(seen))
        return Reference(torch.cat(images) if images else None, torch.cat(latents) if latents else known)

    @torch.no_grad()
    def latents(self, generator: Generator, draw: Draw, micro_batch: int | None = None) -> Tensor:
        """Return the latents [B, c, h, w] of a generator's pictures, `micro_batch` samples at a time (None: all)."""
        pieces = split_rows(len(draw), micro_batch)
        return torch.cat([self.prior.encode(self._seen(self._rendered(generator, draw[rows]))) for rows in pieces])

    def view(
        self,
        z: Tensor,
        z0: Tensor | None,
        t: float,
        eps: Tensor,
        guidance: float = 1.0,
        cameras: Tensor | None = None,
        later_t: float = 1.0,
        progress: float = 0.0,
        known: Predictions | None = None,
    ) -> View:
        """Return what terms see of latents z [B, c, h, w] and the frozen generator's z0 with the noise eps, of pictures
        that cameras [B, 25] took: one evaluation of the prior, train and frozen rows together (without the frozen ones
        where they are `known`), and a second one where a term looks at a later timestep. Raises NonFiniteGradient."""
        alpha, sigma = self.prior.schedule(t)
        weight = timestep_weight(self.weighting, alpha, sigma)
        z_t, needs = equations.add_noise(z, eps, alpha, sigma), self.needs
        view = View(t, alpha, sigma, weight, progress, z=z, eps=eps, z_t=z_t, z0=z0)
        if "eps_text_later" in needs:
            later = equations.add_noise(z, eps, *self.prior.schedule(later_t))
            view = replace(view, eps_text_later=seen_from(self.prior, cameras).conditions(later, later_t)[TEXT])
            _require_finite(view.eps_text_later, "the prior's noise prediction")
        if not needs & ({"eps_hat", "conditions"} | FROZEN_ROWS):
            return view
        together = needs & FROZEN_ROWS and known is None
        noisy = torch.cat([z_t, equations.add_noise(z0, eps, alpha, sigma)]) if together else z_t
        seen_by = cameras.repeat(2, 1) if together and cameras is not None else cameras
        predicted = self._predictions(noisy, t, guidance, seen_by)
        ours, theirs = predicted[: len(z)], known or predicted[len(z) :]
        found = {"eps_hat": ours.eps_hat, "conditions": ours.conditions}
        found |= {"eps_hat_frozen": theirs.eps_hat, "conditions_frozen": theirs.conditions}
        return replace(view, **{name: part for name, part in found.items() if name in needs | {"eps_hat"}})

    @torch.no_grad()
    def predictions(self, z0: Tensor, t: float, eps: Tensor, cameras: Tensor | None = None) -> Predictions:
        """Return what the prior says of the frozen generator's z0 [B, c, h, w] with the noise eps. Raises
        NonFiniteGradient."""
        return self._predictions(equations.add_noise(z0, eps, *self.prior.schedule(t)), t, 1.0, cameras)

    def _predictions(self, noisy: Tensor, t: float, guidance: float, cameras: Tensor | None) -> Predictions:
        prior = seen_from(self.prior, cameras)
        if self.needs & {"conditions", "conditions_frozen"}:
            found = Predictions(*prior.guided_and_conditions(noisy, t, guidance))
        else:
            found = Predictions(prior.guided(noisy, t, guidance))
        _require_finite(found.eps_hat, "the prior's noise prediction")
        return found

    def latent_gradient(self, view: View) -> tuple[Tensor, dict[str, float]]:
        """Return g = sum over terms of clamp(scale lambda w_t g_term), [B, c, h, w], for each sample by itself; and each
        term's loss, the mean squared difference before weights and clamps. Raises NonFiniteGradient."""
        g, losses = None, {}
        for name, term in self.on(LatentTerm.on):
            difference = term.gradient(view)
            pull = self._clamp(self.scale * term.weight * view.weight * difference)
            g = pull if g is None else g + pull
            losses[name] = difference.square().mean().item()
        _require_finite(g, "the latent gradient")
        return g, losses

    def gradients(
        self,
        generator: Generator,
        batch: Batch,
        reference: Reference,
        inputs: Sequence[Tensor],
        micro_batch: int | None = None,
        recompute: bool = False,
    ) -> tuple[list[Tensor], dict[str, float]]:
        """Return the gradients of the batch's mean objective with respect to `inputs` (parameters,
        codes), and the terms' losses.

        At most `micro_batch` samples are rendered and evaluated at a time (None: all), with the same result but for
        rounding; with `recompute`, activations are computed again in the backward passes. Raises NonFiniteGradient."""
        total, noises = len(batch.draw), None
        sums, losses, latents = None, {}, []
        kept = {name: [] for term in self.terms for name in term.keeps if name not in batch.kept}
        for rows in split_rows(total, micro_batch):
            images = self._seen(self._rendered(generator, batch.draw[rows], recompute))
            seen, here = images.detach().requires_grad_(), reference[rows]
            targets = None if batch.targets is None else resized(batch.targets[rows], images)
            pictures = {"images": seen, "frozen_images": here.images, "targets": targets}
            view, g, of_rows = View(batch.timesteps[0], progress=batch.progress, **pictures), None, {}
            if self.on(LatentTerm.on):
                z = self.prior.encode(seen, recompute)
                if noises is None:
                    shape = torch.Size([total, *z.shape[1:]])
                    noises = [batch.draw_noise(shape, place) for place in range(len(batch.timesteps))]
                latents.append(z.detach())
                if "target_latents" in self.needs:
                    with torch.no_grad():
                        pictures["target_latents"] = self.prior.encode(targets)
                known = here.predictions or [None] * len(batch.timesteps)
                for t, later, eps, theirs in zip(batch.timesteps, batch.later, noises, known, strict=True):
                    given = batch.guidance, batch.draw[rows].cameras, later, batch.progress, theirs
                    view = replace(self.view(latents[-1], here.latents, t, eps[rows], *given), **pictures)
                    pull, found = self.latent_gradient(view)
                    g = pull if g is None else g + pull
                    for name, loss in found.items():
                        of_rows[name] = of_rows.get(name, 0.0) + loss / len(batch.timesteps)
            for name, parts in kept.items():
                parts.append(getattr(view, name).detach())
            if g is not None:
                (image_gradient,) = torch.autograd.grad(z, seen, g / (total * len(batch.timesteps)))
                del z
                _require_finite(image_gradient, "the gradient that reaches the image")
                if self.image_clamp_quantile is not None:
                    image_gradient = equations.clamp_to_quantile(image_gradient, self.image_clamp_quantile)
            else:
                image_gradient = torch.zeros_like(seen)
            for name, term in self.on(ImageTerm.on):
                distance = term.distance(view)
                (pull,) = torch.autograd.grad(distance.sum() * (self.scale * term.pull(view) / total), seen)
                _require_finite(pull, f"the gradient of the {name} {term.role}")
                image_gradient = image_gradient + pull
                of_rows[name] = distance.detach().mean().item()
            found = torch.autograd.grad(images, inputs, image_gradient)
            sums = list(found) if sums is None else [a.add_(b) for a, b in zip(sums, found, strict=True)]
            for name, loss in of_rows.items():
                losses[name] = losses.get(name, 0.0) + loss * len(seen) / total
        if latents and LATENTS not in batch.kept:
            batch.kept[LATENTS] = torch.cat(latents)
        batch.kept.update({name: torch.cat(parts) for name, parts in kept.items()})
        for gradient in sums:
            _require_finite(gradient, "the gradient of the generator's weights")
        return sums, losses

    def _rendered(self, generator: Generator, draw: Draw, recompute: bool = False) -> Tensor:
        with torch.autocast(draw.ws.device.type, torch.bfloat16, enabled=self.half):
            images = generator.synthesis(draw, noise="const", recompute=recompute)
        return images.float()  # those in 3D come in half precision

    def _seen(self, images: Tensor) -> Tensor:
        return prior_input(images, self.prior.image_size, self.crop)

    def _clamp(self, gradient: Tensor) -> Tensor:
        return gradient if self.gradient_clamp is None else gradient.clamp(-self.gradient_clamp, self.gradient_clamp)


def prior_input_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Return height and width of what `prior_input` makes of images: squares become size x size, the longer side of
    others `size` and the shorter one in proportion, in whole eighths of it, which diffusion models can halve."""
    if height == width:
        return size, size
    shorter = max(1, round(8 * min(height, width) / max(height, width))) * (size // 8)
    return (shorter, size) if height < width else (size, shorter)


def sample_size(generator: Generator, size: int, crop: Crop | None = None) -> tuple[int, int]:
    """Return height and width of what `prior_input` makes of a generator's pictures."""
    width, height = picture_size(generator, crop)
    return prior_input_size(height, width, size)


def prior_input(images: Tensor, size: int, crop: Crop | None = None) -> Tensor:
    """Return the colours of what counts of a generator's images [B, img_channels, H, W], resized bilinearly to
    `prior_input_size` and clamped to [-1, 1]: [B, 3, h, w]."""
    images = rgb(images if crop is None else crop.apply(images))
    wanted = prior_input_size(*images.shape[-2:], size)
    if images.shape[-2:] != wanted:
        images = F.interpolate(images, wanted, mode="bilinear", align_corners=False)
    return images.clamp(-1, 1)


def resized(targets: Tensor, images: Tensor) -> Tensor:
    """Return targets [B, 3, H, W] in the size of images."""
    if targets.shape[-2:] == images.shape[-2:]:
        return targets
    return F.interpolate(targets, images.shape[-2:], mode="bilinear", antialias=True).clamp(-1, 1)


def _require_finite(tensor: Tensor, what: str) -> None:
    if not torch.isfinite(tensor).all():
        raise NonFiniteGradient(what)
