"""Score distillation: the terms that pull the generator to what the prior wants to see."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...training.settings import setting
from ..equations import score_difference
from .base import LatentTerm, View

_WEIGHT = {"what": "The distillation's weight", "least": 0, "shown": (0.0, 100.0, 0.05), "option": ""}


@dataclass(frozen=True)
class ScoreDistillation(LatentTerm):
    """ScoreDistillation is SDS: the guided prediction against the noise that is there (eq. 3)."""

    weight: float = setting(1.0, "How much score distillation counts beside the other terms.", **_WEIGHT)

    kind: ClassVar[str] = "sds"
    role: ClassVar[str] = "distillation"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat"})

    def gradient(self, view: View) -> Tensor:
        return score_difference(view.eps_hat, view.eps)
