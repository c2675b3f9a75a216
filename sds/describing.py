"""What tells a training from others, and what its generator's file says of it."""

import dataclasses
import json

from ..training.digests import weights_digest
from ..training.settings import declared_settings
from .adapting import Adaptation
from .settings import TrainSettings


def describe(adaptation: Adaptation) -> dict:
    """Return what a saved training is recognized by, in JSON's types."""
    return {
        "settings": describe_settings(adaptation.settings),
        "terms": sorted((term.describe() for term in adaptation.objective.terms), key=json.dumps),
        "layers": adaptation.layers.describe(),
        "generator": weights_digest(adaptation.frozen),
    }


def describe_settings(settings: TrainSettings, everything: bool = False) -> dict:
    """Describe settings by name, in JSON's types: those that are not as declared, so that one which is declared later
    changes no description, and of these those that weights depend on; or `everything`."""
    declared = declared_settings(TrainSettings)

    def counts(name: str, value: object) -> bool:
        if name not in declared:
            return value is not None
        return declared[name].setting.changes_weights and value != declared[name].default

    values = dataclasses.asdict(settings)
    return {name: value for name, value in values.items() if everything or counts(name, value)}
