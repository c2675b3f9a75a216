"""The terms of the objective, by name: a term is added in a file of its own and in this table."""

from .base import ImageTerm, LatentTerm, Term, View, instance_names, of_objective, require_different
from .csd import ClassifierScoreDistillation
from .lpips import PerceptualRegularizer
from .regularizers import DirectionalRegularizer, ReconstructionRegularizer
from .sds import ScoreDistillation

TERMS: dict[str, type[Term]] = {
    term.kind: term
    for term in (
        ScoreDistillation,
        ClassifierScoreDistillation,
        DirectionalRegularizer,
        ReconstructionRegularizer,
        PerceptualRegularizer,
    )
}
"""Kinds of terms by name."""

DISTILLATIONS = tuple(name for name, term in TERMS.items() if term.role == "distillation")
"""Names of the terms that can take the place of SDS."""

__all__ = [
    "DISTILLATIONS",
    "TERMS",
    "DirectionalRegularizer",
    "ImageTerm",
    "LatentTerm",
    "PerceptualRegularizer",
    "ReconstructionRegularizer",
    "ScoreDistillation",
    "Term",
    "View",
    "instance_names",
    "of_objective",
    "require_different",
]
