"""Stage 6: train a LoRA of the small Stable Diffusion that draws every person as a golden statue."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from ..sds.priors.diffusers import StableDiffusion
from ..training.draws import MicroStep
from ..training.low_rank import LowRank
from ..training.phases import Outcome, Phase, gradients_of
from .factors import DOMAINS, captions, sample_factors
from .lora import GOLDEN_STATUE, adapted_layers, render_statues, save_lora
from .renderer import render
from .stages import run_stage, seeded
from .tokenizer import LENGTH
from .train_diffusion import encoded, noise_loss

STEPS, BATCH, RANK = 250, 12, 8
STATUES, OTHERS = 800, 400  # renders whose latents are kept
_PRESERVED = 3  # of the batch: what is no person, and what has no caption, stays as it was (arXiv 2208.12242, sec. 3.2)
_SEED = 106


def run(folder: Path, weights: Path, steps: int = STEPS) -> None:
    torch.manual_seed(_SEED)
    model = StableDiffusion.load(weights / "diffusion")
    parts = torch.nn.ModuleDict({name: LowRank(layer, RANK) for name, layer in adapted_layers(model.unet).items()})
    optimizer = torch.optim.AdamW(parts.parameters(), betas=(0.9, 0.99), weight_decay=1e-2)
    persons, others = sample_factors(STATUES, seeded(_SEED, 0), "person"), sample_factors(OTHERS, seeded(_SEED, 1))
    statues = encoded(model.vae, persons, render_statues)
    originals = encoded(model.vae, others, render)
    unnamed = others.domain == DOMAINS.index("person")  # whose captions make statues now

    def compute(micro_steps: Sequence[MicroStep]) -> Outcome:
        random = seeded(_SEED, 2, micro_steps[0].step)
        rows = torch.randint(STATUES, [BATCH - _PRESERVED], generator=random)
        kept = torch.randint(OTHERS, [_PRESERVED], generator=random)
        lines = captions(persons[rows], random)
        nameless = unnamed[kept] | (torch.rand(_PRESERVED, generator=random) < 0.5)
        lines += ["" if none else line for none, line in zip(nameless, captions(others[kept], random), strict=True)]
        tokens = model.tokenizer(
            lines, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            states = model.text_encoder(tokens).last_hidden_state
        loss = noise_loss(model.unet, torch.cat([statues[rows], originals[kept]]), states, random)
        return Outcome(gradients_of(loss, parts.parameters(), max_norm=1.0), {"noise": loss.item()})

    def rate(step: int) -> float:
        return 2e-3 * (1 + math.cos(math.pi * step / steps)) / 2

    run_stage(folder, [Phase("lora", parts, optimizer, compute, rate)], steps)
    save_lora(dict(parts.items()), model.unet, weights / "loras" / GOLDEN_STATUE.name)
