"""Stage 4: train the StyleGAN2 of the person domain.

The mapping is trained first, until the factors of a person can be read off w, and then stays. A warm start of the
synthesis regresses the portrait that w spells, at 16, 32 and then 64 pixels, so that the latent space covers every person
there is; a discriminator then makes the pictures sharp (non-saturating loss, lazy R1: arXiv 1912.04958).
"""

import itertools
import logging
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..stylegan import Generator, GeneratorConfig
from .factors import (
    ACCESSORIES,
    COUNT,
    DOMAINS,
    EYE_COLOURS,
    HAIR_COLOURS,
    HAIR_STYLES,
    SURFACES,
    UNIFORMS,
    Factors,
    factors_from_uniform,
)
from .renderer import render
from .resumable import edge_loss, exponential_average, seeded, train

STEPS, BATCH = 6000, 16
# Warm start: up to these steps, pictures of this side in batches of this size; then the discriminator joins.
WARM = ((700, 16, 48), (1700, 32, 32), (5200, 64, 16))
R1_EVERY, R1_GAMMA = 8, 0.5
CONFIG = GeneratorConfig(resolution=64, z_dim=128, w_dim=128, mapping_layers=4, channel_base=3072, channel_max=128)
_SEED = 104
_PERSON = DOMAINS.index("person")

log = logging.getLogger(__name__)


def persons_of(z: Tensor) -> Factors:
    """The person that each latent [B, z_dim] stands for.

    An amount is the rank of one entry of the latent, a choice among k the largest of k entries; skin, hair and eyes lie on
    the line through their palette, at the rank of an entry, and background and clothes are any colour, from three. All of
    it varies as gently as a small mapping can learn."""
    columns, ranks, used = [], [], 0
    for choices in UNIFORMS:
        entries = z[:, used : used + max(choices, 1)]
        rank = torch.special.ndtr(entries).clamp(0, 1 - 1e-6)
        if choices:
            columns.append((entries.argmax(1) + 0.5) / choices)
            ranks.append(rank)
        else:
            columns.append(rank[:, 0])
        used += entries.shape[1]
    factors = factors_from_uniform(torch.stack(columns, 1), torch.full([len(z)], _PERSON))
    background, surface, _, hair, eyes, _, clothes = ranks
    return replace(
        factors,
        background=0.15 + 0.75 * background[:, :3],
        surface=_along(SURFACES["person"], surface[:, 0]),
        hair_colour=_along(HAIR_COLOURS, hair[:, 0]),
        eye_colour=_along(EYE_COLOURS, eyes[:, 0]),
        clothes=0.15 + 0.75 * clothes[:, :3],
    )


def _along(palette: dict, position: Tensor) -> Tensor:
    """Colours [B, 3] at positions [B] in [0, 1) of the line through a palette."""
    table = torch.tensor(list(palette.values()))
    place = position * (len(table) - 1)
    start = place.long()
    return torch.lerp(table[start], table[start + 1], (place - start)[:, None])


def _train_mapping(mapping, head: nn.Linear, steps: int = 8000) -> None:
    """Train the mapping until the linear `head` reads the factors off w: seconds, where learning the same through the
    pictures takes hours."""
    # The learning rate multiplier of 0.01 is made for runs a thousand times as long.
    optimizer = torch.optim.Adam(
        [{"params": mapping.parameters(), "lr": 0.2}, {"params": head.parameters(), "lr": 2e-3}]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: max(0.02, 1 - i / steps))
    for i in range(steps):
        z = torch.randn(256, CONFIG.z_dim, generator=seeded(_SEED, 1, i))
        w = mapping(z)[:, 0]
        unit = (w.mean(0).square() + (w.std(0) - 1).square()).mean()
        error = F.mse_loss(head(w), _described(persons_of(z)))
        optimizer.zero_grad()
        (error + 0.1 * unit).backward()
        optimizer.step()
        schedule.step()
        if i % 2000 == 0 or i == steps - 1:
            log.info("mapping %d/%d: %.3f of the factors' variance unexplained", i, steps, error.detach())


