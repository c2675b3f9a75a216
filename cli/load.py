"""What a plan names, loaded."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .plan import Plan
from .terminal import MINIATURE, UsageError, device_named, load_generator


@dataclass(frozen=True)
class Parts:
    """Parts are what a plan names, loaded."""

    generator: Any
    prior: Any
    settings: Any  # the plan's, with the generator's crop
    terms: list
    layers: Any
    metadata: dict[str, str]  # of the generators to be written


def load_parts(plan: Plan) -> Parts:
    """Load what the plan names. Raises UsageError, CheckpointError, ValueError, ImportError or OSError."""
    from ..sds import require_trainable, training_metadata

    terms, layers = _terms(plan), _layers(plan)
    device = device_named(plan.device)
    generator, source_metadata, crop = load_generator(plan.generator, device)
    settings = dataclasses.replace(plan.settings, crop=crop)
    require_trainable(generator, settings, terms, layers)  # said before more is loaded
    metadata = training_metadata(
        settings,
        terms,
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
    return Parts(generator, _prior(plan, device), settings, terms, layers, metadata)


def _terms(plan: Plan) -> list:
    from ..miniature.perceptual import load_features
    from ..sds import TERMS

    terms = [TERMS[plan.distillation]()]
    for kind, weight in plan.weights.items():
        if weight != 0:
            compares = any(field.name == "features" for field in dataclasses.fields(TERMS[kind]))
            features = {"features": load_features(plan.lpips_features)} if compares else {}
            terms.append(TERMS[kind](weight, **features))
    return terms


def _layers(plan: Plan):
    from ..sds import AllLayers, ManualLayers, TopKLayers

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

    from ..miniature import WEIGHTS
    from ..sds.priors.diffusers import DiffusersPrior, ExtraPrompt, StableDiffusion

    folder = WEIGHTS / "diffusion" if plan.model == MINIATURE else Path(plan.model)
    model = StableDiffusion.load(folder, device, torch.float16 if plan.half else torch.float32)
    extra = [ExtraPrompt(text, text, scale) for text, scale in plan.extra_prompts]
    return DiffusersPrior(model, plan.prompt, plan.negative_prompt, plan.guidance_scale, plan.image_size, extra)
