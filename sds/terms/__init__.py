"""The terms of the objective, by name: a term is added in a file of its own and in this table."""

from .. import discriminator, fake_score
from .base import (
    ImageTerm,
    LatentTerm,
    Surroundings,
    Term,
    View,
    instance_names,
    of_objective,
    require_different,
    scale_warnings,
)
from .clip import ClipDirectional
from .combinations import (
    AsynchronousDistillation,
    BridgeDistillation,
    ClassifierScoreDistillation,
    DeltaDistillation,
    NoiseFreeDistillation,
    PlainDistillation,
    ScoreDistillation,
)
from .distribution import DistributionMatching
from .lpips import PerceptualRegularizer
from .regularizers import DirectionalRegularizer, ReconstructionRegularizer
from .targets import TargetLatents, TargetPictures

TERMS: dict[str, type[Term]] = {
    term.kind: term
    for term in (
        ScoreDistillation,
        DistributionMatching,
        ClassifierScoreDistillation,
        BridgeDistillation,
        NoiseFreeDistillation,
        AsynchronousDistillation,
        DeltaDistillation,
        PlainDistillation,
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


OTHER_CURVES = {
    fake_score.NAME: "How well the second network knows what is drawn",
    discriminator.NAME: "The error of the discriminator, which tells pictures from targets; at 0.69 it no longer can",
}


def curve_title(name: str) -> str:
    """Return what the curve of a term shows, for people, by the name of its instance."""
    if name in OTHER_CURVES:
        return OTHER_CURVES[name]
    kind = next((kind for kind in (name, name.rpartition(" ")[0]) if kind in TERMS), None)
    return name if kind is None else TERMS[kind].title + name.removeprefix(kind)


__all__ = [
    "DISTILLATIONS",
    "TERMS",
    "ClipDirectional",
    "DirectionalRegularizer",
    "DistributionMatching",
    "ImageTerm",
    "LatentTerm",
    "PerceptualRegularizer",
    "ReconstructionRegularizer",
    "ScoreDistillation",
    "Surroundings",
    "TargetLatents",
    "TargetPictures",
    "Term",
    "View",
    "curve_title",
    "instance_names",
    "of_objective",
    "require_different",
    "scale_warnings",
]
