"""What a run is made of, from the options or from its folder."""

import argparse
import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..miniature.settings import SDS_SETTINGS, MiniatureSettings, prompt_for
from ..sds import DISTILLATIONS, TERMS, ClipDirectional, TargetPictures, TargetSettings, TrainSettings
from ..sds.earlier import NAMES_OF_FIRST
from ..sds.priors.lora import LoRA
from ..sds.terms.lpips import LITTLE, usual_in_3d
from ..sds.views import VIEWS
from ..training.settings import Declared, declared_settings, option_of
from .arguments import DOMAIN_SCALE
from .targets import TargetsPlan
from .terminal import BUNDLED, MINIATURE, MINIATURE_CAT, UsageError


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


def plan_for(options: argparse.Namespace) -> Plan:
    """Make the plan of what was asked for, over the defaults. Raises UsageError or ValueError where
    an option makes no sense."""
    base: MiniatureSettings | None = options.miniature_settings if options.model == MINIATURE else None
    targets_from, making = _targets(options, base)
    has_targets, clip = bool(targets_from or making), _clip(options)
    training = base.training if base else TARGET_TRAINING if has_targets else TrainSettings()
    if base and not has_targets:
        base = SDS_SETTINGS
        training = base.training
    by_clip_alone = bool(clip) and not has_targets and not options.distillation
    if by_clip_alone:
        training = MINIATURE_CLIP_TRAINING if MINIATURE in clip else CLIP_TRAINING
    negative = _negative(options, base)
    training = dataclasses.replace(training, **_asked(options, TrainSettings))
    weights = {}
    for kind, term in TERMS.items():
        if term.role == "regularizer":
            given = getattr(options, kind)
            if given is None:
                given = _usual(options, base, term, has_targets) if options.model and not by_clip_alone else 0.0
            weights[kind] = given
    _require_model(options, making is not None, weights)
    if options.model and by_clip_alone and not any(weights[kind] for kind in weights if TERMS[kind].on == "latent"):
        raise UsageError("By --clip alone no diffusion model is asked; leave out --model, or add --distillation sds.")
    if not weights["lpips"] and options.lpips_features != MINIATURE:
        raise UsageError("--lpips-features is the network of --lpips; give that its weight, too.")
    distillation = options.distillation or ("" if has_targets or clip else "sds")
    of_distillation = _of_distillation(options, distillation)
    usual_scale = TERMS[distillation or "sds"].usual_scale
    return Plan(
        generator=_absolute(options.generator),
        model=_absolute(options.model) if options.model else "",
        prompt=options.prompt or "",
        negative_prompt=negative,
        extra_prompts=tuple((text.removeprefix(" "), _number(scale)) for text, scale in options.extra_prompt or ()),
        guidance_scale=_text_scale(options, _first(options.guidance_scale, base and base.guidance_scale, usual_scale)),
        image_size=options.image_size,
        settings=training,
        distillation=distillation,
        distillation_settings=of_distillation,
        weights=weights,
        lpips_features=_absolute(options.lpips_features),
        layers=options.layers or "all",
        selection_steps=options.selection_steps,
        samples=options.samples,
        device=options.device,
        half=options.half,
        save_every=options.save_every,
        targets_from=targets_from,
        making=making,
        target_scale=_target_scale(options, base),
        source_prompt=_first(options.source_prompt, negative) or (_drawn_by(options) if clip else ""),
        **given_on_model(options),
        **domain_of(options),
        clip=clip,
        clip_weight=_first(options.clip_weight, 1.0) if clip else 0.0,
        clip_templates=_first(getattr(options, "clip_templates", None), True),
        view_prompts=view_prompts_of(options),
        target_latents=_target_latents(options) if making else (),
        adversarial=_adversarial(options) if has_targets else 0.0,
    )


def own_settings(kind: str) -> dict[str, Declared]:
    """Return the settings that a term has beside its weight, by name."""
    return {name: one for name, one in declared_settings(TERMS[kind]).items() if name != "weight"}


def of_term(kind: str) -> str:
    """Return what the options of a term's settings are kept behind."""
    return f"{kind}_"


def _of_distillation(options: argparse.Namespace, distillation: str) -> dict[str, int | float | str]:
    """The settings of the chosen distillation that were given. Raises UsageError for one of another."""
    found = {}
    for kind in DISTILLATIONS:
        for name, declared in own_settings(kind).items():
            value = getattr(options, of_term(kind) + name)
            if value is not None and kind != distillation:
                raise UsageError(f"{option_of(declared)} is a setting of --distillation {kind}; add that.")
            if value is not None:
                found[name] = value
    if distillation:
        TERMS[distillation](**found)  # raises what is wrong with them
    return found


