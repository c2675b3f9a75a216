"""What one run of the training node is asked to train, from what came through its inputs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...sds import (
    AllLayers,
    LayerChoice,
    PerceptualRegularizer,
    Prior,
    ScoreDistillation,
    TargetPictures,
    Targets,
    Term,
    TrainSettings,
    of_objective,
    pictures_side,
    require_parts,
    require_trainable,
    scale_warnings,
    training_metadata,
    weights_digest,
)
from ...sds.describing import describe_settings
from ...sds.earlier import first_settings, without_discriminators
from ...sds.settings import TRAIN
from ...sds.terms.lpips import usual_in_3d
from ...sds.views import require_views
from ...stylegan import crop_of, require_fitting
from ..features import BUNDLED, load_network
from ..host.editors import HostPicturesPrior
from ..host.guiders import conditioning_fingerprint
from ..host.prior import ComfyPrior
from ..settings import settings_from
from ..types import Guidance, NamedGenerator, SelectedLayers

NO_AIM = (
    "Train Generator needs to know what to train towards; link a guidance, or targets, or both, or a CLIP Directional."
)


def _prior(guidance: Guidance | None, terms: Sequence[Term], generator: NamedGenerator) -> Prior:
    """The critic, where a term asks for one; else what says how large pictures are seen. Raises ValueError when there is
    none."""
    if all(term.on == "image" for term in terms):
        return HostPicturesPrior(pictures_side(terms, generator.generator, crop_of(generator.metadata)))
    if guidance is None:
        raise ValueError(NO_AIM)
    return ComfyPrior(guidance.guider, guidance.vae, guidance.image_size)


def _require_of(generator: NamedGenerator, terms: Sequence[Term]) -> None:
    """Raise ValueError when targets are of another generator, or there is more than one set of them."""
    pools = [term.pool for term in terms if term.pool is not None]
    if len({id(pool) for pool in pools}) > 1 or len([term for term in terms if term.kind == TargetPictures.kind]) > 1:
        raise ValueError("Targets are linked twice; link them to Train Generator or to Target Loss, not to both.")
    for pool in pools:
        require_fitting(generator.generator, pool.codes)


def _held_in_3d(generator: NamedGenerator, terms: Sequence[Term], prior: Prior) -> Term | None:
    """What holds a generator that draws in 3D where nothing is said of LPIPS, as on the command line: without it surfaces
    come apart."""
    flat = not generator.generator.config.takes_cameras
    if flat or any(term.kind == PerceptualRegularizer.kind or term.pool is not None for term in terms):
        return None
    return PerceptualRegularizer(usual_in_3d(prior.image_size), load_network(BUNDLED))


@dataclass(frozen=True)
class TrainingRequest:
    """A TrainingRequest is what a run of the training node trains, and towards what."""

    generator: NamedGenerator
    guidance: Guidance | None  # None: pictures alone say what to train towards
    prior: Prior
    settings: TrainSettings
    terms: Sequence[Term]
    layers: LayerChoice
    chained: Sequence[Term]  # the terms as they came

    @classmethod
    def of(
        cls,
        generator: NamedGenerator,
        guidance: Guidance | None,
        terms: Sequence[Term],
        layers: SelectedLayers | None,
        inputs: Mapping[str, Any],
        targets: Targets | None = None,
        optimizer: Mapping[str, Any] | None = None,
    ) -> "TrainingRequest":
        """Put together what came through the node's inputs. Raises ValueError where it does not fit together."""
        own = settings_from(TrainSettings, TRAIN, inputs)
        layers = layers or SelectedLayers(AllLayers(), {})
        of_guidance = guidance.settings if guidance else {}
        given = {**of_guidance, **own, **(optimizer or {}), **layers.settings}
        settings = TrainSettings(**given, crop=crop_of(generator.metadata))
        if targets is not None:
            terms = (*terms, TargetPictures(targets=targets))
        counting = of_objective(terms, default=ScoreDistillation())
        _require_of(generator, counting)
        require_trainable(generator.generator, settings, counting, layers.choice)
        prior = _prior(guidance, counting, generator)
        if held := _held_in_3d(generator, terms, prior):
            terms, counting = (*terms, held), [*counting, held]
        if settings.guidance_end != 1.0 and isinstance(prior, ComfyPrior) and not prior.can_scale:
            raise ValueError("This guider has no guidance scale that could change; set guidance_end to 1.")
        require_parts(prior, counting)
        require_views(generator.generator, prior.views)
        return cls(generator, guidance, prior, settings, counting, layers.choice, terms)

    def metadata(self) -> dict[str, str]:
        """Describe the training for the files of generators that come of it."""
        guidance = self.guidance
        of_guidance = {}
        if guidance is not None:
            of_guidance = {
                "guidance_scale": guidance.guidance_scale,
                "extra_prompts": guidance.extra_prompts,
                "extra_scales": guidance.extra_scales,
                "image_size": self.prior.image_size,
                **({"view_prompts": guidance.view_prompts} if self.prior.views else {}),
            }
        return training_metadata(
            self.settings,
            self.terms,
            self.layers,
            prompt=guidance.prompt if guidance else next((term.prompt for term in self.terms if term.prompt), ""),
            negative_prompt=guidance.negative_prompt if guidance else "",
            guidance=of_guidance,
            source=self.generator.name,
            source_metadata=self.generator.metadata,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be known before the training begins."""
        if self.guidance is None or not isinstance(self.prior, ComfyPrior):
            return ()
        scale = self.guidance.guidance_scale
        return (*self.guidance.warnings, *(() if scale is None else scale_warnings(self.terms, scale)))

    @cached_property
    def generator_digest(self) -> str:
        """A digest of the generator that the training starts from."""
        return weights_digest(self.generator.generator)

    def inputs_fingerprint(self, **but: object) -> str:
        """Describe what came through the links but the seed, in a few numbers; with further settings taken as these."""
        return self._fingerprint(sorted((term.describe() for term in self.terms), key=json.dumps), **but)

    def _fingerprint(self, terms: Sequence[Mapping], **but: object) -> str:
        described = {
            "generator": self.generator_digest,
            "guidance": self._of_guidance(),
            "settings": describe_settings(dataclasses.replace(self.settings, seed=0, **but)),
            "terms": terms,
            "layers": self.layers.describe(),
        }
        return json.dumps(described, sort_keys=True)

    def earlier_inputs_fingerprint(self) -> str:
        """Describe the same as an earlier version did, so that what that left unfinished is found: version 0.3, which knew
        no discriminator beside targets, or without targets version 0.1."""
        if any(term.pool for term in self.terms):
            return self._fingerprint(without_discriminators(self.terms))
        settings = first_settings(dataclasses.replace(self.settings, seed=0))
        others = f"({settings}, {tuple(self.chained)!r}, {self.layers!r})"
        return f"({self.generator_digest!r}, {self._of_guidance()!r}, {others})"

    def details(self) -> dict[str, str]:
        """Describe the settings in words, by their names for people: those that tell trainings apart at a glance."""
        settings, guidance = self.settings, self.guidance
        scale = guidance.guidance_scale if guidance else None
        found = {
            "seed": f"{settings.seed}",
            "guidance scale": "" if scale is None else f"{scale:g}",
            "timesteps": f"{settings.t_min:g} to {settings.t_max:g}" if guidance else "",
            "learning rate": f"{settings.learning_rate:g}",
            "batch": f"{settings.batch_size * settings.accumulation}",
            "terms": ", ".join(f"{term.kind} {term.weight:g}" for term in self.terms),
            "layers": " ".join(str(value) for value in self.layers.describe().values()),
            "trained": "" if settings.parameterization == "weights" else settings.parameterization,
            "from": self.generator.name,
            "negative prompt": guidance.negative_prompt if guidance else "",
        }
        return {name: said for name, said in found.items() if said}

    def _of_guidance(self) -> tuple:
        guidance = self.guidance
        if guidance is None:
            return ()
        return guidance.image_size, guidance.guidance_scale, conditioning_fingerprint(guidance.guider)
