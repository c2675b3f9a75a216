"""Stage 4: train the StyleGAN2 of one domain, persons or cats.

The mapping is trained first, until the factors of a portrait can be read off w, and then stays; so every w spells one
portrait. The synthesis is then regressed on that portrait, at 16, 32 and then 64 pixels. A discriminator has
nothing to add: trained beside it on real and generated pictures, it could not tell them apart.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..stylegan import Draw, Generator, GeneratorConfig, load_generator
from ..training.draws import MicroStep
from ..training.muon import Muon
from ..training.phases import Average, Outcome, Phase, gradients_of
from .factors import (
    ACCESSORIES,
    BACKGROUNDS,
    COLLARS,
    COUNT,
    DOMAINS,
    EYE_COLOURS,
    HAIR_COLOURS,
    HAIR_SHAPES,
    HAIR_STYLES,
    HAT_SHAPES,
    SURFACES,
    UNIFORMS,
    Factors,
    factors_from_uniform,
)
from .renderer import render
from .stages import edge_loss, run_stage, seeded

FILES = {"person": "generator.safetensors", "cat": "cat.safetensors"}
"""Where each generator stands among the weights."""

STEPS = 17_000
MAPPING_STEPS = 8000
STAGES = ((700, 16, 48), (2000, 32, 32), (STEPS, 64, 16))  # until this step, pictures of this side, this many a step
RISE = 100  # steps of warm-up
UNDECIDED = 0.8  # difference of the two largest numbers of a choice (of -1 and 1) under which both will do
CONFIG = GeneratorConfig(resolution=64, z_dim=128, w_dim=128, mapping_layers=4, channel_base=4096, channel_max=160)
_SEED = 104

log = logging.getLogger(__name__)


def portraits_of(z: Tensor, domain: str = "person") -> Factors:
    """Return the portrait that each latent [B, z_dim] stands for.

    An amount is the rank of one entry of the latent, a choice among k the largest of k entries; skin, hair and eyes lie
    on the line through their palette, at the rank of an entry, and background and clothes are any colour, from three;
    their names are those of the nearest. All of it varies as gently as a small mapping can learn."""
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
    factors = factors_from_uniform(torch.stack(columns, 1), torch.full([len(z)], DOMAINS.index(domain)))
    background, surface, _, hair, eyes, _, clothes, *_ = ranks
    colours = {
        "background": (0.15 + 0.75 * background[:, :3], BACKGROUNDS),
        "surface": (_along(SURFACES[domain], surface[:, 0]), SURFACES[domain]),
        "hair_colour": (_along(HAIR_COLOURS, hair[:, 0]), HAIR_COLOURS),
        "eye_colour": (_along(EYE_COLOURS, eyes[:, 0]), EYE_COLOURS),
    }
    changed = {part: colour for part, (colour, _) in colours.items()}
    changed |= {f"{part.removesuffix('_colour')}_name": _nearest(*values) for part, values in colours.items()}
    return replace(factors, **changed, clothes=0.15 + 0.75 * clothes[:, :3])


def _nearest(colours: Tensor, palette: dict) -> Tensor:
    """Which of a palette's colours is nearest to each of [B, 3]."""
    return torch.cdist(colours, torch.tensor(list(palette.values()))).argmin(1)


def _along(palette: dict, position: Tensor) -> Tensor:
    """Colours [B, 3] at positions [B] in [0, 1) of the line through a palette."""
    table = torch.tensor(list(palette.values()))
    place = position * (len(table) - 1)
    start = place.long()
    return torch.lerp(table[start], table[start + 1], (place - start)[:, None])


