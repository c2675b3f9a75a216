"""What came through the links of one run of the training node, in a few numbers."""

import dataclasses
import json
from collections.abc import Sequence

from ...sds import LayerChoice, Term, TrainSettings, weights_digest
from ...sds.describing import describe_settings
from ...sds.earlier import first_settings
from ..host.guiders import conditioning_fingerprint
from ..types import Guidance, NamedGenerator


def inputs_fingerprint(
    generator: NamedGenerator,
    guidance: Guidance,
    settings: TrainSettings,
    terms: Sequence[Term],
    layers: LayerChoice,
) -> str:
    """Describe what a training is made of, but for its seed."""
    described = {
        "generator": weights_digest(generator.generator),
        "guidance": [guidance.image_size, guidance.guidance_scale, conditioning_fingerprint(guidance.guider)],
        "settings": describe_settings(dataclasses.replace(settings, seed=0)),
        "terms": [term.describe() for term in terms],
        "layers": layers.describe(),
    }
    return json.dumps(described, sort_keys=True)


def first_inputs_fingerprint(
    generator: NamedGenerator,
    guidance: Guidance,
    settings: TrainSettings,
    regularizers: Sequence[Term],
    layers: LayerChoice,
) -> str:
    """Describe the same as version 0.1 did, so that what that left unfinished is found."""
    settings = first_settings(dataclasses.replace(settings, seed=0))
    of_guidance = guidance.image_size, guidance.guidance_scale, conditioning_fingerprint(guidance.guider)
    others = f"({settings}, {tuple(regularizers)!r}, {layers!r})"
    return f"({weights_digest(generator.generator)!r}, {of_guidance!r}, {others})"
