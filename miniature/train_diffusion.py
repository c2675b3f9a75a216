"""Stage 3: train the text encoder and the UNet of the small Stable Diffusion on captioned renders of all domains."""

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from ..sds.priors.diffusers import StableDiffusion
from ..training.draws import MicroStep
from ..training.phases import Average, Outcome, Phase, gradients_of
from .factors import Factors, captions, sample_factors
from .renderer import render
from .stages import run_stage, save_weights, seeded
from .tokenizer import LENGTH, learned_tokenizer

STEPS, BATCH = 4500, 32
PEAK, PEAK_AGAIN = 6e-4, 4e-4  # learning rates: of the first round, and of further ones
IMAGES = 36_000  # renders whose latents are kept; every step writes them new captions
CAPTION_DROPOUT = 0.1
_SEED = 103

log = logging.getLogger(__name__)

SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
    "clip_sample": False,
    "steps_offset": 1,
}


def new_unet():
    """Make an untrained UNet2DConditionModel of the SD 1.x architecture for latents [4, 16, 16]."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,  # the number of heads, in SD 1.x configurations
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )


def new_text_encoder(vocabulary: int):
    """Make an untrained CLIP text encoder of width 128."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=LENGTH, hidden_act="quick_gelu", projection_dim=128,
            bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1,
        )
    )  # fmt: skip


def run(folder: Path, weights: Path, steps: int = STEPS, start: Path | None = None) -> None:
    """Train from scratch, or go on from the models, tokenizer and autoencoder of the weights in `start`."""
    torch.manual_seed(_SEED)
    model_folder = weights / "diffusion"
    if start is None:
        tokenizer = learned_tokenizer(folder / "tokenizer")
        parts = {"unet": new_unet(), "text": new_text_encoder(len(tokenizer))}
    else:
        model = StableDiffusion.load(start / "diffusion")
        tokenizer, parts = model.tokenizer, {"unet": model.unet, "text": model.text_encoder}
    factors, latents = _latents(folder, (start or weights) / "diffusion" / "vae")
    parts = torch.nn.ModuleDict(parts).requires_grad_(True).train()
    average = Average.of(parts, lambda step: min(0.998, (1 + step) / (10 + step)))
    optimizer = torch.optim.AdamW(parts.parameters(), betas=(0.9, 0.99), weight_decay=1e-2)

    def compute(micro_steps: Sequence[MicroStep]) -> Outcome:
        random = seeded(_SEED, micro_steps[0].step, *([] if start is None else [steps]))
        rows = torch.randint(len(latents), [BATCH], generator=random)
        lines = captions(factors[rows], random)
        dropped = torch.rand(BATCH, generator=random) < CAPTION_DROPOUT
        lines = ["" if drop else line for line, drop in zip(lines, dropped, strict=True)]
        tokens = tokenizer(
            lines, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.autocast("cpu", torch.bfloat16):
            states = parts["text"](tokens).last_hidden_state
        loss = noise_loss(parts["unet"], latents[rows], states, random)
        return Outcome(gradients_of(loss, parts.parameters(), max_norm=1.0), {"noise": loss.item()})

    def rate(step: int) -> float:
        return (PEAK if start is None else PEAK_AGAIN) * _learning_rate(step, steps)

    run_stage(folder, [Phase("diffusion", parts, optimizer, compute, rate, average=average)], steps)
    export(average.module, model_folder)
    if start is None:
        shutil.copytree(folder / "tokenizer", model_folder / "tokenizer", dirs_exist_ok=True)


def noise_loss(unet, latents: torch.Tensor, states: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Return the mean squared error of the noise that a UNet sees in latents [B, 4, 16, 16] at random timesteps, given
    the text encoder's states [B, tokens, 128]."""
    betas = torch.linspace(
        SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5, 1000, dtype=torch.float64
    ).square()
    t = torch.randint(1000, [len(latents)], generator=random)
    noise = torch.randn(latents.shape, generator=random)
    signal = (1 - betas).cumprod(0).float()[t][:, None, None, None]
    noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
    with torch.autocast("cpu", torch.bfloat16):
        predicted = unet(noisy, t, states).sample
    return F.mse_loss(predicted.float(), noise)


def _learning_rate(step: int, steps: int) -> float:
    """Factor of the learning rate: a short rise, level for a quarter, a cosine to a fiftieth."""
    falling = math.pi * max(0.0, (4 * step / steps - 1) / 3)
    return min(1.0, (step + 1) / 200) * (0.51 + 0.49 * math.cos(falling))


@torch.no_grad()
def encoded(vae, factors: Factors, draw: Callable[[Factors], torch.Tensor] = render) -> torch.Tensor:
    """Return the scaled latents [N, 4, 16, 16] of portraits that `draw` renders."""
    chunks = []
    for start in range(0, len(factors), 100):
        chunks.append(vae.encode(draw(factors[slice(start, start + 100)])).latent_dist.mode())
        if start % 6000 == 0:
            log.info("encoded %d of %d renders", start, len(factors))
    return torch.cat(chunks) * vae.config.scaling_factor


def _latents(folder: Path, vae_folder: Path):
    """The factors of IMAGES portraits and their scaled latents [IMAGES, 4, 16, 16], encoded once."""
    from diffusers import AutoencoderKL

    factors = sample_factors(IMAGES, seeded(_SEED))
    weights = (vae_folder / "diffusion_pytorch_model.safetensors").read_bytes()
    path = folder / f"latents-{hashlib.sha256(weights).hexdigest()[:12]}.pt"
    if not path.exists():
        vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32, local_files_only=True)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(encoded(vae, factors), path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    return factors, torch.load(path, weights_only=True)


def export(models, folder: Path) -> None:
    """Write UNet, text encoder, scheduler and index in the layout of diffusers."""
    for name, module, file in (
        ("unet", models["unet"], "diffusion_pytorch_model"),
        ("text_encoder", models["text"], "model"),
    ):
        save_weights(module, folder / name / f"{file}.safetensors")
        config = dict(module.config.items()) if name == "unet" else module.config.to_diff_dict()
        config = {
            key: value
            for key, value in config.items()
            if not key.startswith("_") and key not in ("dtype", "transformers_version")
        }
        kind = {"_class_name": "UNet2DConditionModel"} if name == "unet" else {"architectures": ["CLIPTextModel"]}
        _write_json(folder / name / "config.json", {**kind, **config})
    _write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    _write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "vae": ["diffusers", "AutoencoderKL"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", "DDPMScheduler"],
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
        },
    )


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
