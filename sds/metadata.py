"""What an adapted generator's file says about how it was made."""

import json
from collections.abc import Mapping, Sequence

from .describing import describe_settings
from .layers import LayerChoice
from .settings import TrainSettings
from .terms import Term

_NOT_INHERITED = ("format", "config", "name", "steps_done")  # they speak of the source itself

_HOW = ("source", "prompt", "negative_prompt", "seed", "settings")


def training_metadata(
    settings: TrainSettings,
    terms: Sequence[Term],
    layers: LayerChoice,
    *,
    prompt: str,
    negative_prompt: str,
    guidance: Mapping[str, object],
    source: str,
    source_metadata: Mapping[str, str],
) -> dict[str, str]:
    """Make the metadata for `save_generator`: prompt, seed, every setting as JSON, and the name of the generator it
    started from. guidance holds what else belongs to the settings of the guidance, its scale for one.

    What the source's own metadata says besides, its licence note for one, is kept. Of a source that was adapted itself
    the entry "adapted_from" tells how: a list as JSON, the first training first."""
    described = {
        **describe_settings(settings, everything=True),
        **guidance,
        "terms": [term.describe() for term in terms],
        "layers": layers.describe(),
    }
    earlier = {}
    if "prompt" in source_metadata:
        how = {key: source_metadata[key] for key in _HOW if key in source_metadata}
        earlier = {"adapted_from": json.dumps([*_listed(source_metadata.get("adapted_from", "")), how])}
    return {
        **{key: value for key, value in source_metadata.items() if key not in _NOT_INHERITED},
        **earlier,
        "source": source,
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "seed": str(settings.seed),
        "settings": json.dumps(described),
    }


def _listed(text: str) -> list:
    """What a file says of earlier trainings; [] where that is no list."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []
