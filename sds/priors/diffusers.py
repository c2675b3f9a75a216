"""A prior on the diffusers library: Stable Diffusion 1.x, 2.x and SDXL from files (extra `headless`)."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn.functional import pad

from .. import equations
from ..prior import TEXT, UNCONDITIONAL, Prior
from ..session import Session
from .building import TINY_VAE
from .schedule import DiscreteSchedule
from .stable_diffusion import StableDiffusion, downscale
from .trainable import UNetScore


@dataclass(frozen=True)
class ExtraPrompt:
    """An ExtraPrompt is one more prediction in the sum of the guidance: scale * (eps_of_this_text - eps_u)."""

    name: str
    text: str
    scale: float


class _OnDevice(Session):
    """The session of models that stay on a device."""

    def __init__(self, device: torch.device):
        self.device = device

    def release_memory(self) -> None:
        if self.device.type in ("cuda", "mps", "xpu"):
            getattr(torch, self.device.type).empty_cache()


class DiffusersPrior(Prior):
    """A DiffusersPrior is Stable Diffusion with a prompt, a negative prompt and a guidance scale s:
    eps_u + s (eps_text - eps_u) (eq. 4), and any number of further prompts with scales of their own.

    All conditions of all rows go through the UNet in one call, whatever the lengths of their prompts. Prompts mean what
    they mean in ComfyUI: any length, and weights as in "(word:1.2)"."""

    def __init__(
        self,
        model: StableDiffusion,
        prompt: str,
        negative_prompt: str = "",
        guidance_scale: float = 100.0,
        image_size: int | None = None,  # pixels; None: the size that the model was made for
        extra_prompts: Sequence[ExtraPrompt] = (),
        view_prompts: Mapping[str, str] | None = None,  # by views.VIEWS, in place of the prompt
    ) -> None:
        self.scales = {TEXT: guidance_scale, **{extra.name: extra.scale for extra in extra_prompts}}
        for name, scale in self.scales.items():
            what = "guidance scale" if name == TEXT else f"scale of {name!r}"
            if not math.isfinite(scale) or (name == TEXT and scale < 0):
                raise ValueError(f"The {what} is {scale}; give a number, 0 or more for the prompt itself.")
        if len(self.scales) <= len(extra_prompts) or UNCONDITIONAL in self.scales:
            raise ValueError("Two predictions have one name; give each extra prompt a name of its own.")
        self.model = model
        self.device = model.device
        self.session = _OnDevice(model.device)
        self.image_size = _image_size(model, image_size)
        self._prediction_type = _prediction_type(model)
        self._schedule = DiscreteSchedule(model.scheduler.alphas_cumprod)
        texts = [negative_prompt, prompt, *(extra.text for extra in extra_prompts)]
        self._states, self._pooled = zip(*map(self._encoded, texts), strict=True)  # of each condition
        self._facing = {view: self._encoded(text) for view, text in (view_prompts or {}).items()}
        self.views = tuple(self._facing)

    @property
    def condition_names(self) -> tuple[str, ...]:
        return (UNCONDITIONAL, *self.scales)

    def schedule(self, t: float) -> tuple[float, float]:
        return self._schedule(t)

    def encode(self, images: Tensor, recompute: bool = False) -> Tensor:
        vae = self.model.vae
        # TAESD keeps little; and diffusers, computing it again, forgets that it reads colours in [0, 1].
        recompute = recompute and type(vae).__name__ != TINY_VAE
        if recompute != vae.is_gradient_checkpointing:
            (vae.enable_gradient_checkpointing if recompute else vae.disable_gradient_checkpointing)()
        found = vae.encode(images)
        latents = found.latents if hasattr(found, "latents") else found.latent_dist.mode()  # TAESD has no distribution
        return (latents - (getattr(vae.config, "shift_factor", None) or 0.0)) * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        vae = self.model.vae
        if not hasattr(vae, "decoder"):
            return super().decode(latents)
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return vae.decode(latents / vae.config.scaling_factor + shift).sample

    def facing(self, view: str) -> "DiffusersPrior":
        other, (states, pooled) = copy.copy(self), self._facing[view]
        other._states = (self._states[0], states, *self._states[2:])
        other._pooled = (self._pooled[0], pooled, *self._pooled[2:])
        return other

    @torch.no_grad()
    def guided(self, z_t: Tensor, t: float, scaling: float = 1.0) -> Tensor:
        scales = {name: scale * scaling for name, scale in self.scales.items() if scale * scaling}
        if len(scales) < 2 and set(scales.values()) <= {1.0}:  # what is left is one prediction alone
            (name,) = scales or (UNCONDITIONAL,)
            return self._predictions(z_t, t, [name])[name]
        return equations.guide(self._predictions(z_t, t, [UNCONDITIONAL, *scales]), scales)

    @torch.no_grad()
    def guided_and_conditions(self, z_t: Tensor, t: float, scaling: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        conditions = self._predictions(z_t, t, [UNCONDITIONAL, *self.scales])
        scales = {name: scale * scaling for name, scale in self.scales.items()}
        return equations.guide(conditions, scales), conditions

    def require_trainable_score(self) -> None:
        """Do nothing: the UNet is there, and the prompt."""

    def trainable_score(self, low_rank: bool) -> UNetScore:
        prompt = 1  # behind the negative one
        return UNetScore.copied(self.model, self._states[prompt], self._pooled[prompt], low_rank)

    def _predictions(self, z_t: Tensor, t: float, names: Sequence[str]) -> dict[str, Tensor]:
        unet, known = self.model.unet, [UNCONDITIONAL, *self.scales]
        rows = torch.cat([z_t] * len(names))  # as z_t lies in memory, on which the rounding depends
        texts = self._texts([known.index(name) for name in names], z_t)
        index = torch.tensor(self._schedule.index(t), device=self.device)
        prediction = unet(rows.to(unet.dtype), index, **texts).sample.float()
        if self._prediction_type == "v_prediction":
            prediction = equations.eps_from_velocity(rows, prediction, *self.schedule(t))
        by_condition = rearrange(prediction, "(condition batch) ... -> condition batch ...", condition=len(names))
        return dict(zip(names, by_condition, strict=True))

    def _texts(self, conditions: Sequence[int], z_t: Tensor) -> dict[str, Tensor | dict[str, Tensor]]:
        """Return what the UNet reads beside latents and timestep: these conditions, each for all rows of z_t.

        Shorter prompts are filled up to the longest one with states that the attention does not see."""

        def for_rows(values: Sequence[Tensor]) -> Tensor:
            return repeat(torch.stack(values), "condition ... -> (condition batch) ...", batch=len(z_t))

        states = [self._states[condition] for condition in conditions]
        lengths = [len(of_prompt) for of_prompt in states]
        longest = max(lengths)
        filled = [pad(of_prompt, (0, 0, 0, longest - len(of_prompt))) for of_prompt in states]
        texts = {"encoder_hidden_states": for_rows(filled)}
        if min(lengths) < longest:
            seen = torch.arange(longest, device=self.device)
            texts["encoder_attention_mask"] = for_rows([seen < length for length in lengths])
        if self._pooled[0] is not None:
            # SDXL also reads the prompt as a whole, and the size of the picture: as if neither scaled nor cropped.
            height, width = (side * downscale(self.model) for side in z_t.shape[-2:])
            sizes = torch.tensor([height, width, 0, 0, height, width], device=self.device, dtype=z_t.dtype)
            pooled = for_rows([self._pooled[condition] for condition in conditions])
            texts["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes.expand(len(pooled), -1)}
        return texts

    def _encoded(self, text: str) -> tuple[Tensor, Tensor | None]:
        """Encode a prompt with all text encoders: states [tokens, width] side by side, and what the last one says of it
        as a whole, or None."""
        found = [encoder.encode(text) for encoder in self.model.texts]
        tokens = min(len(states) for states, _ in found)
        states = torch.cat([states[:tokens] for states, _ in found], dim=-1)
        as_unet = {"device": self.device, "dtype": self.model.unet.dtype}
        pooled = found[-1][1]
        return states.to(**as_unet), None if pooled is None else pooled.to(**as_unet)


def side_multiple(model: StableDiffusion) -> int:
    """Return what the sides of pictures have to be multiples of: the UNet halves their latents, and the halves must fit
    together again."""
    return downscale(model) * 2 ** (len(model.unet.config.block_out_channels) - 1)


def _image_size(model: StableDiffusion, wanted: int | None) -> int:
    latent_size = model.unet.config.sample_size
    if not isinstance(latent_size, int):
        raise ValueError(f"The UNet's sample_size is {latent_size}; give a model whose latents are square.")
    latent_channels, unet_channels = model.vae.config.latent_channels, model.unet.config.in_channels
    if latent_channels != unet_channels:
        raise ValueError(
            f"The UNet takes {unet_channels} channels and the VAE makes {latent_channels}: this is an inpainting or "
            "depth model. Give a plain text-to-image model."
        )
    size, multiple = wanted or latent_size * downscale(model), side_multiple(model)
    if size % multiple:
        raise ValueError(f"The image size is {size}; give a multiple of {multiple} pixels for this model.")
    return size


def _prediction_type(model: StableDiffusion) -> str:
    kind = model.scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(f"The model predicts {kind!r}; give one that predicts epsilon or v_prediction.")
    return kind
