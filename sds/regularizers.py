"""Regularizers keep the trained generator near the frozen one: objects that turn scores into a latent gradient."""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from . import terms


@dataclass(frozen=True)
class Scores:
    """What is known about a batch at its timestep. Tensors are [B, c, h, w]."""

    z_t: Tensor  # noisy latents of the trained generator's images
    eps: Tensor  # the noise in them
    eps_hat: Tensor  # the prior's guided prediction of it
    alpha: float
    sigma: float
    z0: Tensor | None  # latents of the frozen generator's images, when a regularizer needs them
    eps_hat_frozen: Tensor | None  # guided prediction at these with the same noise, when a regularizer needs it


class Regularizer(Protocol):
    """A term beside SDS. Its weighted gradient is multiplied by w_t, as the method's official code does."""

    name: ClassVar[str]
    needs_frozen_latent: ClassVar[bool]  # z0: one more rendering and encoding
    needs_frozen_score: ClassVar[bool]  # eps_hat_frozen: as many rows again in the prior's evaluation
    weight: float  # lambda; 0 leaves the term out

    def gradient(self, scores: Scores) -> Tensor:
        """The term's gradient [B, c, h, w] with respect to the latent, without weight and w_t."""
        ...


@dataclass(frozen=True)
class DirectionalRegularizer:
    """Keeps the direction of the score near that of the frozen generator's image (eq. 5). The paper's weight is 1 for
    faces and 0.5 for cats."""

    weight: float = 1.0

    name: ClassVar[str] = "directional"
    needs_frozen_latent: ClassVar[bool] = True
    needs_frozen_score: ClassVar[bool] = True

    def __post_init__(self):
        _check_weight(self)

    def gradient(self, scores: Scores) -> Tensor:
        return terms.directional_gradient(scores.eps_hat, scores.eps_hat_frozen)


@dataclass(frozen=True)
class ReconstructionRegularizer:
    """Keeps the denoised latent near that of the frozen generator's image (eq. 6)."""

    weight: float = 1.0

    name: ClassVar[str] = "reconstruction"
    needs_frozen_latent: ClassVar[bool] = True
    needs_frozen_score: ClassVar[bool] = False

    def __post_init__(self):
        _check_weight(self)

    def gradient(self, scores: Scores) -> Tensor:
        return terms.reconstruction_gradient(scores.z_t, scores.eps_hat, scores.z0, scores.alpha, scores.sigma)


def _check_weight(regularizer: Regularizer) -> None:
    if not (math.isfinite(regularizer.weight) and regularizer.weight >= 0):
        raise ValueError(f"The {regularizer.name} regularizer's weight is {regularizer.weight}; give 0 or more.")
