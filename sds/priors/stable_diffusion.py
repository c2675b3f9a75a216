"""Stable Diffusion 1.x, 2.x and SDXL from files: the parts that a prior asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .embeddings import Embedding, Embeddings
from .folders import read_folder
from .ldm_names import FAMILIES
from .lora import LoRA, apply_loras, load_loras
from .single_files import read_single_file
from .text_encoders import TextEncoder
from .vaes import read_vae

PREDICTIONS = ("epsilon", "v_prediction")
"""What a model predicts of z_t: the noise, or the velocity alpha eps - sigma z."""


@dataclass(frozen=True)
class StableDiffusion:
    """StableDiffusion holds the parts of a latent diffusion model of the Stable Diffusion family, frozen, in eval mode,
    under the names of diffusers' pipelines. SDXL has two text encoders."""

    vae: Any  # diffusers AutoencoderKL
    unet: Any  # diffusers UNet2DConditionModel
    text_encoder: Any  # transformers CLIPTextModel
    tokenizer: Any  # transformers CLIPTokenizer
    scheduler: Any  # any diffusers scheduler with alphas_cumprod
    device: torch.device
    text_encoder_2: Any = None  # transformers CLIPTextModelWithProjection
    tokenizer_2: Any = None
    text_layer: int = -1  # the layer of a single text encoder that is read; -1: the last one
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)  # by the names that prompts call

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        decoder: bool = False,
        prediction: str | None = None,
        loras: Sequence[LoRA] = (),
        vae: str | Path | None = None,
        embeddings: Sequence[str | Path] = (),
    ) -> "StableDiffusion":
        """Read a checkpoint in one safetensors file, or a folder in the layout of diffusers (model_index.json, vae/,
        unet/, ...) with weights as safetensors. Nothing is fetched, and no weight is made up.

        dtype is the UNet's; the encoder, which gradients pass through and which overflows in half precision, and the
        text encoders, which stay on the CPU, are float32. The VAE's decoder is left out unless asked for: training
        needs none. `prediction` is one of PREDICTIONS; None takes what the model says of itself. `loras` are added to
        the weights in their order. `vae` is a file or folder with an autoencoder that takes the place of the model's, and
        `embeddings` are files of textual inversion, which prompts call as in ComfyUI, "embedding:name". Raises ImportError without the extra, FileNotFoundError and ValueError with a
        sentence that names the file and the part."""
        path, device, loaded = Path(path), torch.device(device), load_loras(loras)
        named = Embeddings([Path(file) for file in embeddings])
        if path.is_file():
            parts = read_single_file(path, dtype, prediction)
        elif path.exists() or not path.suffix:
            parts = read_folder(path, dtype, prediction)
        else:
            raise FileNotFoundError(f"There is no file {path}; check the name and the folder.")
        if vae is not None:
            parts["vae"] = read_vae(Path(vae), parts["vae"])
        model = cls(**parts, device=device, embeddings=named)
        for embedding in named.values():
            model._require_readable(embedding)
        apply_loras(loaded, model.unet, [text.model for text in model.texts], model.family)
        if not decoder:
            for part in {"decoder", "post_quant_conv"} & {name for name, _ in model.vae.named_children()}:
                delattr(model.vae, part)
        model.vae.to(device)
        model.unet.to(device)
        return model

    @property
    def texts(self) -> tuple[TextEncoder, ...]:
        """Return the text encoders, as the UNet reads them: SDXL's one layer early and without the last norm."""
        if self.text_encoder_2 is None:
            key = "clip_h" if self.tokenizer.pad_token == "!" else "clip_l"  # as OpenCLIP's pad
            return (TextEncoder(self.text_encoder, self.tokenizer, self.text_layer, True, self.embeddings, key),)
        both = (self.text_encoder, self.tokenizer, "clip_l"), (self.text_encoder_2, self.tokenizer_2, "clip_g")
        return tuple(
            TextEncoder(encoder, tokenizer, -2, False, self.embeddings, key) for encoder, tokenizer, key in both
        )

    def _require_readable(self, embedding: Embedding) -> None:
        if not any(text.reads(embedding) for text in self.texts):
            widths = " and ".join(str(text.width) for text in self.texts)
            raise ValueError(
                f"{embedding.path} has vectors of another width than the tokens of the model ({widths}): it was made for "
                "another family of models."
            )

    @property
    def family(self) -> str:
        """Return what people call models of its kind; "" for kinds of its own, such as the miniature."""
        return FAMILIES.get(self.unet.config.cross_attention_dim, "")


def downscale(model: StableDiffusion) -> int:
    """Return how many pixels, along a side, become one latent."""
    return 2 ** (len(model.vae.config.block_out_channels) - 1)
