"""What a run is made of, and how its folder keeps that."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..sds import DISTILLATIONS, TERMS, ClipDirectional, TargetSettings, TrainSettings
from ..sds.earlier import NAMES_OF_FIRST
from ..training.settings import declared_settings, option_of
from .targets import TargetsPlan


@dataclass(frozen=True)
class Plan:
    """A Plan is everything that a run is made of."""

    generator: str  # a file, or "miniature"
    model: str  # a file, a folder, or "miniature"; "": none, nothing asks one
    prompt: str
    negative_prompt: str
    extra_prompts: tuple[tuple[str, float], ...]  # texts and their scales
    guidance_scale: float
    image_size: int | None  # pixels; None: the model's own
    settings: TrainSettings
    distillation: str  # of DISTILLATIONS
    weights: dict[str, float]  # of the regularizers, by their kind in TERMS; 0 for none
    lpips_features: str  # a file with VGG's weights, or "miniature"
    layers: str  # "all", "top3" or "1,2,3"
    selection_steps: int | None
    samples: int  # images before and after
    device: str | None  # None: the fastest there is
    half: bool  # whether the diffusion model is evaluated in half precision
    save_every: int  # steps
    targets_from: str = ""  # a folder of targets; "": none
    making: TargetSettings | None = None  # how targets are made first; None: they are not
    target_scale: float = 0.0  # guidance scale of the edits
    source_prompt: str = ""  # what the generator draws as it is
    loras: tuple[tuple[str, float], ...] = ()  # files and their strengths
    prediction: str = ""  # of PREDICTIONS; "": what the model says of itself
    vae: str = ""  # a file or a folder; "": the model's own
    embeddings: tuple[str, ...] = ()  # files
    domain: str = ""  # a file; "": none
    domain_scale: float = 0.0
    domain_blend: float = 1.0
    distillation_settings: dict[str, int | float | str] = field(default_factory=dict)  # beside its weight
    clip: tuple[str, ...] = ()  # folders, or "miniature"
    clip_weight: float = 0.0  # of each
    clip_templates: bool = True
    target_latents: tuple[str, ...] = ()  # files
    view_prompts: dict[str, str] = field(default_factory=dict)  # by the view that they are for, in place of the prompt
    adversarial: float = 0.0  # strength of the discriminator beside the targets

    def shared_by(self, processes: int) -> "Plan":
        """Return the plan of a training that so many processes share: each has as many batches in a step as were asked
        for."""
        accumulation = self.settings.accumulation * processes
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, accumulation=accumulation))

    @property
    def has_targets(self) -> bool:
        return bool(self.targets_from) or self.making is not None

    @property
    def targets(self) -> TargetsPlan | None:
        """Return how targets are made before the training; None: they are not."""
        if self.making is None:
            return None
        return TargetsPlan(
            self.model,
            self.prompt,
            self.negative_prompt,
            self.source_prompt,
            self.target_scale,
            self.image_size,
            self.half,
            self.settings.class_index,
            dataclasses.replace(self.making, seed=self.settings.seed),
            self.loras,
            self.prediction,
            self.vae,
            self.embeddings,
            self.domain,
            self.domain_scale,
            self.domain_blend,
            self.view_prompts,
            self.target_latents,
        )

    def describe(self) -> dict:
        """Return the plan in JSON's types."""
        return dataclasses.asdict(self)


def read_plan(plan: Mapping, first: bool = False) -> Plan:
    """Read a plan from JSON, of the `first` format or of today's. Raises ValueError, LookupError, TypeError or
    AttributeError where it makes no sense."""
    plan = dict(plan)
    settings = {name: value for name, value in plan["settings"].items() if name != "crop"}
    if first:
        settings = {NAMES_OF_FIRST.get(name, name): value for name, value in settings.items()}
        plan["weights"] = {kind: plan.pop(kind) for kind in ("directional", "reconstruction", "lpips")}
        plan["distillation"] = "sds"
    settings["also_train"] = tuple(settings["also_train"])
    if plan.get("making") is not None:
        plan["making"] = TargetSettings(**plan["making"])
    plan["settings"] = _checked(TrainSettings(**settings))
    for name in ("extra_prompts", "loras"):
        plan[name] = tuple(tuple(pair) for pair in plan.get(name, ()))
    for name in ("clip", "target_latents"):
        plan[name] = tuple(plan.get(name, ()))
    plan["embeddings"] = tuple(plan.get("embeddings", ()))
    read = _checked(Plan(**plan))
    if read.save_every < 1 or read.samples < 2:
        raise ValueError("its numbers make no sense")
    known = {kind for kind, term in TERMS.items() if term.role == "regularizer"}
    if (
        read.distillation not in (*DISTILLATIONS, *[""] * (read.has_targets or bool(read.clip)))
        or not read.weights.keys() <= known
    ):
        raise ValueError("it names a term that there is not")
    if read.distillation:
        TERMS[read.distillation](**read.distillation_settings)
    return read


def in_options(name: str, saved: object, wanted: object) -> list[str]:
    """Say in words of the options what differs between a saved training and the one of a plan."""
    if name == "terms":
        theirs, ours = ({json.dumps(term) for term in terms or []} for terms in (saved, wanted))
        kinds = {json.loads(term)["term"] for term in theirs ^ ours}
        return sorted({_term_in_options(kind) for kind in kinds}) or ["--distillation"]
    if name == "generator":
        return ["the generator in the file of --generator"]
    if declared := declared_settings(TrainSettings).get(name):
        return [option_of(declared)]
    return [f"--{name}" if name == "layers" else name]


def _term_in_options(kind: str) -> str:
    if kind == "targets":
        return "the pictures of --targets, or --adversarial"
    if kind == ClipDirectional.kind:
        return "--clip, or its weights or texts"
    return f"--{kind}" if kind in TERMS and TERMS[kind].role == "regularizer" else "--distillation"


def _checked(read):
    """A dataclass from JSON, each of whose fields is of its kind. Raises TypeError naming one that is not."""
    for name, kind in typing.get_type_hints(type(read)).items():
        if not _is(getattr(read, name), kind):
            raise TypeError(f"{name} is {str(getattr(read, name))[:40]!r}")
    return read


def _is(value: object, kind: object) -> bool:
    kinds = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(_is(value, one) for one in kinds)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple) or kinds[-1] is Ellipsis:
            return isinstance(value, tuple) and all(_is(item, kinds[0]) for item in value)
        return len(value) == len(kinds) and all(map(_is, value, kinds))
    if typing.get_origin(kind) is dict:
        return isinstance(value, dict) and all(_is(key, kinds[0]) and _is(v, kinds[1]) for key, v in value.items())
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
