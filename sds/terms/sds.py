"""SDS, the score distillation of the paper (DreamFusion, arXiv 2209.14988)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..equations import score_difference
from .base import LatentTerm, View


@dataclass(frozen=True)
class ScoreDistillation(LatentTerm):
    """ScoreDistillation is SDS: the guided prediction against the noise that is there (eq. 3)."""

    kind: ClassVar[str] = "sds"
    title: ClassVar[str] = "How far from the prompt"
    role: ClassVar[str] = "distillation"
    summary: ClassVar[str] = "score distillation, as in the paper"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat"})

    def gradient(self, view: View) -> Tensor:
        return score_difference(view.eps_hat, view.eps)
