"""What a plan names, loaded."""

import argparse
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..sds.priors.lora import LoRA
from ..training.digests import file_digest, tensors_digest, weights_digest
from .plan import Plan
from .planning import given_on_model
from .targets import TargetsPlan
from .terminal import MINIATURE, UsageError, device_named, load_generator


@dataclass(frozen=True)
class Parts:
    """Parts are what a plan names, loaded."""

    generator: Any
    prior: Any
    settings: Any  # the plan's, with the generator's crop
    terms: list  # without the targets, which may have to be made first
    layers: Any
    editor: Any  # what makes targets; None: nothing does
    digests: dict[str, str]  # of what lies in files under names that a plan holds, by what people call it
    describe: Callable[[list], dict[str, str]]  # the terms, for the files of generators
    adversarial: float = 0.0  # the plan's
    targets: Any = None  # those that the plan names; None: none, or they have to be made first

    @property
    def metadata(self) -> dict[str, str]:
        """Return what stands in the files of the generators that come of it."""
        return self.describe(self.terms)

    def with_targets(self, targets) -> "Parts":
        """Return the parts with targets to train towards, and without a diffusion model where none is left to ask."""
        from ..sds import TargetPictures

        terms = [TargetPictures(targets=targets, adversarial=self.adversarial), *self.terms]
        prior = _of_pictures(self.generator, self.settings, terms, self.prior.device) or self.prior
        return dataclasses.replace(self, terms=terms, prior=prior, editor=None)


def load_parts(plan: Plan) -> Parts:
    """Load what the plan names. Raises UsageError, CheckpointError, TargetsError, ValueError, ImportError or OSError."""
    import torch

    from ..sds import ScoreDistillation, TargetsFolder, require_trainable, training_metadata
    from ..sds.views import require_views

    device = device_named(plan.device)
    terms, layers = _terms(plan, device), _layers(plan)
    generator, source_metadata, crop = load_generator(plan.generator, device)
    settings = dataclasses.replace(plan.settings, crop=crop)
    targets = TargetsFolder(Path(plan.targets_from)).read(generator) if plan.targets_from else None
    require_views(generator, plan.view_prompts)
    require_trainable(generator, settings, terms or [ScoreDistillation()], layers)  # said before more is loaded
    describe = functools.partial(
        training_metadata,
        settings,
        layers=layers,
        prompt=plan.prompt,
        negative_prompt=plan.negative_prompt,
        guidance=_guidance(plan) if plan.model else {},
        source=Path(plan.generator).name,
        source_metadata=source_metadata,
    )
    domain = named_domain(plan)  # what is wrong with it is said before gigabytes are loaded
    model = load_model(plan, device, decoder=plan.making is not None) if plan.model else None
    digests = {MODEL_WEIGHTS: model_digest(model)} if plan.model else {}
    digests |= {f"the embedding {Path(file).name}": file_digest(Path(file)) for file in plan.embeddings}
    if plan.domain:
        digests["the domain of --domain"] = file_digest(Path(plan.domain))
    for term in terms:
        if isinstance(features := getattr(term, "features", None), torch.nn.Module):
            digests["the network of --lpips-features"] = weights_digest(features)
    prior, editor = _of_pictures(generator, settings, terms, device), None
    if plan.model:
        prior, editor = _priors(plan, model, domain)
    return Parts(generator, prior, settings, terms, layers, editor, digests, describe, plan.adversarial, targets)


def _of_pictures(generator, settings, terms: list, device):
    """The prior of a training that looks at pictures alone; None where a term asks a diffusion model."""
    from ..sds import PicturesPrior, pictures_side

    if any(term.on != "image" for term in terms):
        return None
    return PicturesPrior(pictures_side(terms, generator, settings.crop), device)


MODEL_WEIGHTS = "the weights of --model"


def model_digest(model) -> str:
    """Compute a digest of the weights of a StableDiffusion, and of its schedule: whether two are the same model."""
    import torch

    parts = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    named = [
        (f"{part}.{name}", tensor)
        for part, module in parts.items()
        if isinstance(module, torch.nn.Module)
        for name, tensor in module.state_dict().items()
    ]
    return tensors_digest([*named, ("schedule", model.scheduler.alphas_cumprod)])


def _guidance(plan: Plan) -> dict:
    """How the model guides, for the metadata."""
    return {
        "guidance_scale": plan.guidance_scale,
        "extra_prompts": plan.extra_prompts,
        "image_size": plan.image_size,
        "model": Path(plan.model).name,
        "half": plan.half,
        **_on_model(plan),
        **_edits(plan),
        **({"view_prompts": plan.view_prompts} if plan.view_prompts else {}),
    }


def _on_model(plan: Plan) -> dict:
    """What was put on the model, for the metadata."""
    loras = {"loras": [(Path(file).name, strength) for file, strength in plan.loras]} if plan.loras else {}
    domain = {"domain": Path(plan.domain).name, "domain_scale": plan.domain_scale, "domain_blend": plan.domain_blend}
    vae = {"vae": Path(plan.vae).name} if plan.vae else {}
    embeddings = {"embeddings": [Path(file).name for file in plan.embeddings]} if plan.embeddings else {}
    prediction = {"prediction": plan.prediction} if plan.prediction else {}
    return loras | prediction | vae | embeddings | (domain if plan.domain else {})


