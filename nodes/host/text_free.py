"""Text-free copies of a MODEL of the host: one that is trained, and one that the host loads beside the model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...domain.files import Domain, DomainError, apply_domain, fingerprint, same_base
from ...domain.score import TextFreeScore
from ...domain.text_free import NotTextFree, Removal, require_text_attention
from .compatibility import incompatible
from .families import downscale_of, family_of, native_size, side_multiple
from .score import HostScore, copied_denoiser, dtype_of, unpatched, with_denoiser

try:
    import comfy.model_patcher
    import comfy.sampler_helpers

    _NEEDED = (comfy.model_patcher.ModelPatcher, comfy.sampler_helpers.convert_cond)
except (ImportError, AttributeError) as error:
    raise incompatible(error) from error

_ANOTHER = "a model of another kind"


class HostTextFreeScore(TextFreeScore, HostScore):
    """A HostTextFreeScore is a copy of a MODEL's denoiser, given the empty prompt until that is taken out.

    empty is the CONDITIONING of no text. Raises NotTextFree for models without a cross-attention to their text."""

    def __init__(self, model, empty: list, dtype: torch.dtype = torch.float32):
        require_learnable(model)
        super().__init__(model, comfy.sampler_helpers.convert_cond(empty), dtype)
        self.base = base_of(unpatched(model))
        self.family = family_of(model)

    def domain(self, removals: Sequence[Removal], weights: dict[str, Tensor], about: dict[str, str]) -> Domain:
        """Return the domain of what was learned."""
        pooled = None if self.pooled is None else self.pooled.detach().float().cpu()
        return Domain(tuple(removals), weights, self.family, self.prediction, self.base, pooled, about)


def require_learnable(model) -> None:
    """Raise NotTextFree for a MODEL that learns no domain: only the host's UNet of Stable Diffusion, for still images made
    from text alone, is known to be whole without its text."""
    denoiser, config = model.model.diffusion_model, model.model.model_config.unet_config
    channels = model.get_model_object("latent_format").latent_channels
    if (
        type(denoiser).__name__ != "UNetModel"
        or config.get("use_temporal_attention")
        or config.get("in_channels") != channels
    ):
        raise NotTextFree(
            "This MODEL learns no domain: it is not one of Stable Diffusion 1.x, 2.x or SDXL that makes pictures from text "
            "alone. Load one of these."
        )
    require_text_attention(denoiser)


def base_of(model) -> str:
    """Return the fingerprint of a MODEL's denoiser."""
    return fingerprint((name, value) for name, value in model.model.diffusion_model.named_parameters())


def domain_patcher(model, domain: Domain, blend: float = 1.0):
    """Make the model patcher of a domain's copy of a MODEL, which the host loads and frees like any other. Raises
    DomainError for a domain of another model, NotTextFree."""
    require_learnable(model)
    plain, family = unpatched(model), family_of(model)
    if domain.family != family:
        raise DomainError(
            f"This domain was learned with {domain.family or _ANOTHER}, and the MODEL is {family or _ANOTHER}; load the model "
            "that it was learned with."
        )
    denoiser = copied_denoiser(plain, plain.offload_device, dtype_of(model))
    if not same_base(domain.base, base_of(plain)):
        raise DomainError(
            "This domain was learned with another model of the same family, whose weights differ from this MODEL's; load that "
            "model, or learn the domain with this one."
        )
    with torch.inference_mode(False):
        apply_domain(denoiser, domain, blend)
    denoiser.requires_grad_(False)
    return comfy.model_patcher.ModelPatcher(with_denoiser(model, denoiser), model.load_device, model.offload_device)


def blank_conditioning(conditioning: list[dict[str, Any]], domain_pooled: Tensor | None) -> list:
    """Return the CONDITIONING that a text-free copy is given: of the shape of one that the model has, as the host keeps
    it, without areas, hooks and ControlNets; the copy reads no text of it."""
    first = conditioning[0]
    pooled = first.get("pooled_output") if domain_pooled is None else domain_pooled[None]
    more = {} if pooled is None else {"pooled_output": pooled}
    return [[first.get("cross_attn"), more]]


class Pixels:
    """Pixels go to the latents of a MODEL and back, by the VAE that belongs to it."""

    def __init__(self, model, vae):
        self._vae, self._format = vae, model.get_model_object("latent_format")
        self._films = self._format.latent_dimensions == 3
        downscale = downscale_of(vae)
        self.size = native_size(model, downscale)
        # Denoisers of several levels halve the latents, and the halves must fit together again.
        self.multiple = max(side_multiple(model, downscale), 8 * downscale)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images [1, 3, H, W] in [-1, 1] to latents [1, c, h, w]."""
        latents = self._format.process_in(self._vae.encode((images.movedim(1, -1) + 1) / 2))
        return latents.squeeze(2) if self._films else latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images [B, 3, H, W] in [-1, 1] on the CPU."""
        latents = self._format.process_out(latents.unsqueeze(2) if self._films else latents)
        return self._vae.decode(latents).flatten(0, -4)[..., :3].movedim(-1, 1).float().mul(2).sub(1).cpu()


@torch.no_grad()
def empty_prompt(clip) -> list:
    """Encode no text with a CLIP, as CONDITIONING."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(""))
