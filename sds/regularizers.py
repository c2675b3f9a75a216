"""Regularizers keep the trained generator near the frozen one: objects that turn scores into a latent gradient."""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from . import equations


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
    """A term beside SDS on the latents. Its weighted gradient is multiplied by w_t, as the method's official code does."""

    name: ClassVar[str]
    needs_frozen_latent: ClassVar[bool]  # z0: one more rendering and encoding
    needs_frozen_score: ClassVar[bool]  # eps_hat_frozen: as many rows again in the prior's evaluation
    weight: float  # lambda; 0 leaves the term out

    def gradient(self, scores: Scores) -> Tensor:
        """The term's gradient [B, c, h, w] with respect to the latent, without weight and w_t."""
        ...


@runtime_checkable
class ImageRegularizer(Protocol):
    """A term on the images themselves. The gradient of weight * distance, averaged over the batch, is added to what SDS
    sends to the image after that has been clamped; the timestep plays no part."""

    name: ClassVar[str]
    weight: float  # lambda; 0 leaves the term out

    def distance(self, images: Tensor, frozen_images: Tensor) -> Tensor:
        """The distance [B] of images to the frozen generator's, both [B, 3, H, W] in [-1, 1] as the prior sees them;
        differentiable with respect to the first."""
        ...

    def release(self) -> None:
        """Give back what a training has put on its device; called at the end of each."""
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
        check_weight(self)

    def gradient(self, scores: Scores) -> Tensor:
        return equations.directional_gradient(scores.eps_hat, scores.eps_hat_frozen)


@dataclass(frozen=True)
class ReconstructionRegularizer:
    """Keeps the denoised latent near that of the frozen generator's image (eq. 6)."""

    weight: float = 1.0

    name: ClassVar[str] = "reconstruction"
    needs_frozen_latent: ClassVar[bool] = True
    needs_frozen_score: ClassVar[bool] = False

    def __post_init__(self):
        check_weight(self)

    def gradient(self, scores: Scores) -> Tensor:
        return equations.reconstruction_gradient(scores.z_t, scores.eps_hat, scores.z0, scores.alpha, scores.sigma)


def title(regularizer: Regularizer | ImageRegularizer) -> str:
    """The name of a regularizer, and of what makes two of that name differ."""
    features = getattr(regularizer, "features", None)
    return regularizer.name if features is None else f"{regularizer.name} ({features.name})"


def check_weight(regularizer: Regularizer | ImageRegularizer) -> None:
    """Raises ValueError for a weight that is no finite number from 0 up."""
    if not (math.isfinite(regularizer.weight) and regularizer.weight >= 0):
        raise ValueError(f"The {regularizer.name} regularizer's weight is {regularizer.weight}; give 0 or more.")