def _edits(plan: Plan) -> dict:
    """How targets were made, for the metadata."""
    if plan.making is None:
        return {}
    described = {"target_scale": plan.target_scale, "source_prompt": plan.source_prompt}
    return {**described, "targets": dataclasses.asdict(plan.targets.settings)}


def _terms(plan: Plan, device) -> list:
    from ..miniature.perceptual import load_features
    from ..sds import TERMS

    terms = [TERMS[plan.distillation](**plan.distillation_settings)] if plan.distillation else []
    terms += [_by_clip(name, plan, device) for name in plan.clip]
    for kind, weight in plan.weights.items():
        if weight != 0:
            compares = any(field.name == "features" for field in dataclasses.fields(TERMS[kind]))
            features = {"features": load_features(plan.lpips_features)} if compares else {}
            terms.append(TERMS[kind](weight, **features))
    return terms


def _by_clip(name: str, plan: Plan, device):
    """The term of one CLIP. Raises UsageError, ValueError, ImportError."""
    from ..sds import ClipDirectional
    from .clip import Clip

    if not plan.source_prompt:
        raise UsageError("--clip compares two texts; say what the generator draws as it is with --source-prompt TEXT.")
    clip = Clip(name, device)
    given = clip.vision, clip.embed_text, plan.source_prompt, plan.prompt, plan.clip_weight, plan.clip_templates
    return ClipDirectional.of(*given)


def _layers(plan: Plan):
    from ..sds import AllLayers, ManualLayers, TopKLayers

    choice = plan.layers.strip().lower()
    if choice == "all":
        layers = AllLayers()
    elif choice.startswith("top"):
        if not choice[3:].isdigit():
            raise UsageError(f"--layers {plan.layers} names no number of layers; write for example top3.")
        layers = TopKLayers(int(choice[3:]))
    else:
        layers = ManualLayers.parse(plan.layers)
    if plan.selection_steps is None:
        return layers
    if not isinstance(layers, TopKLayers):
        raise UsageError("--selection-steps is for a choice of the layers that matter most; add --layers top3.")
    return dataclasses.replace(layers, steps=plan.selection_steps)


def _priors(plan: Plan, model, domain):
    """The prior of the training, and what makes targets where they are made."""
    from ..domain.on_diffusers import DomainPrior
    from ..sds.priors.diffusers import ExtraPrompt

    extra = [
        ExtraPrompt(f"extra prompt {number}", text, scale)  # not named by its text, which may come twice
        for number, (text, scale) in enumerate(plan.extra_prompts, start=1)
    ]
    copy = domain_copy(plan, domain, model)
    given = model, plan.prompt, plan.negative_prompt, plan.guidance_scale
    prior = DomainPrior(*given, copy, plan.domain_scale, plan.image_size, extra, plan.view_prompts)
    return prior, plan.targets and plan.targets.editor(model, copy)


def named_domain(plan: Plan | TargetsPlan):
    """Read the domain that a plan names; None where it names none. Raises DomainError, OSError."""
    from ..domain.files import load_domain

    return load_domain(Path(plan.domain)) if plan.domain else None


def domain_copy(plan: Plan | TargetsPlan, domain, model):
    """Make the text-free copy of a model for a domain; None for none. Raises DomainError."""
    from ..domain.on_diffusers import TextFreeUNet

    return None if domain is None else TextFreeUNet.of(model, domain, plan.domain_blend)


def load_model(plan: Plan | TargetsPlan, device, decoder: bool):
    """Load the diffusion model of a plan, from a file or a folder, or the miniature's, with its LoRAs. Raises ValueError,
    ImportError or OSError."""
    from ..sds.priors.embeddings import names_of
    from ..sds.priors.prompts import embeddings_in

    extra = getattr(plan, "extra_prompts", ())
    texts = [*plan.view_prompts.values(), *(text for text, _ in extra)]
    for prompt in (plan.prompt, plan.negative_prompt, plan.source_prompt, *texts):
        embeddings_in(prompt, names_of(map(Path, plan.embeddings)))  # said before gigabytes are loaded
    on_model = {name: getattr(plan, name) for name in ("loras", "prediction", "vae", "embeddings")}
    return _loaded(plan.model, plan.half, device, decoder, **on_model)


def diffusion_model(options: argparse.Namespace, device, decoder: bool):
    """Load the diffusion model of a command's options, likewise."""
    return _loaded(options.model, getattr(options, "half", False), device, decoder, **given_on_model(options))


def _loaded(model: str, half: bool, device, decoder: bool, *, loras, prediction: str, vae: str, embeddings):
    import torch

    from ..miniature import WEIGHTS
    from ..sds.priors.stable_diffusion import StableDiffusion

    path = WEIGHTS / "diffusion" if model == MINIATURE else Path(model)
    loras = [LoRA(Path(file), strength) for file, strength in loras]
    dtype = torch.float16 if half else torch.float32
    return StableDiffusion.load(path, device, dtype, decoder, prediction or None, loras, vae or None, embeddings)
