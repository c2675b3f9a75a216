"""CSD, the classifier's part of score distillation alone (Yu et al., arXiv 2310.19415)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .. import equations
from .base import LatentTerm, View


@dataclass(frozen=True)
class ClassifierScoreDistillation(LatentTerm):
    """ClassifierScoreDistillation leaves the noise out of SDS: what is left of eps_hat - eps without eps_u - eps is the
    guidance itself, sum_i s_i (eps_i - eps_u), with the scales s_i of the prior."""

    kind: ClassVar[str] = "csd"
    title: ClassVar[str] = "How far from the prompt, by its guidance alone"
    role: ClassVar[str] = "distillation"
    summary: ClassVar[str] = "the guidance alone, without SDS's noise (experimental)"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat", "conditions"})

    def gradient(self, view: View) -> Tensor:
        return equations.score_difference(view.eps_hat, view.conditions["unconditional"])