def _usual(options: argparse.Namespace, base: MiniatureSettings | None, term: type, has_targets: bool) -> float:
    """The weight of a regularizer that nothing is said of."""
    if term.usual_in_3d is not None and not has_targets and _draws_in_3d(options.generator):
        return usual_in_3d(LITTLE if base else options.image_size)
    return base.weights.get(term.kind, 0.0) if base else term.usual


def _draws_in_3d(generator: str) -> bool:
    from ..miniature import generator_path
    from ..stylegan.checkpoint import read_config

    return read_config(generator_path(generator)).takes_cameras


TARGET_TRAINING = TrainSettings(batch_size=4, cooldown=0.6)
"""What a training towards targets is usually given, where nothing else is said."""

OF_TARGETS = "target_"
"""What the options of targets are kept behind: some have the names of the training's."""

CLIP_TRAINING = TrainSettings(steps=300, batch_size=4, learning_rate=0.002)
"""What a training by CLIP alone is usually given: the numbers of StyleGAN-NADA for textures; shapes take 600 steps."""

MINIATURE_CLIP_TRAINING = dataclasses.replace(CLIP_TRAINING, learning_rate=0.004)
"""The same by the miniature's CLIP: of three rates tried, .002 hardly moved and .008 came an eighth nearer than this one."""

TARGET_SCALE = 5.0
"""The guidance scale of edits, for Stable Diffusion."""


def targets_plan_for(options: argparse.Namespace) -> TargetsPlan:
    """Make the plan of the targets that were asked for, over the defaults."""
    base = options.miniature_settings if options.model == MINIATURE else None
    negative = _negative(options, base)
    usual = base.targets.count if base else TargetSettings().count
    made = _making(options, base, _first(options.count, usual))
    return TargetsPlan(
        _absolute(options.model),
        options.prompt or "",
        negative,
        _first(options.source_prompt, negative),
        _target_scale(options, base),
        options.image_size,
        options.half,
        options.class_index,
        dataclasses.replace(made, seed=_first(options.seed, 0)),
        **given_on_model(options),
        **domain_of(options),
        view_prompts=view_prompts_of(options),
        further=_target_latents(options),
    )


def _adversarial(options: argparse.Namespace) -> float:
    """The strength of the discriminator beside the targets. Raises ValueError."""
    declared = declared_settings(TargetPictures)["adversarial"]
    if options.adversarial is None:
        return declared.default
    if refusal := declared.setting.refusal("adversarial", options.adversarial):
        raise ValueError(refusal)
    return options.adversarial


def _target_latents(options: argparse.Namespace) -> tuple[str, ...]:
    """Files of latents whose pictures shall be among the targets."""
    return tuple(str(file.absolute()) for file in getattr(options, "target_latents", None) or ())


def view_prompts_of(options: argparse.Namespace) -> dict[str, str]:
    """Return the prompts of views that were given, by their view."""
    return {view: text for view in VIEWS if (text := getattr(options, f"{view}_prompt"))}


