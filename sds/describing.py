"""What tells a training from others, and what its generator's file says of it."""

import dataclasses

from ..training.digests import weights_digest
from ..training.settings import declared_settings
from .adapting import Adaptation
from .settings import TrainSettings


def describe(adaptation: Adaptation) -> dict:
    """Return what a saved training is recognized by, in JSON's types."""
    return {
        "settings": describe_settings(adaptation.settings),
        "terms": [term.describe() for term in adaptation.objective.terms],
        "layers": adaptation.layers.describe(),
        "generator": weights_digest(adaptation.frozen),
    }


def describe_settings(settings: TrainSettings, everything: bool = False) -> dict:
    """Return the settings by name, in JSON's types; without those that leave weights alone unless
    `everything` is asked for."""
    declared = declared_settings(TrainSettings)
    values = dataclasses.asdict(settings)
    return {
        name: value
        for name, value in values.items()
        if everything or name not in declared or declared[name].setting.changes_weights
    }
