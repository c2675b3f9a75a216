"""The one interface between the method and a diffusion model.

Notation: latents z [B, c, h, w] as the diffusion model sees them; z_t = alpha_t z + sigma_t eps; eps_hat is a model's
prediction of eps. A timestep is a fraction of the schedule, 0 = clean, 1 = pure noise, shared by the whole batch.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from .score import TrainableScore
from .session import Session

UNCONDITIONAL, TEXT, EXTRA = "unconditional", "text", "extra"
"""Names of conditions: of the negative prompt or none, of the prompt; those of further prompts begin with the last."""


def timestep_index(t: float, count: int) -> int:
    """Return the index in a discrete schedule of `count` timesteps that is nearest to the fraction t in [0, 1]."""
    if not 0.0 <= t <= 1.0:
        raise ValueError(
            f"The timestep {t} is outside the schedule; give a fraction between 0 (clean) and 1 (pure noise)."
        )
    return math.floor(t * (count - 1) + 0.5)


class Prior(ABC):
    """A Prior is a text-conditioned diffusion model together with its encoder, prompts and guidance scales.

    Implementations freeze every parameter of the model, take and return float32 tensors on `device`, and snap t to
    their own discrete timesteps (`timestep_index`), away from the endpoints where alpha or sigma is 0. Batches have any
    size. `train_generator` calls everything but `device` and `image_size` from within `session.run`.
    """

    image_size: int
    """The longer side in pixels of the images that `encode` takes."""

    device: torch.device
    """Where images and latents are expected, and where the generator is trained."""

    session: Session = Session()
    """What loads the models and makes room for them."""

    views: Sequence[str] = ()
    """Of "front", "side" and "back", those that have a prompt of their own: for `views.seen_from`."""

    @abstractmethod
    def schedule(self, t: float) -> tuple[float, float]:
        """Return (alpha_t, sigma_t) of z_t = alpha_t z + sigma_t eps, both above 0."""

    @abstractmethod
    def encode(self, images: Tensor, recompute: bool = False) -> Tensor:
        """Encode images [B, 3, H, W] in [-1, 1] to latents [B, c, h, w]: the posterior's mode, scaled and shifted as
        the diffusion model wants it. Differentiable with respect to the images.

        With `recompute`, activations are computed again block by block in the backward pass instead of kept."""

    @abstractmethod
    def guided(self, z_t: Tensor, t: float, scaling: float = 1.0) -> Tensor:
        """Return the guided eps_hat [B, c, h, w] of noisy latents, all rows and all conditions in one evaluation.

        eps_u + sum_i s_i (eps_i - eps_u) (eq. 4 with one condition); the scales s_i belong to the prior and are
        multiplied by `scaling`. Records no gradients. Raises ValueError when the prior has no scale to multiply."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, c, h, w] to images [B, 3, H, W] in about [-1, 1], outside of `session.run`. Raises ValueError
        when the prior has no decoder."""
        raise ValueError("This diffusion model cannot draw pictures: it has no decoder; give a complete VAE.")

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Return the names of the conditions that the prior gives apart, "unconditional" among them; none where it gives
        their sum alone."""
        return ()

    def conditions(self, z_t: Tensor, t: float) -> dict[str, Tensor]:
        """Return eps_hat [B, c, h, w] of each condition by name ("unconditional", "text" and others), before guidance,
        in one evaluation and without gradients, for terms that need the parts."""
        return self.guided_and_conditions(z_t, t)[1]

    def facing(self, view: str) -> "Prior":
        """Return the prior with the prompt of one of its `views` in place of its own."""
        raise ValueError(f"There is no prompt for the view {view}; leave it out.")

    def guided_and_conditions(self, z_t: Tensor, t: float, scaling: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what `guided` and `conditions` give, in one evaluation. Raises ValueError
        when the prior has no parts."""
        raise NotImplementedError(f"{type(self).__name__} gives its guided prediction alone.")

    def require_trainable_score(self) -> None:
        """Raise ValueError when `trainable_score` has nothing to copy."""
        raise ValueError(_NO_NETWORK)

    def trainable_score(self, low_rank: bool) -> TrainableScore:
        """Copy the network with its prompt, without guidance, to be trained as a whole or in low rank. Raises ValueError
        when there is none, as `require_trainable_score` says before."""
        raise ValueError(_NO_NETWORK)


_NO_NETWORK = "This guidance has no network that could be trained beside it; choose another term."
