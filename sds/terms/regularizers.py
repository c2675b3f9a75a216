"""The method's regularizers: they keep the trained generator near the frozen one (sec. 3.3)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...training.settings import setting
from .. import equations
from .base import LatentTerm, View


@dataclass(frozen=True)
class DirectionalRegularizer(LatentTerm):
    """DirectionalRegularizer keeps the direction of the score near that of the frozen generator's image (eq. 5)."""

    weight: float = setting(
        1.0,
        "Strength. The paper uses 1 for faces and 0.5 for cats; higher stays closer to the original, 0 is off.",
        what="The directional regularizer's weight",
        wants="give 0 or more",
        least=0,
        added_later=False,
        shown=(0.0, 100.0, 0.05),
    )

    kind: ClassVar[str] = "directional"
    title: ClassVar[str] = "How different from before, in direction"
    usual: ClassVar[float] = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat", "eps_hat_frozen"})

    def gradient(self, view: View) -> Tensor:
        return equations.directional_gradient(view.eps_hat, view.eps_hat_frozen)


@dataclass(frozen=True)
class ReconstructionRegularizer(LatentTerm):
    """ReconstructionRegularizer keeps the denoised latent near that of the frozen generator's image (eq. 6)."""

    weight: float = setting(
        0.5,
        "Strength. 0.5 is usual; higher stays closer to the original, 0 is off.",
        what="The reconstruction regularizer's weight",
        wants="give 0 or more",
        least=0,
        added_later=False,
        shown=(0.0, 100.0, 0.05),
    )

    kind: ClassVar[str] = "reconstruction"
    title: ClassVar[str] = "How different from before, denoised"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat", "z0"})

    def gradient(self, view: View) -> Tensor:
        return equations.reconstruction_gradient(view.z_t, view.eps_hat, view.z0, view.alpha, view.sigma)
