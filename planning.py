"""What `adapt` was asked for, as a plan, and what a plan names, loaded."""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .miniature.settings import MiniatureSettings
from .runs import Plan
from .terminal import MINIATURE, UsageError, device_named, load_generator

_SETTINGS = (
    "steps",
    "batch_size",
    "accumulation",
    "learning_rate",
    "cooldown",
    "t_min",
    "t_max",
    "timestep_schedule",
    "weighting",
    "guidance_end",
    "seed",
    "class_index",
    "collapse_threshold",
    "checkpoint",
)
"""Options that are settings of the training under the same name."""


@dataclass(frozen=True)
class Parts:
    """What a plan names, loaded."""

    generator: Any
    prior: Any
    settings: Any  # the plan's, with the generator's crop
    regularizers: list
    layers: Any
    metadata: dict[str, str]  # of the generators to be written


def plan_for(options: argparse.Namespace) -> Plan:
    """What was asked for, over the defaults. Raises UsageError or ValueError where an option makes no sense."""
    from .sds import TrainSettings, parse_groups

    on_miniature = options.model == MINIATURE
    base: MiniatureSettings | None = options.miniature_settings if on_miniature else None
    asked = {name: value for name in _SETTINGS if (value := getattr(options, name)) is not None}
    settings = dataclasses.replace(
        base.training if base else TrainSettings(), **asked, also_train=parse_groups(options.also_train)
    )

    if not options.lpips and options.lpips_features != MINIATURE:
        raise UsageError("--lpips-features is the network of --lpips; give that its weight, too.")

    def either(given, of_miniature, usual):
        return given if given is not None else (of_miniature(base) if base else usual)

    return Plan(
        generator=_absolute(options.generator),
        model=_absolute(options.model),
        prompt=options.prompt,
        negative_prompt=either(options.negative_prompt, lambda s: s.negative_prompt, ""),
        extra_prompts=tuple((text, _number(scale)) for text, scale in options.extra_prompt or ()),
        guidance_scale=either(options.guidance_scale, lambda s: s.guidance_scale, 100.0),
        image_size=options.image_size,
        settings=settings,
        directional=either(options.directional, lambda s: s.directional_weight, 1.0),
        reconstruction=either(options.reconstruction, lambda s: s.reconstruction_weight, 0.0),
        lpips=options.lpips or 0.0,
        lpips_features=_absolute(options.lpips_features),
        layers=options.layers or "all",
        selection_steps=options.selection_steps,
        samples=options.samples,
        device=options.device,
        half=options.half,
        save_every=options.save_every,
    )


def _absolute(name: str) -> str:
    return name if name == MINIATURE else str(Path(name).absolute())


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"The scale of an extra prompt is {text!r}; give a number behind its text.") from None


def load_parts(plan: Plan) -> Parts:
    """Load what the plan names. Raises UsageError, CheckpointError, ValueError, ImportError or OSError."""
    from .sds import require_trainable, training_metadata

    regularizers, layers = _regularizers(plan), _layers(plan)
    device = device_named(plan.device)
    generator, source_metadata, crop = load_generator(plan.generator, device)
    settings = dataclasses.replace(plan.settings, crop=crop)
    require_trainable(generator, settings, regularizers, layers)  # said before more is loaded
    metadata = training_metadata(
        settings,
        regularizers,
        layers,
        prompt=plan.prompt,
        negative_prompt=plan.negative_prompt,
        guidance={
            "guidance_scale": plan.guidance_scale,
            "extra_prompts": plan.extra_prompts,
            "image_size": plan.image_size,
            "model": Path(plan.model).name,
            "half": plan.half,
        },
        source=Path(plan.generator).name,
        source_metadata=source_metadata,
    )
    return Parts(generator, _prior(plan, device), settings, regularizers, layers, metadata)


def _regularizers(plan: Plan) -> list:
    from .miniature.perceptual import load_features
    from .sds import DirectionalRegularizer, ReconstructionRegularizer
    from .sds.perceptual import PerceptualRegularizer

    wanted = [DirectionalRegularizer(plan.directional), ReconstructionRegularizer(plan.reconstruction)]
    if plan.lpips != 0:
        wanted.append(PerceptualRegularizer(plan.lpips, load_features(plan.lpips_features)))
    return [regularizer for regularizer in wanted if regularizer.weight != 0]


def _layers(plan: Plan):
    from .sds import AllLayers, ManualLayers, TopKLayers

    if plan.layers == "all":
        layers = AllLayers()
    elif plan.layers.startswith("top"):
        if not plan.layers[3:].isdigit():
            raise UsageError(f"--layers {plan.layers} names no number of layers; write for example top3.")
        layers = TopKLayers(int(plan.layers[3:]))
    else:
        layers = ManualLayers.parse(plan.layers)
    if plan.selection_steps is None:
        return layers
    if not isinstance(layers, TopKLayers):
        raise UsageError("--selection-steps is for a choice of the layers that matter most; add --layers top3.")
    return dataclasses.replace(layers, steps=plan.selection_steps)


def _prior(plan: Plan, device):
    import torch

    from .miniature import WEIGHTS
    from .sds.priors.diffusers import DiffusersPrior, ExtraPrompt, StableDiffusion

    folder = WEIGHTS / "diffusion" if plan.model == MINIATURE else Path(plan.model)
    model = StableDiffusion.load(folder, device, torch.float16 if plan.half else torch.float32)
    extra = [ExtraPrompt(text, text, scale) for text, scale in plan.extra_prompts]
    return DiffusersPrior(model, plan.prompt, plan.negative_prompt, plan.guidance_scale, plan.image_size, extra)
