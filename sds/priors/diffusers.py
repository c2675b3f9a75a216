"""A prior on the diffusers library: Stable Diffusion 1.x and 2.x from a folder on disk (extra `headless`)."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from .. import equations
from ..prior import Prior, timestep_index
from ..session import Session

logger = logging.getLogger(__name__)

_COMPONENTS = {
    "vae": "AutoencoderKL",
    "unet": "UNet2DConditionModel",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
}


@dataclass(frozen=True)
class StableDiffusion:
    """StableDiffusion holds the parts of a latent diffusion model of the Stable Diffusion 1.x
    family, frozen, in eval mode."""

    vae: Any  # diffusers AutoencoderKL
    unet: Any  # diffusers UNet2DConditionModel
    text_encoder: Any  # transformers CLIPTextModel
    tokenizer: Any  # transformers CLIPTokenizer
    scheduler: Any  # any diffusers scheduler with alphas_cumprod
    device: torch.device

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        decoder: bool = False,
    ) -> "StableDiffusion":
        """Read a folder in the layout of diffusers (model_index.json, vae/, unet/, ...): safetensors only.

        dtype is the UNet's; the encoder, which gradients pass through, and the text encoder stay float32. The VAE's
        decoder is left out unless asked for: training needs none. Raises ImportError without the extra,
        FileNotFoundError and ValueError with a sentence for folders that do not fit."""
        try:
            from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
            from transformers import CLIPTextModel, CLIPTokenizer
        except ImportError as error:
            raise ImportError(
                "Reading a diffusion model from a folder needs diffusers and transformers; "
                'install this package with its extra "headless".'
            ) from error
        folder = Path(folder)
        _check_family(folder)
        device = torch.device(device)

        def read(part: str, kind: type, **options) -> Any:
            try:
                return kind.from_pretrained(folder / part, local_files_only=True, **options)
            except Exception as error:
                raise ValueError(
                    f"Cannot read {folder / part}: {error} Give a complete model folder with weights as safetensors."
                ) from error

        def model(part: str, kind: type, **options) -> Any:
            found = read(part, kind, use_safetensors=True, **options).eval().requires_grad_(False)
            if part == "vae" and not decoder:
                del found.decoder, found.post_quant_conv
            return found.to(device)

        return cls(
            vae=model("vae", AutoencoderKL, torch_dtype=torch.float32),
            unet=model("unet", UNet2DConditionModel, torch_dtype=dtype),
            text_encoder=model("text_encoder", CLIPTextModel).float(),
            tokenizer=read("tokenizer", CLIPTokenizer),
            scheduler=read("scheduler", DDPMScheduler),
            device=device,
        )


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

    All conditions of all rows go through the UNet in one call. Prompts beyond the text encoder's 77 tokens are cut."""

    def __init__(
        self,
        model: StableDiffusion,
        prompt: str,
        negative_prompt: str = "",
        guidance_scale: float = 100.0,
        image_size: int | None = None,  # pixels; None: the size that the model was made for
        extra_prompts: Sequence[ExtraPrompt] = (),
    ) -> None:
        self.scales = {"text": guidance_scale, **{extra.name: extra.scale for extra in extra_prompts}}
        for name, scale in self.scales.items():
            what = "guidance scale" if name == "text" else f"scale of {name!r}"
            if not math.isfinite(scale) or (name == "text" and scale < 0):
                raise ValueError(f"The {what} is {scale}; give a number, 0 or more for the prompt itself.")
        if len(self.scales) <= len(extra_prompts) or "unconditional" in self.scales:
            raise ValueError("Two predictions have one name; give each extra prompt a name of its own.")
        self.model = model
        self.device = model.device
        self.session = _OnDevice(model.device)
        self.image_size = _image_size(model, image_size)
        self._prediction_type = _prediction_type(model)
        self._abar = model.scheduler.alphas_cumprod.double().cpu()
        # A table with zero terminal signal ends where alpha is 0; that timestep is kept out.
        usable = ((self._abar > 0) & (self._abar < 1)).nonzero().flatten().tolist()
        self._first, self._last = usable[0], usable[-1]
        texts = [negative_prompt, prompt, *(extra.text for extra in extra_prompts)]
        self._embeddings = torch.stack([self._embed(text) for text in texts]).to(model.unet.dtype)

    has_conditions = True

    def schedule(self, t: float) -> tuple[float, float]:
        abar = self._abar[self._index(t)].item()
        return math.sqrt(abar), math.sqrt(1 - abar)

    def encode(self, images: Tensor, recompute: bool = False) -> Tensor:
        vae = self.model.vae
        if recompute != vae.is_gradient_checkpointing:
            (vae.enable_gradient_checkpointing if recompute else vae.disable_gradient_checkpointing)()
        latents = vae.encode(images).latent_dist.mode()
        return (latents - (getattr(vae.config, "shift_factor", None) or 0.0)) * vae.config.scaling_factor

    def guided(self, z_t: Tensor, t: float, scaling: float = 1.0) -> Tensor:
        return self.guided_and_conditions(z_t, t, scaling)[0]

    @torch.no_grad()
    def guided_and_conditions(self, z_t: Tensor, t: float, scaling: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        unet, names = self.model.unet, ["unconditional", *self.scales]
        rows = torch.cat([z_t] * len(names))  # as z_t lies in memory, on which the rounding depends
        texts = repeat(self._embeddings, "condition token width -> (condition batch) token width", batch=len(z_t))
        index = torch.tensor(self._index(t), device=self.device)
        prediction = unet(rows.to(unet.dtype), index, encoder_hidden_states=texts).sample.float()
        if self._prediction_type == "v_prediction":
            prediction = equations.eps_from_velocity(rows, prediction, *self.schedule(t))
        by_condition = rearrange(prediction, "(condition batch) ... -> condition batch ...", condition=len(names))
        conditions = dict(zip(names, by_condition, strict=True))
        scales = {name: scale * scaling for name, scale in self.scales.items()}
        return equations.guide(conditions, scales), conditions

    def _index(self, t: float) -> int:
        return min(max(timestep_index(t, len(self._abar)), self._first), self._last)

    @torch.no_grad()
    def _embed(self, text: str) -> Tensor:
        """The text encoder's last hidden state [tokens, width], after its final layer norm."""
        length = self.model.text_encoder.config.max_position_embeddings
        tokenizer = self.model.tokenizer
        used = len(tokenizer(text, truncation=False, verbose=False).input_ids)
        if used > length:
            logger.warning("The prompt has %d tokens and is cut to %d: %s", used, length, text)
        tokens = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return self.model.text_encoder(tokens.input_ids.to(self.device)).last_hidden_state[0]


def _check_family(folder: Path) -> None:
    index_path = folder / "model_index.json"
    if not index_path.is_file():
        raise FileNotFoundError(
            f"{folder} is not a diffusion model in the layout of diffusers: it has no model_index.json. "
            "Give the folder that holds unet, vae, text_encoder, tokenizer and scheduler."
        )
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{index_path} is not valid JSON ({error}); get a complete copy of the model.") from error
    found = {part: (index.get(part) or [None, None])[-1] for part in _COMPONENTS}
    found["tokenizer"] = (found["tokenizer"] or "").removesuffix("Fast")
    unfit = [f"{part} is {found[part] or 'missing'}" for part, kind in _COMPONENTS.items() if found[part] != kind]
    extra = [f"it has a {part}" for part in ("text_encoder_2", "transformer") if (index.get(part) or [None])[-1]]
    if unfit or extra:
        raise ValueError(
            f"{folder} holds a {index.get('_class_name', 'model of an unknown kind')}, which is of another family "
            f"({'; '.join(unfit + extra)}). Give a Stable Diffusion 1.x or 2.x model."
        )


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
    downscale = 2 ** (len(model.vae.config.block_out_channels) - 1)
    size = wanted or latent_size * downscale
    # The UNet halves the latents too, and its halves must fit together again.
    multiple = downscale * 2 ** (len(model.unet.config.block_out_channels) - 1)
    if size % multiple:
        raise ValueError(f"The image size is {size}; give a multiple of {multiple} pixels for this model.")
    return size


def _prediction_type(model: StableDiffusion) -> str:
    kind = model.scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(f"The model predicts {kind!r}; give one that predicts epsilon or v_prediction.")
    return kind