def domain_of(options: argparse.Namespace) -> dict[str, str | float]:
    """Return the domain that guides the model, and how. Raises UsageError."""
    scale, blend = options.domain_scale, options.domain_blend
    if options.domain is None:
        for option, value in (("--domain-scale", scale), ("--domain-blend", blend)):
            if value is not None:
                raise UsageError(f"{option} is for a domain; add --domain FILE.")
        return {}
    for option, value in (("--domain-scale", scale), ("--domain-blend", blend)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{option} is {value}; give a number.")
    return {
        "domain": str(options.domain.absolute()),
        "domain_scale": _first(scale, DOMAIN_SCALE),
        "domain_blend": _first(blend, 1.0),
    }


def _text_scale(options: argparse.Namespace, scale: float) -> float:
    """The guidance scale of the prompt; without one the domain guides alone."""
    return scale if options.prompt else 0.0


def given_on_model(options: argparse.Namespace) -> dict[str, Any]:
    """Return what is put on a diffusion model and beside it, by the names of a plan."""
    return {
        "loras": tuple((str(lora.path.absolute()), lora.strength) for lora in map(LoRA.parse, options.lora or ())),
        "prediction": options.prediction or "",
        "vae": "" if options.vae is None else str(options.vae.absolute()),
        "embeddings": tuple(str(file.absolute()) for file in options.embedding or ()),
    }


def _making(options: argparse.Namespace, base: MiniatureSettings | None, count: int) -> TargetSettings:
    """How `count` targets are made, from what was asked for, over the defaults."""
    usual = base.targets if base and base.targets else TargetSettings()
    return dataclasses.replace(usual, **_asked(options, TargetSettings, OF_TARGETS) | {"count": count})


def _targets(options: argparse.Namespace, base: MiniatureSettings | None) -> tuple[str, TargetSettings | None]:
    """A folder of targets or "", and how they are made or None."""
    asked = options.targets
    if asked is None and base and base.targets and not options.distillation and not getattr(options, "clip", None):
        return "", _making(options, base, base.targets.count)
    if asked is None or asked == "0":
        if getattr(options, "target_latents", None):
            raise UsageError("--target-latents are for targets that are made; add --targets N.")
        if options.adversarial is not None:
            raise UsageError("--adversarial is for trainings towards targets; add --targets N.")
        if given := [*_asked(options, TargetSettings, OF_TARGETS)]:
            option = declared_settings(TargetSettings)[given[0]].setting.option
            raise UsageError(f"{option} says how targets are made; add --targets N.")
        return "", None
    if asked.isdigit():
        return "", _making(options, base, int(asked))
    if not Path(asked).is_dir():
        raise UsageError(f"--targets {asked} is neither a number nor a folder; write for example --targets 200.")
    return _absolute(asked), None


def _target_scale(options: argparse.Namespace, base: MiniatureSettings | None) -> float:
    return _text_scale(options, _first(options.target_scale, base and base.target_scale, TARGET_SCALE))


def _asked(options: argparse.Namespace, owner: type, prefix: str = "") -> dict:
    """The declared settings of a dataclass that were given, by options kept under their names behind the prefix."""
    return {
        name: value
        for name, one in declared_settings(owner).items()
        if one.setting.option != "" and (value := getattr(options, prefix + name, None)) is not None
    }


def _clip(options: argparse.Namespace) -> tuple[str, ...]:
    """The CLIPs to train by. Raises UsageError."""
    clip = tuple(getattr(options, "clip", None) or ())
    if not clip:
        for option in ("clip_weight", "clip_templates"):
            if getattr(options, option, None) is not None:
                raise UsageError(f"--{option.replace('_', '-')} says how --clip counts; add --clip FOLDER.")
    elif not options.prompt:
        raise UsageError("--clip compares two texts; add --prompt, what the generator shall draw.")
    return tuple(_absolute(one) for one in clip)


def _require_model(options: argparse.Namespace, makes_targets: bool, weights: Mapping[str, float]) -> None:
    """Raise UsageError where there is no diffusion model, and something asks one or is said of one."""
    asks = {"distillation": options.distillation, "targets": makes_targets}
    asks |= {kind: weight for kind, weight in weights.items() if TERMS[kind].on == "latent"}
    of_models = ("domain", "extra_prompt", "lora", "prediction", "guidance_scale", "image_size", "half")
    asks |= {name: getattr(options, name) for name in of_models}
    asking = [name.replace("_", "-") for name, value in asks.items() if value]
    if asking and not options.model:
        raise UsageError(f"--{asking[0]} is for a diffusion model; add --model FILE.")


def _drawn_by(options: argparse.Namespace) -> str:
    """What a generator draws as it is; "" where that is not known."""
    return prompt_for("cat" if options.generator == MINIATURE_CAT else "person") if options.generator in BUNDLED else ""


def _negative(options: argparse.Namespace, base: MiniatureSettings | None) -> str:
    """The negative prompt; the miniature's own says what its generator draws."""
    drawn = "cat" if options.generator == MINIATURE_CAT else "person"
    return _first(options.negative_prompt, base and prompt_for(drawn), "")


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
        return "the pictures of --targets"
    if kind == ClipDirectional.kind:
        return "--clip, or its weights or texts"
    return f"--{kind}" if kind in TERMS and TERMS[kind].role == "regularizer" else "--distillation"


def _first(*values):
    return next(value for value in values if value is not None)


def _absolute(name: str) -> str:
    return name if name in BUNDLED else str(Path(name).absolute())


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"The scale of an extra prompt is {text!r}; give a number behind its text.") from None


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
