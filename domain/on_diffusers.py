"""Text-free copies of Stable Diffusion's UNet as diffusers has it, and priors that they guide."""

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..sds.priors.diffusers import DiffusersPrior, ExtraPrompt
from ..sds.priors.ldm_names import exchanged, unet_prefixes
from ..sds.priors.stable_diffusion import StableDiffusion
from ..sds.priors.trainable import UNetScore, copied_unet
from .files import Domain, DomainError, apply_domain, fingerprint, same_base
from .score import TextFreeScore
from .text_free import Removal

DOMAIN = "domain"
"""The name of a domain among the predictions of a prior."""


class TextFreeUNet(TextFreeScore, UNetScore):
    """A TextFreeUNet is a UNet2DConditionModel that reads no text: the empty prompt, until that is taken out."""

    def __init__(self, model: StableDiffusion, denoiser, pooled: Tensor | None = None):
        empty = [encoder.encode("") for encoder in model.texts]
        # What the empty prompt is as a whole, for SDXL.
        pooled = empty[-1][1] if pooled is None else pooled
        super().__init__(model, denoiser, torch.cat([states for states, _ in empty], dim=-1), pooled)

    @classmethod
    def copied(cls, model: StableDiffusion, dtype: torch.dtype = torch.float32) -> "TextFreeUNet":
        """Make a copy of a model's UNet, to take its text out."""
        return cls(model, copied_unet(model, dtype))

    @classmethod
    def of(cls, model: StableDiffusion, domain: Domain, blend: float = 1.0) -> "TextFreeUNet":
        """Make the copy of a model's UNet that a domain says. Raises DomainError for a domain of another model."""
        require_base(model, domain)
        names = {theirs: ours for ours, theirs in unet_prefixes(model.unet).items()}
        denoiser = copy.deepcopy(model.unet)
        apply_domain(denoiser, domain.renamed(lambda name: exchanged(name, names)), blend)
        return cls(model, denoiser.requires_grad_(False).eval(), domain.pooled)

    def domain(self, removals: Sequence[Removal], weights: dict[str, Tensor], about: dict[str, str]) -> Domain:
        """Return the domain of what was learned, in the names of domain files."""
        names, model = unet_prefixes(self._model.unet), self._model
        found = Domain(tuple(removals), weights, model.family, self.prediction, base_of(model), self.pooled, about)
        return found.renamed(lambda name: exchanged(name, names))


class DomainPrior(DiffusersPrior):
    """A DomainPrior is Stable Diffusion guided by prompts and a domain (arXiv 2312.08195):
    eps_u + s_d (eps_d - eps_u) + sum_i s_i (eps_i - eps_u), eps_d from the text-free copy, all others from the untouched
    model. At scale 0, or without a copy, it is the model with its prompts alone."""

    def __init__(
        self,
        model: StableDiffusion,
        prompt: str,
        negative_prompt: str,
        guidance_scale: float,
        copy: TextFreeScore | None,
        domain_scale: float,
        image_size: int | None = None,
        extra_prompts: Sequence[ExtraPrompt] = (),
        view_prompts: Mapping[str, str] | None = None,
    ):
        if DOMAIN in (extra.name for extra in extra_prompts):
            raise ValueError(f"An extra prompt is named {DOMAIN!r}, as the domain is; give it another name.")
        if not math.isfinite(domain_scale):
            raise ValueError(f"The domain scale is {domain_scale}; give a number, 0 to leave the domain out.")
        super().__init__(model, prompt, negative_prompt, guidance_scale, image_size, extra_prompts, view_prompts)
        self.copy = copy
        if copy is not None and domain_scale:
            self.scales[DOMAIN] = domain_scale

    def _predictions(self, z_t: Tensor, t: float, names: Sequence[str]) -> dict[str, Tensor]:
        of_model = [name for name in names if name != DOMAIN]
        found = super()._predictions(z_t, t, of_model) if of_model else {}
        if DOMAIN in names:
            found[DOMAIN] = self.copy.eps(z_t, t)
        return found


def base_of(model: StableDiffusion) -> str:
    """Return the fingerprint of a model's UNet."""
    names = unet_prefixes(model.unet)
    return fingerprint((exchanged(name, names), value) for name, value in model.unet.named_parameters())


def require_base(model: StableDiffusion, domain: Domain) -> None:
    """Raise DomainError where a domain was learned with another model."""
    if domain.family != model.family:
        raise DomainError(
            f"This domain was learned with {domain.family or 'a model of another kind'}, and this model is "
            f"{model.family or 'of another kind'}; load the model that it was learned with."
        )
    if not same_base(domain.base, base_of(model)):
        raise DomainError(
            f"This domain was learned with another {domain.family or 'model of this kind'}, whose weights differ from this "
            "one's; load that model, or learn the domain with this one."
        )
