"""Stage: train the tri-plane generator of persons in three dimensions on the heads of `heads`.

The mapping is that of the flat generator of persons, which spells one portrait with every w: a latent is the same person in
both. The synthesis is regressed on that person's head: at points of the space, on what is there, and along rays, on what
they meet.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..stylegan import Draw, Generator, load_generator
from ..stylegan.cameras import rays
from ..training.draws import MicroStep
from ..training.muon import Muon
from ..training.phases import Average, Outcome, Phase, gradients_of
from .heads import CONFIG, Heads, Seen, cameras_of
from .stages import run_stage, seeded
from .train_generator import DESCRIBED, RISE, portrait_from, read_off

FILE = "head.safetensors"

STEPS = 900
BATCH, RAYS, ALONG = 6, 384, 5  # heads in a step, rays for each, and points on each
RENDERED_FROM = 300  # the step from which rays are marched, too
OPAQUE, EDGE, STEP = (
    150.0,
    0.006,
    0.03,
)  # density within things, the width of their edge, and the step that it is judged by
_SEED = 105


def run(folder: Path, weights: Path, steps: int = STEPS, start: Path | None = None) -> None:
    """Train the generator; `start` is a folder of weights to begin from, for a further round."""
    torch.manual_seed(_SEED)
    generator, average = Generator(CONFIG), Generator(CONFIG)
    flat = load_generator(weights / "generator.safetensors")
    take_from_flat(generator, flat)
    if start is not None and (start / FILE).exists():
        generator.load_state_dict(load_generator(start / FILE).state_dict())
    head = nn.Linear(CONFIG.w_dim, DESCRIBED)
    read_off(flat.mapping, head, "person")
    generator.mapping.requires_grad_(False)
    head.requires_grad_(False)
    average.load_state_dict(generator.state_dict())

    def compute(micro_steps: Sequence[MicroStep]) -> Outcome:
        step = micro_steps[0].step
        random = seeded(_SEED, step, steps)
        w = generator.mapping(torch.randn(BATCH, CONFIG.z_dim, generator=random))
        cameras = cameras_of(BATCH, random)
        with torch.no_grad():
            heads = Heads(portrait_from(head(w[:, 0]), "person"))
            chosen = _pixels(random)
            seen = heads.seen(cameras, CONFIG.render_side, chosen)
        planes = generator.synthesis.planes(Draw(w), "none")
        origins, directions = (
            x.gather(1, chosen[..., None].expand(-1, -1, 3)) for x in rays(cameras, CONFIG.render_side)
        )
        losses = _of_points(generator, planes, heads, seen, origins, directions, random)
        if start is not None or step >= RENDERED_FROM:
            losses |= _of_rays(generator, planes, seen, origins, directions, random)
        gradients = gradients_of(sum(losses.values()), generator.synthesis.parameters())
        return Outcome(gradients, {name: value.item() for name, value in losses.items()})

    phase = Phase(
        "generator",
        generator,
        Muon(generator.synthesis.parameters(), betas=(0.9, 0.99)),
        compute,
        lambda step: (0.02 if start is None else 0.006) * min(1.0, (step + 1) / RISE) * _falling(step / steps),
        average=Average(average, lambda step: min(0.998, (1 + step) / (10 + step))),
    )
    run_stage(folder, [phase], steps)
    export(average, weights / FILE)


def _pixels(random: torch.Generator) -> Tensor:
    """Draw the pixels [BATCH, RAYS] that are looked at: half of them anywhere, half in the middle, where faces are."""
    side = CONFIG.render_side
    y, x = torch.randint(side, (2, BATCH, RAYS), generator=random)
    middle = torch.arange(RAYS) < RAYS // 2
    y, x = (torch.where(middle, side // 4 + at // 2, at) for at in (y, x))
    return y * side + x


def _falling(done: float) -> float:
    return 0.501 + 0.499 * math.cos(math.pi * done)


@torch.no_grad()
def take_from_flat(generator: Generator, flat: Generator) -> None:
    """Give a generator the mapping of a flat one, which looks at no camera, and its convolutions: what draws a face is of
    use to planes, too."""
    state = dict(flat.mapping.state_dict())
    first = state["layers.0.weight"]
    # The camera's half of the input counts nothing, and the wider layer divides by the root of its width.
    state["layers.0.weight"] = torch.cat([first * math.sqrt(2), torch.zeros_like(first)], 1)
    state |= {f"embed.{name}": torch.zeros_like(p) for name, p in generator.mapping.embed.named_parameters()}
    generator.mapping.load_state_dict(state)
    generator.synthesis.backbone.load_state_dict(
        {name: value for name, value in flat.synthesis.state_dict().items() if ".to_rgb." not in name},
        strict=False,
    )


def _of_points(generator, planes, heads: Heads, seen: Seen, origins, directions, random) -> dict[str, Tensor]:
    """How far opacity and colours are off at points of the rays: near what they meet, and anywhere."""
    shape = (*seen.depth.shape, ALONG)
    near = seen.depth[..., None] + 0.02 * torch.randn(shape, generator=random)
    anywhere = CONFIG.ray_start + (CONFIG.ray_end - CONFIG.ray_start) * torch.rand(shape, generator=random)
    depths = torch.where(torch.arange(ALONG) < 3, near, anywhere)
    points = (origins[:, :, None] + depths[..., None] * directions[:, :, None]).flatten(1, 2)
    colours, raw = generator.synthesis.at(planes, points)
    distance = heads.densities(points)
    opacity = lambda density: 1 - torch.exp(-STEP * density)  # noqa: E731
    wanted = opacity(OPAQUE * torch.sigmoid(-distance / EDGE))
    there = ((distance < 0.025) & (distance > -0.08)).float()[
        ..., None
    ]  # deep enough for points that rays are looked at
    off = (colours[..., :3] - heads.colours(points)).abs() * there
    return {
        "opacity": 2 * F.l1_loss(opacity(F.softplus(raw - 1)), wanted),
        "colours": 2 * off.sum() / (3 * there.sum() + 1),
    }


def _of_rays(generator, planes, seen: Seen, origins, directions, random) -> dict[str, Tensor]:
    """How far colours and depths of rays are off."""
    shape = origins.shape[:2]
    places = tuple(
        torch.rand(*shape, points, generator=random) for points in (CONFIG.depth_samples, CONFIG.importance_samples)
    )
    features, depth, _ = generator.synthesis.render_rays(planes, origins, directions, places)
    return {
        "picture": 2 * F.l1_loss(features[..., :3], 2 * seen.colours - 1),
        "depth": 4 * F.l1_loss(depth, seen.depth),
    }


def export(generator: Generator, path: Path) -> None:
    """Write the generator in half precision."""
    from ..stylegan import save_generator

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"name": "miniature person in 3D", "license": "MIT", "source": "trained from scratch on rendered heads"}
    save_generator(generator.half(), path, metadata)
