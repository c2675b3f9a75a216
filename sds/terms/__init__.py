"""The terms of the objective, by name: a term is added in a file of its own and in this table."""

from .base import ImageTerm, LatentTerm, Term, View, instance_names, of_objective, require_different
from .clip import ClipDirectional
from .csd import ClassifierScoreDistillation
from .lpips import PerceptualRegularizer
from .regularizers import DirectionalRegularizer, ReconstructionRegularizer
from .sds import ScoreDistillation
from .targets import TargetLatents, TargetPictures

TERMS: dict[str, type[Term]] = {
    term.kind: term
    for term in (
        ScoreDistillation,
        ClassifierScoreDistillation,
        TargetPictures,
        TargetLatents,
        ClipDirectional,
        DirectionalRegularizer,
        ReconstructionRegularizer,
        PerceptualRegularizer,
    )
}
"""Kinds of terms by name."""

DISTILLATIONS = tuple(name for name, term in TERMS.items() if term.role == "distillation" and term.by_name)
"""Names of the terms that can take the place of SDS."""


def curve_title(name: str) -> str:
    """Return what the curve of a term shows, for people, by the name of its instance."""
    kind = next((kind for kind in (name, name.rpartition(" ")[0]) if kind in TERMS), None)
    return name if kind is None else TERMS[kind].title + name.removeprefix(kind)


__all__ = [
    "DISTILLATIONS",
    "TERMS",
    "ClipDirectional",
    "DirectionalRegularizer",
    "ImageTerm",
    "LatentTerm",
    "PerceptualRegularizer",
    "ReconstructionRegularizer",
    "ScoreDistillation",
    "TargetLatents",
    "TargetPictures",
    "Term",
    "View",
    "curve_title",
    "instance_names",
    "of_objective",
    "require_different",
]