def _train_mapping(folder: Path, mapping, head: nn.Linear, domain: str, gently: bool) -> None:
    """Train the mapping until the linear `head` reads the factors off w: seconds, where learning the same through the
    pictures takes hours."""
    # The learning rate multiplier of 0.01 is made for runs a thousand times as long.
    optimizer = torch.optim.Adam(
        [{"params": mapping.parameters(), "scale": 0.2}, {"params": head.parameters(), "scale": 2e-3}]
    )
    peak = 0.1 if gently else 1.0  # so that w goes on to mean what the synthesis has learned

    def compute(micro_steps: Sequence[MicroStep]) -> Outcome:
        z = torch.randn(256, CONFIG.z_dim, generator=seeded(_SEED, 1, micro_steps[0].step))
        w = mapping(z)[:, 0]
        unit = (w.mean(0).square() + (w.std(0) - 1).square()).mean()
        error = F.mse_loss(head(w), _described(portraits_of(z, domain)))
        gradients = gradients_of(error + 0.1 * unit, [*mapping.parameters(), *head.parameters()])
        return Outcome(gradients, {"unexplained": error.item()})

    both = nn.ModuleDict({"mapping": mapping, "head": head})
    phase = Phase("mapping", both, optimizer, compute, lambda step: peak * max(0.02, 1 - step / MAPPING_STEPS))
    run_stage(folder, [phase], MAPPING_STEPS, log_every=2000)


_AMOUNTS = {  # mean and about the standard deviation of each
    "x": (0, 0.13), "y": (0, 0.08), "size": (0.93, 0.09), "tilt": (0, 0.15), "yaw": (0, 0.58), "light": (0, 0.58),
    "eye_size": (1.02, 0.13), "ear_size": (1.02, 0.13), "smile": (0, 0.58), "mouth_open": (0.5, 0.29),
}  # fmt: skip
_COLOURS = ("background", "surface", "hair_colour", "eye_colour", "clothes")
_CHOICES = {
    "hair": len(HAIR_STYLES), "accessory": len(ACCESSORIES),
    "hat_shape": len(HAT_SHAPES), "hair_shape": len(HAIR_SHAPES), "collar": len(COLLARS),
}  # fmt: skip
DESCRIBED = len(_AMOUNTS) + 3 * len(_COLOURS) + sum(_CHOICES.values())


def _described(f: Factors) -> Tensor:
    """Every factor of a portrait as numbers of about unit variance, [B, DESCRIBED]."""
    amounts = [(getattr(f, name) - mean) / spread for name, (mean, spread) in _AMOUNTS.items()]
    colours = [(getattr(f, name) - 0.5) / 0.25 for name in _COLOURS]
    choices = [2.0 * F.one_hot(getattr(f, name), count) - 1 for name, count in _CHOICES.items()]
    return torch.cat([torch.stack(amounts, 1), *colours, *choices], 1)


def portrait_from(described: Tensor, domain: str, second: str | None = None) -> Factors:
    """The portrait of a DESCRIBED [B, DESCRIBED], the inverse of `_described`; of the choice `second`, the runner-up."""
    sizes = [1] * len(_AMOUNTS) + [3] * len(_COLOURS) + list(_CHOICES.values())
    columns = iter(described.split(sizes, dim=1))
    values = {name: mean + spread * next(columns)[:, 0].clamp(-1.8, 1.8) for name, (mean, spread) in _AMOUNTS.items()}
    values |= {name: (0.5 + 0.25 * next(columns)).clamp(0.05, 0.97) for name in _COLOURS}
    values |= {name: next(columns).topk(2).indices[:, int(name == second)] for name in _CHOICES}
    index = torch.full([len(described)], DOMAINS.index(domain))
    return replace(factors_from_uniform(torch.zeros(len(described), COUNT), index), **values)


def _goal(described: Tensor, fake: Tensor, domain: str) -> Tensor:
    """The portraits [B, 3, 64, 64] that w spells. Where a choice is all but undecided, the one of the two that is nearer
    to the generated picture: their mean, a ghost of a hat, would never be right."""
    goal = render(portrait_from(described, domain))
    columns = described.split([len(_AMOUNTS) + 3 * len(_COLOURS), *_CHOICES.values()], dim=1)[1:]
    for name, numbers in zip(_CHOICES, columns, strict=True):
        first, second = numbers.topk(2).values.unbind(1)
        rows = (first - second < UNDECIDED).nonzero()[:, 0]
        if len(rows):
            other = render(portrait_from(described[rows], domain, second=name))
            nearer = (fake[rows] - other).abs().mean([1, 2, 3]) < (fake[rows] - goal[rows]).abs().mean([1, 2, 3])
            goal[rows[nearer]] = other[nearer]
    return goal


