"""Trainings that an earlier version left unfinished."""

import json
from collections.abc import Iterator, Sequence

from ..training.saving import FORMAT, Earlier, Notes, Tensors
from ..training.settings import declared_settings
from .adapting import Adaptation
from .describing import describe, describe_settings
from .discriminator import NAME, Discriminator
from .settings import TrainSettings
from .terms import ScoreDistillation, Term

_FIRST = "stylegan-fusion-training-1"  # of version 0.1: one phase, SDS with regularizers each given once
_SETTINGS_OF_FIRST = (
    "steps", "batch_size", "accumulation", "learning_rate", "cooldown", "t_min", "t_max", "timestep_schedule", "weighting",
    "guidance_end", "seed", "gradient_clamp", "image_clamp_quantile", "also_train", "class_index", "crop",
    "diversity_every", "diversity_samples", "collapse_threshold", "recompute", "max_skipped_in_a_row",
)  # fmt: skip

NAMES_OF_FIRST = {"checkpoint": "recompute"}
"""What version 0.1 called settings that have other names now."""


def earlier_savings(adaptation: Adaptation, generator: str) -> Iterator[Earlier]:
    """Find how earlier versions would have saved this very training; `generator` is the digest of its weights."""
    if discriminator := next((found for term in adaptation.objective.terms if (found := _discriminator(term))), None):
        yield _without_discriminator(adaptation, discriminator)
    distilling, *regularizers = adaptation.objective.terms
    titles = {first_title(term): term.weight for term in regularizers}
    if distilling == ScoreDistillation() and len(titles) == len(regularizers):
        ours = describe_settings(adaptation.settings)
        known = {
            name: value
            for name, value in describe_settings(adaptation.settings, everything=True).items()
            if name in _SETTINGS_OF_FIRST
        }
        alone = [name for name, one in declared_settings(TrainSettings).items() if not one.setting.changes_weights]
        settings = ours | {name: value for name, value in known.items() if name not in alone}
        description = {"settings": settings, "regularizers": titles, "layers": repr(adaptation.layers)}
        yield Earlier(_FIRST, {**description, "generator": generator}, _read_first)


def _discriminator(term: Term) -> Discriminator | None:
    return getattr(term, "discriminator", None)


def _without_discriminator(adaptation: Adaptation, discriminator: Discriminator) -> Earlier:
    """Version 0.3 trained towards targets by their differences alone: the discriminator begins where that stopped."""
    description = describe(adaptation) | {"terms": without_discriminators(adaptation.objective.terms)}
    begun = {f"{NAME}.weights.{i}": one.detach() for i, one in enumerate(discriminator.network.parameters())}
    return Earlier(FORMAT, description, lambda tensors, notes: (tensors | begun, notes))


def without_discriminators(terms: Sequence[Term]) -> list[dict]:
    """Describe terms as if there were no discriminator beside targets, sorted."""
    described = [{name: value for name, value in term.describe().items() if name != "adversarial"} for term in terms]
    return sorted(described, key=json.dumps)


def first_settings(settings: TrainSettings) -> str:
    """Write the settings as version 0.1 wrote them in one line."""
    names = dict.fromkeys(_SETTINGS_OF_FIRST) | {ours: first for first, ours in NAMES_OF_FIRST.items()}
    return (
        f"TrainSettings({', '.join(f'{first or name}={getattr(settings, name)!r}' for name, first in names.items())})"
    )


def first_title(term: Term) -> str:
    """Return what version 0.1 called a regularizer."""
    features = getattr(term, "features", None)
    return term.kind if features is None else f"{term.kind} ({features.name})"


def _read_first(tensors: Tensors, notes: Notes) -> tuple[Tensors, Notes]:
    places = {
        "weights": "generator.weights",
        "adam": "generator.optimizer",
        "history.t": "history.notes.t",
        "history.layers": "history.notes.layers",
    }
    renamed = {}
    for name, value in tensors.items():
        old = name if name in places else name.partition(".")[0]
        renamed[places.get(old, old) + name[len(old) :]] = value
    history = {
        "losses": json.loads(notes["terms"]),
        "notes": {"t": "number", "layers": "indices"},
        "skipped": json.loads(notes["skipped"]),
        "measured": {"diversity": json.loads(notes["diversity"])},
    }
    kept = {
        "best": {"step": int(notes["best_step"])},
        "memory": {"micro_batch": int(notes["piece"]), "recompute": notes["checkpoint"] == "True"},
    }
    return renamed, {"step": notes["step"], "history": json.dumps(history), "kept": json.dumps(kept)}
