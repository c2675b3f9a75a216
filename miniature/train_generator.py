"""Stage 4: train the StyleGAN2 of the person domain.

A warm start regresses the portrait whose factors the latent spells, at 16, 32 and then 64 pixels, so that the latent space
covers every person there is; a discriminator then makes the pictures sharp (non-saturating loss, lazy R1: arXiv 1912.04958).
"""

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..stylegan import Generator, GeneratorConfig
from ..stylegan.layers import upsample
from .factors import (
    ACCESSORIES,
    BACKGROUNDS,
    CLOTHES,
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
WARM = ((2000, 16, 48), (3100, 32, 32), (4000, 64, 16))
R1_EVERY, R1_GAMMA = 8, 0.5
CONFIG = GeneratorConfig(resolution=64, z_dim=128, w_dim=128, mapping_layers=4, channel_base=3072, channel_max=128)
_SEED = 104

log = logging.getLogger(__name__)


def persons_of(z: Tensor) -> Factors:
    """The person that each latent [B, z_dim] stands for during the warm start.

    A choice among k is the largest of k entries of the latent, a colour mixes its palette by them, an amount is the rank
    of one entry: all of it varies with the latent as gently as a network can learn."""
    columns, mixtures, used = [], [], 0
    for choices in UNIFORMS:
        entries = z[:, used : used + max(choices, 1)]
        if choices:
            columns.append((entries.argmax(1) + 0.5) / choices)
            mixtures.append((4 * entries).softmax(1))
        else:
            columns.append(torch.special.ndtr(entries[:, 0]).clamp(0, 1 - 1e-6))
        used += entries.shape[1]
    factors = factors_from_uniform(torch.stack(columns, 1), torch.full([len(z)], DOMAINS.index("person")))
    background, surface, _, hair, eyes, _, clothes = mixtures
    return replace(
        factors,
        background=background @ _table(BACKGROUNDS),
        surface=surface @ _table(SURFACES["person"]),
        hair_colour=hair @ _table(HAIR_COLOURS),
        eye_colour=eyes @ _table(EYE_COLOURS),
        clothes=clothes @ _table(CLOTHES),
    )


def _table(palette: dict) -> Tensor:
    return torch.tensor(list(palette.values()))


def _warm_mapping(mapping, steps: int = 8000) -> None:
    """Train the mapping alone until the factors can be read off w by a linear layer: seconds, where learning the same
    through the pictures takes hours."""
    head = nn.Linear(mapping.config.w_dim, _described(persons_of(torch.zeros(2, CONFIG.z_dim))).shape[1])
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
            log.info("mapping %d/%d: %.3f of the factors' variance unexplained", i, steps, error)


def _described(f: Factors) -> Tensor:
    """Every factor of a person as numbers of about unit variance, [B, n]."""
    columns = [f.x / 0.13, f.y / 0.08, (f.size - 0.93) / 0.09, f.tilt / 0.15, f.yaw / 0.58, f.light / 0.58,
               (f.eye_size - 1) / 0.13, (f.ear_size - 1) / 0.13, f.smile / 0.58, (f.mouth_open - 0.5) / 0.29]  # fmt: skip
    colours = [f.background, f.surface, f.hair_colour, f.eye_colour, f.clothes]
    choices = [F.one_hot(f.hair, len(HAIR_STYLES)), F.one_hot(f.accessory, len(ACCESSORIES))]
    return torch.cat(
        [torch.stack(columns, 1), *((c - 0.5) / 0.25 for c in colours), *(2.0 * c - 1 for c in choices)], 1
    )


def run(folder: Path, weights: Path, steps: int = STEPS) -> None:
    torch.manual_seed(_SEED)
    generator, average, critic = Generator(CONFIG), Generator(CONFIG), Discriminator()
    if not (folder / "state.pt").exists():
        _warm_mapping(generator.mapping)
        generator.mapping.w_avg.copy_(generator.mapping(torch.randn(10_000, CONFIG.z_dim))[:, 0].detach().mean(0))
    average.load_state_dict(generator.state_dict())
    groups = [
        {"params": generator.mapping.parameters(), "lr": 10 * 2e-3},
        {"params": generator.synthesis.parameters(), "lr": 4e-3},
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.5, 0.99))
    critic_optimizer = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.0, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: _learning_rate(i, steps))

    def step(i):
        random = seeded(_SEED, i)
        side, batch = next(((side, batch) for end, side, batch in WARM if i < end), (None, BATCH))
        z = torch.randn(batch, CONFIG.z_dim, generator=random)
        real = render(persons_of(z))
        ws = generator.mapping(z)
        generator.mapping.w_avg.lerp_(ws[:, 0].detach().mean(0), 0.005)
        with torch.autocast("cpu", torch.bfloat16):
            fake = _synthesize(generator.synthesis, ws, side or CONFIG.resolution)
        follow = 1.0 if side else 0.3
        goal = F.avg_pool2d(real, 64 // side) if side else real
        parts = {
            "pixels": follow * (F.l1_loss(fake, goal) + F.mse_loss(fake, goal)),
            "edges": 0.5 * follow * edge_loss(fake, goal),
        }
        if side is None:
            others = render(persons_of(torch.randn(batch, CONFIG.z_dim, generator=random)))
            critic_loss = _critic_loss(critic, others, fake.detach())
            if i % R1_EVERY == 0:
                critic_loss = critic_loss + R1_EVERY * R1_GAMMA / 2 * _r1(critic, others)
            critic_optimizer.zero_grad()
            critic_loss.backward()
            critic_optimizer.step()
            with torch.autocast("cpu", torch.bfloat16):
                judged = critic(fake).float()
            parts["adversarial"] = 0.05 * F.softplus(-judged).mean()
        optimizer.zero_grad()
        sum(parts.values()).backward()
        optimizer.step()
        schedule.step()
        exponential_average(average, generator, min(0.998, (1 + i) / (10 + i)))
        numbers = {name: value.detach() for name, value in parts.items()}
        return numbers if side else {**numbers, "critic": critic_loss.detach()}

    train(
        folder,
        {"generator": generator, "average": average, "critic": critic, "optimizer": optimizer,
         "critic_optimizer": critic_optimizer, "schedule": schedule},
        step, steps,
    )  # fmt: skip
    export(average, weights / "generator.safetensors")


def export(generator: Generator, path: Path) -> None:
    """Write the generator in half precision."""
    from ..stylegan import save_generator

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"name": "miniature person", "license": "MIT", "source": "trained from scratch on rendered portraits"}
    save_generator(generator.half(), path, metadata)


def _learning_rate(step: int, steps: int) -> float:
    """Factor of the learning rate: rising at first, halved for the discriminator's part, falling in its second half."""
    if step < WARM[-1][0]:
        return min(1.0, step / 100)
    return 0.5 * min(1.0, max(0.05, 2 * (1 - (step - WARM[-1][0]) / max(1, steps - WARM[-1][0]))))


def _synthesize(synthesis, ws: Tensor, side: int) -> Tensor:
    """The picture as the blocks up to `side` pixels make it."""
    x, image, index = synthesis.blocks[0].const.expand(len(ws), -1, -1, -1), None, 0
    for block, resolution in zip(synthesis.blocks, CONFIG.resolutions, strict=True):
        if resolution > side:
            break
        for conv in block.convs:
            x = conv(x, ws[:, index], synthesis.fir, "const")
            index += 1
        colours = block.to_rgb(x, ws[:, index]).float()
        image = colours if image is None else upsample(image, synthesis.fir) + colours
    return image


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
        self.blocks = nn.ModuleList(_Down(a, b) for a, b in zip(channels, channels[1:], strict=False))
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
