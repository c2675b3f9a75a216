"""What one run of the training node is asked to train, from what came through its inputs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...sds import (
    AllLayers,
    LayerChoice,
    ScoreDistillation,
    Term,
    TrainSettings,
    of_objective,
    require_parts,
    require_trainable,
    training_metadata,
    weights_digest,
)
from ...sds.describing import describe_settings
from ...sds.earlier import first_settings
from ...sds.settings import TRAIN
from ...stylegan import crop_of
from ..host.guiders import conditioning_fingerprint
from ..host.prior import ComfyPrior
from ..settings import settings_from
from ..types import Guidance, NamedGenerator


@dataclass(frozen=True)
class TrainingRequest:
    """A TrainingRequest is what a run of the training node trains, and towards what."""

    generator: NamedGenerator
    guidance: Guidance
    prior: ComfyPrior
    settings: TrainSettings
    terms: Sequence[Term]
    layers: LayerChoice
    chained: Sequence[Term]  # the terms as they came

    @classmethod
    def of(
        cls,
        generator: NamedGenerator,
        guidance: Guidance,
        terms: Sequence[Term],
        layers: LayerChoice | None,
        inputs: Mapping[str, Any],
    ) -> "TrainingRequest":
        """Put together what came through the node's inputs. Raises ValueError where it does not fit together."""
        own = settings_from(TrainSettings, TRAIN, inputs)
        settings = TrainSettings(**guidance.settings, **own, crop=crop_of(generator.metadata))
        prior = ComfyPrior(guidance.guider, guidance.vae, guidance.image_size)
        if settings.guidance_end != 1.0 and not prior.can_scale:
            raise ValueError("This guider has no guidance scale that could change; set guidance_end to 1.")
        counting, layers = of_objective(terms, default=ScoreDistillation()), layers or AllLayers()
        require_trainable(generator.generator, settings, counting, layers)
        require_parts(prior, counting)
        return cls(generator, guidance, prior, settings, counting, layers, terms)

    def metadata(self) -> dict[str, str]:
        """Describe the training for the files of generators that come of it."""
        guidance = self.guidance
        return training_metadata(
            self.settings,
            self.terms,
            self.layers,
            prompt=guidance.prompt,
            negative_prompt=guidance.negative_prompt,
            guidance={
                "guidance_scale": guidance.guidance_scale,
                "extra_prompts": guidance.extra_prompts,
                "extra_scales": guidance.extra_scales,
                "image_size": self.prior.image_size,
            },
            source=self.generator.name,
            source_metadata=self.generator.metadata,
        )

    def inputs_fingerprint(self) -> str:
        """Describe what came through the links but the seed, in a few numbers."""
        described = {
            "generator": weights_digest(self.generator.generator),
            "guidance": self._of_guidance(),
            "settings": describe_settings(dataclasses.replace(self.settings, seed=0)),
            "terms": sorted((term.describe() for term in self.terms), key=json.dumps),
            "layers": self.layers.describe(),
        }
        return json.dumps(described, sort_keys=True)

    def first_inputs_fingerprint(self) -> str:
        """Describe the same as version 0.1 did, so that what that left unfinished is found."""
        settings = first_settings(dataclasses.replace(self.settings, seed=0))
        others = f"({settings}, {tuple(self.chained)!r}, {self.layers!r})"
        return f"({weights_digest(self.generator.generator)!r}, {self._of_guidance()!r}, {others})"

    def _of_guidance(self) -> tuple:
        guidance = self.guidance
        return guidance.image_size, guidance.guidance_scale, conditioning_fingerprint(guidance.guider)