def run(folder: Path, weights: Path, steps: int = STEPS, domain: str = "person", start: Path | None = None) -> None:
    """Train the generator of a domain. `start` is a folder of weights to begin from: a further round where the domain's
    own is there, else from the person's."""
    torch.manual_seed(_SEED)
    generator, average = Generator(CONFIG), Generator(CONFIG)
    head = nn.Linear(CONFIG.w_dim, DESCRIBED)
    again = start is not None and (start / FILES[domain]).exists()
    if start is not None:
        generator.load_state_dict(load_generator(start / FILES[domain if again else "person"]).state_dict())
    if not again:
        if start is not None:
            read_off(generator.mapping, head, domain)
        _train_mapping(folder / "mapping", generator.mapping, head, domain, gently=start is not None)
        generator.mapping.w_avg.copy_(generator.mapping(torch.randn(10_000, CONFIG.z_dim))[:, 0].detach().mean(0))
    else:
        read_off(generator.mapping, head, domain)
    generator.mapping.requires_grad_(False)
    head.requires_grad_(False)
    average.load_state_dict(generator.state_dict())
    optimizer = Muon(generator.synthesis.parameters(), betas=(0.9, 0.99))

    def compute(micro_steps: Sequence[MicroStep]) -> Outcome:
        step = micro_steps[0].step
        stages = STAGES if start is None else STAGES[-1:]
        side, batch = next(((side, batch) for end, side, batch in stages if step < end), stages[-1][1:])
        ws = generator.mapping(torch.randn(batch, CONFIG.z_dim, generator=seeded(_SEED, step, steps)))
        with torch.autocast("cpu", torch.bfloat16):
            fake = generator.synthesis(Draw(ws), resolution=side)
        with torch.no_grad():
            full = F.interpolate(fake, size=CONFIG.resolution)
            goal = F.avg_pool2d(_goal(head(ws[:, 0]), full, domain), CONFIG.resolution // side)
        parts = {"pixels": F.l1_loss(fake, goal), "edges": edge_loss(fake, goal)}
        gradients = gradients_of(sum(parts.values()), generator.synthesis.parameters())
        return Outcome(gradients, {name: value.item() for name, value in parts.items()})

    peak = 0.02 if start is None else 0.008
    phase = Phase(
        "generator",
        generator,
        optimizer,
        compute,
        lambda step: peak * _learning_rate(step, steps),
        average=Average(average, lambda step: min(0.998, (1 + step) / (10 + step))),
    )
    run_stage(folder, [phase], steps)
    export(average, weights / FILES[domain], domain)


def read_off(mapping, head: nn.Linear, domain: str) -> None:
    """Fit the `head` that reads the factors off w to a mapping that is trained."""
    with torch.no_grad():
        z = torch.randn(40_000, CONFIG.z_dim, generator=seeded(_SEED, 2))
        w = F.pad(mapping(z)[:, 0], (0, 1), value=1.0)
        solution = torch.linalg.lstsq(w, _described(portraits_of(z, domain))).solution
        head.weight.copy_(solution[:-1].T)
        head.bias.copy_(solution[-1])


def _learning_rate(step: int, steps: int) -> float:
    """A short rise, then a cosine to almost nothing."""
    return min(1.0, (step + 1) / RISE) * (0.501 + 0.499 * math.cos(math.pi * step / steps))


def export(generator: Generator, path: Path, domain: str) -> None:
    """Write the generator in half precision."""
    from ..stylegan import save_generator

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"name": f"miniature {domain}", "license": "MIT", "source": "trained from scratch on rendered portraits"}
    save_generator(generator.half(), path, metadata)
