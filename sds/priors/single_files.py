"""Stable Diffusion 1.x, 2.x and SDXL from one safetensors file, as checkpoints circulate: UNet, VAE and text encoders in
the layout of the latent diffusion programs.

Descriptions are found from the sizes of the weights, so that nothing is fetched; what no size tells (which noise
schedule, what is predicted) is the family's.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .building import (
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    UNET,
    VAE,
    Renamed,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    renamed,
    require_libraries,
    without_text_model,
)
from .ldm_names import from_open_clip, text_config, unet_config, unet_prefixes, vae_config, vae_prefixes
from .text_encoders import clip_tokenizer
from .weights import WeightFiles

logger = logging.getLogger(__name__)

UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."

OUTSIDE_VAE = ("loss.", "model_ema.")
"""What trainings of autoencoders leave beside them."""

_TEXT_PREFIXES = {  # where a family keeps its first text encoder, and how it is written
    "cond_stage_model.transformer.": "SD1",
    "cond_stage_model.model.": "SD2",
    "conditioner.embedders.0.model.": "SD2",  # or SDXL's refiner, told by its width
    "conditioner.embedders.0.transformer.": "SDXL",
}
_SECOND_PREFIX = "conditioner.embedders.1.model."

_VOCABULARY = 49408
_SCALINGS = {"SD1": 0.18215, "SD2": 0.18215, "SDXL": 0.13025}  # of latents
_SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
_EDM_MARKS = ("edm_mean", "edm_vpred.sigma_max")
# The spread of one bias is larger in the checkpoints of SD 2 that predict velocity; ComfyUI goes by it, too.
_SPREAD_OF_VELOCITY = 0.09
_SPOKEN = {"epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}

_ADVICE = "Give a whole Stable Diffusion 1.x, 2.x or SDXL checkpoint."


def read_single_file(path: Path, dtype: torch.dtype, prediction: str | None = None) -> dict[str, Any]:
    """Read the parts of a model, by the names of diffusers' pipelines, on the CPU; the UNet in a precision, all others
    in float32.

    `prediction` is "epsilon" or "v_prediction"; None finds it out. Raises ImportError without the extra,
    FileNotFoundError and ValueError with a sentence that names the part."""
    weights = WeightFiles(path)
    family, prefix = _family(weights, path)
    require_libraries()
    read = _Reader(weights, path)
    found = prediction or _prediction(weights, family, path)
    unet = read.unet(dtype, sample_size=_latent_size(family, found), upcast_attention=family == "SD2")
    parts = {
        "unet": unet,
        "vae": read.vae(scaling_factor=_SCALINGS[family]),
        "scheduler": build_scheduler(
            {**_SCHEDULE, "prediction_type": found, "rescale_betas_zero_snr": "ztsnr" in weights}, path
        ),
        "tokenizer": clip_tokenizer("!") if family == "SD2" else clip_tokenizer(),
    }
    if family == "SD2":
        parts |= {"text_encoder": read.open_clip(prefix, TEXT_ENCODER), "text_layer": -2}
    else:
        parts["text_encoder"] = read.clip(prefix, TEXT_ENCODER)
    if family == "SDXL":
        parts["text_encoder_2"] = read.open_clip(_SECOND_PREFIX, TEXT_ENCODER_2, projected=True)
        parts["tokenizer_2"] = clip_tokenizer("!")
    width = sum(parts[name].config.hidden_size for name in ("text_encoder", "text_encoder_2") if name in parts)
    if width != unet.config.cross_attention_dim:
        raise ValueError(
            f"The text encoder in {path} gives {width} numbers a token and the UNet reads "
            f"{unet.config.cross_attention_dim}: they are of different families. {_ADVICE}"
        )
    return parts


class _Reader:
    """A _Reader builds the parts that lie in a single file."""

    def __init__(self, weights: WeightFiles, path: Path):
        self.weights, self.path = weights, path

    def unet(self, dtype: torch.dtype, **more: Any) -> Any:
        part = self._part(UNET_PREFIX)
        config = self._found(lambda: unet_config(part), UNET) | more
        return build_unet(config, part, self.path, dtype, unet_prefixes)

    def vae(self, **more: Any) -> Any:
        part = self._part(VAE_PREFIX, left_out=OUTSIDE_VAE)
        config = self._found(lambda: vae_config(part), VAE) | more
        return build_vae(config, part, self.path, vae_prefixes)

    def clip(self, prefix: str, called: str) -> Any:
        part = renamed(self._part(prefix), without_text_model)
        config = self._found(lambda: text_config(part, "quick_gelu", _VOCABULARY - 1), called)
        return self._text_encoder(config, part, called, False)

    def open_clip(self, prefix: str, called: str, projected: bool = False) -> Any:
        part = dict(from_open_clip(self._part(prefix)))
        config = self._found(lambda: text_config(part, "gelu", _VOCABULARY - 1), called)
        return self._text_encoder(config, part, called, projected)

    def _text_encoder(self, config: dict[str, Any], part: Mapping[str, Tensor], called: str, projected: bool) -> Any:
        if config["vocab_size"] != _VOCABULARY:
            raise ValueError(
                f"The {called} in {self.path} knows {config['vocab_size']} tokens instead of {_VOCABULARY}; its tokenizer "
                "is not in the file. Give the model as a folder in the layout of diffusers."
            )
        return build_text_encoder(config, part, called, self.path, projected)

    def _part(self, prefix: str, left_out: tuple[str, ...] = ()) -> Mapping[str, Tensor]:
        """Return the weights under a prefix, without it."""
        skipped = tuple(prefix + begin for begin in left_out)
        names = [name for name in self.weights if name.startswith(prefix) and not name.startswith(skipped)]
        return Renamed(self.weights, {name.removeprefix(prefix): name for name in names})

    def _found(self, config: Callable[[], dict[str, Any]], part: str) -> dict[str, Any]:
        try:
            return config()
        except (LookupError, ValueError, ZeroDivisionError):
            raise ValueError(
                f"The {part} in {self.path} is incomplete, or of another kind than Stable Diffusion's. {_ADVICE}"
            ) from None


def _family(weights: WeightFiles, path: Path) -> tuple[str, str]:
    """Tell SD1, SD2 and SDXL apart, and where the first text encoder is. Raises ValueError for everything else."""
    texts = [prefix for prefix in _TEXT_PREFIXES if any(name.startswith(prefix) for name in weights)]
    missing = [] if texts else [f"no {TEXT_ENCODER}"]
    for part, prefix in ((UNET, UNET_PREFIX + "input_blocks."), (VAE, VAE_PREFIX)):
        if not any(name.startswith(prefix) for name in weights):
            missing.append(f"no {part}")
    if len(missing) == 3 or f"no {UNET}" in missing:
        raise ValueError(f"{path} is {_other_kind(weights)}. {_ADVICE}")
    if missing:
        raise ValueError(f"{path} holds {' and '.join(missing)}. {_ADVICE}")
    if marks := [mark for mark in _EDM_MARKS if mark in weights]:
        raise ValueError(
            f"{path} is trained on EDM's noise levels ({marks[0]}), not on timesteps; use it in ComfyUI, or give a plain "
            "Stable Diffusion 1.x, 2.x or SDXL model."
        )
    family = _TEXT_PREFIXES[texts[-1]]
    conditioned = f"{UNET_PREFIX}label_emb.0.0.weight" in weights
    if conditioned != (family == "SDXL"):
        kind = "SDXL's refiner or an unCLIP model" if conditioned else "no SDXL, though its text encoders are SDXL's"
        raise ValueError(f"{path} is {kind}. {_ADVICE}")
    return family, texts[-1]


def _other_kind(weights: WeightFiles) -> str:
    """Say what a file without the UNet of a checkpoint is."""
    kinds = {
        "a LoRA, which belongs behind --lora": ("lora_", ".lora", "hada_", "lokr_"),
        "a UNet alone": ("down_blocks.", "input_blocks."),
        "a model of another family, such as Flux or SD 3": (
            "double_blocks.",
            "joint_blocks.",
            "single_blocks.",
            "transformer_blocks.",
        ),
        "a VAE alone": ("decoder.up",),
        "a text encoder alone": ("text_model.", "transformer.resblocks.", "encoder.block."),
    }
    for kind, signs in kinds.items():
        if any(sign in name for name in weights for sign in signs):
            return kind
    return "no diffusion model"


def _prediction(weights: WeightFiles, family: str, path: Path) -> str:
    """Find out whether a model predicts noise or velocity: from what the file says of itself, else, for SD 2, from the
    spread of one bias, with a warning that this is a guess."""
    if "v_pred" in weights:
        return "v_prediction"
    if said := _SPOKEN.get(weights.metadata.get("modelspec.prediction_type", "")):
        return said
    if family != "SD2":
        return "epsilon"
    norms = [name for name in weights if _is_last_norm(name)]
    spread = weights[max(norms, key=_block)].float().std(correction=0).item() if norms else 0.0
    found = "v_prediction" if spread > _SPREAD_OF_VELOCITY else "epsilon"
    other = "epsilon" if found == "v_prediction" else "v_prediction"
    logger.warning(
        "%s does not say what it predicts; its weights look like %s. If nothing sensible comes of it, add --prediction %s.",
        path.name,
        found,
        other,
    )
    return found


def _is_last_norm(name: str) -> bool:
    begin, end = f"{UNET_PREFIX}output_blocks.", ".1.transformer_blocks.0.norm1.bias"
    return name.startswith(begin) and name.endswith(end)


def _block(name: str) -> int:
    return int(name.removeprefix(f"{UNET_PREFIX}output_blocks.").split(".")[0])


def _latent_size(family: str, prediction: str) -> int:
    """Return the side in latents of the images that a family was trained on."""
    if family == "SD2":
        return 96 if prediction == "v_prediction" else 64
    return {"SD1": 64, "SDXL": 128}[family]
