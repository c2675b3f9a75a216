"""Stage 1: train the classifier on renders and on damaged copies of them."""

from pathlib import Path

import torch
from torch.nn import functional as F

from .classifier import Classifier
from .damage import damaged
from .factors import DOMAINS, Factors, sample_factors
from .renderer import render
from .resumable import save_weights, seeded, train

STEPS, BATCH = 3000, 64
_SEED = 101


def run(folder: Path, weights: Path, steps: int = STEPS) -> None:
    torch.manual_seed(_SEED)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)

    def step(i):
        random = seeded(_SEED, i)
        factors = sample_factors(BATCH, random)
        images, background, surface = damaged(render(factors), factors, random)
        loss, parts = _loss(model(images), factors, background, surface)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return parts

    train(folder, {"model": model, "optimizer": optimizer, "schedule": schedule}, step, steps)
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
    return sum(parts.values()), {name: value.detach() for name, value in parts.items()}
