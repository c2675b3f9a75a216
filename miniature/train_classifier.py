"""Stage 1: train the classifier on renders and on damaged copies of them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from ..training.draws import MicroStep
from ..training.phases import Outcome, Phase, gradients_of
from .classifier import Classifier
from .damage import damaged
from .factors import DOMAINS, Factors, sample_factors
from .renderer import render
from .stages import one_cycle, run_stage, save_weights, seeded

STEPS, BATCH = 3000, 64
_SEED = 101


def run(folder: Path, weights: Path, steps: int = STEPS) -> None:
    torch.manual_seed(_SEED)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)

    def compute(micro_steps: Sequence[MicroStep]) -> Outcome:
        random = seeded(_SEED, micro_steps[0].step)
        factors = sample_factors(BATCH, random, plain=True)
        images, background, surface = damaged(render(factors), factors, random)
        loss, parts = _loss(model(images), factors, background, surface)
        return Outcome(gradients_of(loss, model.parameters()), parts)

    rate = one_cycle(2e-3, steps + 1)
    run_stage(folder, [Phase("classifier", model, optimizer, compute, rate, buffers=True)], steps)
    save_weights(model, weights / "classifier.safetensors", {"width": 32})


def _loss(seen, factors: Factors, background, surface):
    haired = torch.tensor([DOMAINS.index(name) for name in ("person", "zombie", "doll")])
    with_hair = torch.isin(factors.domain, haired)
    pose = torch.stack([factors.tilt / 0.26, factors.yaw], 1)
    face = torch.stack([(factors.eye_size - 1) / 0.25, factors.smile, factors.mouth_open], 1)
    parts = {
        "domain": F.cross_entropy(seen.domain, factors.domain),
        "hair": 0.5 * F.cross_entropy(seen.hair[with_hair], factors.hair[with_hair]),
        "accessory": 0.5 * F.cross_entropy(seen.accessory, factors.accessory),
        "background": 20 * F.mse_loss(seen.background, background),
        "surface": 10 * F.mse_loss(seen.surface, surface),
        "position": 40 * F.mse_loss(seen.position, torch.stack([factors.x, factors.y], 1)),
        "size": 20 * F.mse_loss(seen.size[:, 0], factors.size),
        "pose": F.mse_loss(seen.pose * torch.tensor([1 / 0.26, 1.0]), pose),
        "light": F.mse_loss(seen.light[:, 0], factors.light),
        "face": 0.5 * F.mse_loss((seen.face - torch.tensor([1.0, 0, 0])) * torch.tensor([4.0, 1, 1]), face),
    }
    return sum(parts.values()), {name: value.item() for name, value in parts.items()}
