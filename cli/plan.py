"""What a run is made of, from the options or from its folder."""

import argparse
import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..miniature.settings import MiniatureSettings
from ..sds import DISTILLATIONS, TERMS, TrainSettings
from ..training.settings import declared_settings
from .terminal import MINIATURE, UsageError

_RENAMED = {"checkpoint": "recompute"}  # settings of the first format, and what they are called now


@dataclass(frozen=True)
class Plan:
    """A Plan is everything that a run is made of."""

    generator: str  # a file, or "miniature"
    model: str  # a folder, or "miniature"
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

    def describe(self) -> dict:
        """Return the plan in JSON's types."""
        return dataclasses.asdict(self)


def plan_for(options: argparse.Namespace) -> Plan:
    """Make the plan of what was asked for, over the defaults. Raises UsageError or ValueError where
    an option makes no sense."""
    base: MiniatureSettings | None = options.miniature_settings if options.model == MINIATURE else None
    asked = {
        name: value for name in declared_settings(TrainSettings) if (value := getattr(options, name, None)) is not None
    }
    if not options.lpips and options.lpips_features != MINIATURE:
        raise UsageError("--lpips-features is the network of --lpips; give that its weight, too.")
    weights = {}
    for kind, term in TERMS.items():
        if term.role == "regularizer":
            given, usual = getattr(options, kind), base.weights.get(kind, 0.0) if base else term.usual
            weights[kind] = usual if given is None else given
    return Plan(
        generator=_absolute(options.generator),
        model=_absolute(options.model),
        prompt=options.prompt,
        negative_prompt=_first(options.negative_prompt, base and base.negative_prompt, ""),
        extra_prompts=tuple((text, _number(scale)) for text, scale in options.extra_prompt or ()),
        guidance_scale=_first(options.guidance_scale, base and base.guidance_scale, 100.0),
        image_size=options.image_size,
        settings=dataclasses.replace(base.training if base else TrainSettings(), **asked),
        distillation=options.distillation,
        weights=weights,
        lpips_features=_absolute(options.lpips_features),
        layers=options.layers or "all",
        selection_steps=options.selection_steps,
        samples=options.samples,
        device=options.device,
        half=options.half,
        save_every=options.save_every,
    )


def read_plan(plan: Mapping, first: bool = False) -> Plan:
    """Read a plan from JSON, of the `first` format or of today's. Raises ValueError, LookupError, TypeError or
    AttributeError where it makes no sense."""
    plan = dict(plan)
    settings = {name: value for name, value in plan["settings"].items() if name != "crop"}
    if first:
        settings = {_RENAMED.get(name, name): value for name, value in settings.items()}
        plan["weights"] = {kind: plan.pop(kind) for kind in ("directional", "reconstruction", "lpips")}
        plan["distillation"] = "sds"
    settings["also_train"] = tuple(settings["also_train"])
    plan["settings"] = _checked(TrainSettings(**settings))
    plan["extra_prompts"] = tuple(tuple(pair) for pair in plan["extra_prompts"])
    read = _checked(Plan(**plan))
    if read.save_every < 1 or read.samples < 2:
        raise ValueError("its numbers make no sense")
    known = {kind for kind, term in TERMS.items() if term.role == "regularizer"}
    if read.distillation not in DISTILLATIONS or not read.weights.keys() <= known:
        raise ValueError("it names a term that there is not")
    return read


def _first(*values):
    return next(value for value in values if value is not None)


def _absolute(name: str) -> str:
    return name if name == MINIATURE else str(Path(name).absolute())


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