_AMOUNTS = {  # mean and about the standard deviation of each
    "x": (0, 0.13), "y": (0, 0.08), "size": (0.93, 0.09), "tilt": (0, 0.15), "yaw": (0, 0.58), "light": (0, 0.58),
    "eye_size": (1.02, 0.13), "ear_size": (1.02, 0.13), "smile": (0, 0.58), "mouth_open": (0.5, 0.29),
}  # fmt: skip
_COLOURS = ("background", "surface", "hair_colour", "eye_colour", "clothes")
_CHOICES = {"hair": len(HAIR_STYLES), "accessory": len(ACCESSORIES)}
_DESCRIBED = len(_AMOUNTS) + 3 * len(_COLOURS) + sum(_CHOICES.values())


def _described(f: Factors) -> Tensor:
    """Every factor of a person as numbers of about unit variance, [B, _DESCRIBED]."""
    amounts = [(getattr(f, name) - mean) / spread for name, (mean, spread) in _AMOUNTS.items()]
    colours = [(getattr(f, name) - 0.5) / 0.25 for name in _COLOURS]
    choices = [2.0 * F.one_hot(getattr(f, name), count) - 1 for name, count in _CHOICES.items()]
    return torch.cat([torch.stack(amounts, 1), *colours, *choices], 1)


def _person_from(described: Tensor) -> Factors:
    """The person of a description [B, _DESCRIBED], the inverse of `_described`."""
    sizes = [1] * len(_AMOUNTS) + [3] * len(_COLOURS) + list(_CHOICES.values())
    columns = iter(described.split(sizes, dim=1))
    values = {name: mean + spread * next(columns)[:, 0].clamp(-1.8, 1.8) for name, (mean, spread) in _AMOUNTS.items()}
    values |= {name: (0.5 + 0.25 * next(columns)).clamp(0.05, 0.97) for name in _COLOURS}
    values |= {name: next(columns).argmax(1) for name in _CHOICES}
    any_person = factors_from_uniform(torch.zeros(len(described), COUNT), torch.full([len(described)], _PERSON))
    return replace(any_person, **values)


