"""Plans, from the options of the command line."""

import argparse
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..miniature.settings import SDS_SETTINGS, MiniatureSettings, prompt_for
from ..sds import DISTILLATIONS, TERMS, TargetPictures, TargetSettings, TrainSettings
from ..sds.priors.lora import LoRA
from ..sds.terms.lpips import LITTLE, usual_in_3d
from ..sds.views import VIEWS
from ..training.settings import Declared, declared_settings, option_of
from .arguments import DOMAIN_SCALE
from .plan import Plan
from .targets import TargetsPlan
from .terminal import BUNDLED, MINIATURE, MINIATURE_CAT, UsageError


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
    if making and getattr(options, f"{OF_TARGETS}refresh") is None:
        asks = bool(distillation) or any(weights[kind] and TERMS[kind].on != "image" for kind in weights)
        making = dataclasses.replace(making, refresh=0) if asks else making  # possible without other terms alone
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


def _first(*values):
    return next(value for value in values if value is not None)


def _absolute(name: str) -> str:
    return name if name in BUNDLED else str(Path(name).absolute())


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"The scale of an extra prompt is {text!r}; give a number behind its text.") from None