def run(folder: Path, weights: Path, steps: int = STEPS) -> None:
    torch.manual_seed(_SEED)
    generator, average, critic = Generator(CONFIG), Generator(CONFIG), Discriminator()
    head = nn.Linear(CONFIG.w_dim, _DESCRIBED)
    if not (folder / "state.pt").exists():
        _train_mapping(generator.mapping, head)
        generator.mapping.w_avg.copy_(generator.mapping(torch.randn(10_000, CONFIG.z_dim))[:, 0].detach().mean(0))
    generator.mapping.requires_grad_(False)
    head.requires_grad_(False)
    average.load_state_dict(generator.state_dict())
    optimizer = torch.optim.Adam(generator.synthesis.parameters(), 0.01, betas=(0.9, 0.99))
    critic_optimizer = torch.optim.Adam(critic.parameters(), 3e-4, betas=(0.0, 0.99))
    warm = WARM[-1][0]

    def step(i):
        random = seeded(_SEED, i)
        side, batch = next(((side, batch) for end, side, batch in WARM if i < end), (CONFIG.resolution, BATCH))
        ws = generator.mapping(torch.randn(batch, CONFIG.z_dim, generator=random))
        goal = F.avg_pool2d(render(_person_from(head(ws[:, 0]))), CONFIG.resolution // side)
        with torch.autocast("cpu", torch.bfloat16):
            fake = generator.synthesis(ws, resolution=side)
        done = (i - warm) / max(1, steps - warm)  # share of the discriminator's part, negative before it
        follow = 1.0 if done < 0 else 0.3 * (1 - done)
        parts = {
            "pixels": follow * (F.l1_loss(fake, goal) + F.mse_loss(fake, goal)),
            "edges": 0.5 * follow * edge_loss(fake, goal),
        }
        numbers = {}
        if done >= 0:
            others = generator.mapping(torch.randn(batch, CONFIG.z_dim, generator=random))
            real = render(_person_from(head(others[:, 0])))
            critic_loss = _critic_loss(critic, real, fake.detach())
            if i % R1_EVERY == 0:
                critic_loss = critic_loss + R1_EVERY * R1_GAMMA / 2 * _r1(critic, real)
            critic_optimizer.zero_grad()
            critic_loss.backward()
            critic_optimizer.step()
            with torch.autocast("cpu", torch.bfloat16):
                judged = critic(fake).float()
            parts["adversarial"] = 0.05 * min(1.0, (i - warm) / 200) * F.softplus(-judged).mean()
            numbers["critic"] = critic_loss.detach()
        for group in optimizer.param_groups:
            group["lr"], group["betas"] = _pace(i, done)
        optimizer.zero_grad()
        sum(parts.values()).backward()
        optimizer.step()
        exponential_average(average, generator, min(0.998, (1 + i) / (10 + i)))
        return numbers | {name: value.detach() for name, value in parts.items()}

    train(
        folder,
        {"generator": generator, "average": average, "head": head, "critic": critic, "optimizer": optimizer,
         "critic_optimizer": critic_optimizer},
        step, steps,
    )  # fmt: skip
    export(average, weights / "generator.safetensors")


def _pace(step: int, done: float) -> tuple[float, tuple[float, float]]:
    """Learning rate and betas of Adam: fast in the warm start and slowing to its end, then those of adversarial training,
    slowing again."""
    if done < 0:
        full = WARM[1][0]  # pictures are at their full size from here on
        slowing = 0.55 + 0.45 * math.cos(math.pi * max(0.0, (step - full) / (WARM[-1][0] - full)))
        return 0.01 * min(1.0, (step + 1) / 100) * slowing, (0.9, 0.99)
    return 0.002 * min(1.0, max(0.05, 2 * (1 - done))), (0.5, 0.99)


def export(generator: Generator, path: Path) -> None:
    """Write the generator in half precision."""
    from ..stylegan import save_generator

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"name": "miniature person", "license": "MIT", "source": "trained from scratch on rendered portraits"}
    save_generator(generator.half(), path, metadata)


def _critic_loss(critic, real: Tensor, fake: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        on_real, on_fake = critic(torch.cat([real, fake])).float().chunk(2)
    return F.softplus(-on_real).mean() + F.softplus(on_fake).mean()


def _r1(critic, images: Tensor) -> Tensor:
    """Mean squared norm of the discriminator's gradient at real images."""
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return gradient.square().sum([1, 2, 3]).mean()


class Discriminator(nn.Module):
    """Residual discriminator with the standard deviation over the batch as a last feature map. [B, 3, 64, 64] -> [B]"""

    def __init__(self, channels: tuple[int, ...] = (48, 96, 128, 128, 128)):
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList(_Down(a, b) for a, b in itertools.pairwise(channels))
        self.head = nn.Sequential(
            nn.Conv2d(channels[-1] + 1, channels[-1], 3, padding=1), nn.LeakyReLU(0.2), nn.Flatten(),
            nn.Linear(channels[-1] * 16, channels[-1]), nn.LeakyReLU(0.2), nn.Linear(channels[-1], 1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        x = F.leaky_relu(self.stem(images), 0.2)
        for block in self.blocks:
            x = block(x)
        groups = x.unflatten(0, (-1, 8))  # spread within each eight, so that real and fake never share a group
        spread = (groups.var(1, unbiased=False) + 1e-8).sqrt().mean([1, 2, 3]).repeat_interleave(8)
        spread = spread[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return self.head(torch.cat([x, spread], 1))[:, 0]


class _Down(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        y = F.leaky_relu(self.conv0(x), 0.2)
        y = F.leaky_relu(self.conv1(F.avg_pool2d(y, 2)), 0.2)
        return (y + self.skip(F.avg_pool2d(x, 2))) * 0.7071
