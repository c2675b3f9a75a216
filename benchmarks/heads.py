"""Does adapting keep the geometry of a generator that draws in 3D? Makes robots of the miniature's persons, by score
distillation at small and at large timesteps and towards targets of little and of much strength, and measures pictures, depth
and how the two sides of a head agree.

    python benchmarks/heads.py [--runs small large weak strong] [--steps 100] [--target-steps 300] [--samples 48] [--folder training-runs/heads] [--film FILE]

Every run is kept in the folder, so that an interrupted benchmark goes on where it was.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from comfyui_stylegan_fusion.metrics.evaluation import frechet_distance
from comfyui_stylegan_fusion.metrics.figures import to_pictures
from comfyui_stylegan_fusion.miniature import GENERATORS, WEIGHTS
from comfyui_stylegan_fusion.miniature.classifier import load_classifier
from comfyui_stylegan_fusion.miniature.factors import DOMAINS, sample_factors
from comfyui_stylegan_fusion.miniature.heads import Heads
from comfyui_stylegan_fusion.miniature.perceptual import load_features
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.settings import MINIATURE_SETTINGS, prompt_for
from comfyui_stylegan_fusion.miniature.stages import seeded
from comfyui_stylegan_fusion.miniature.train_generator import portraits_of
from comfyui_stylegan_fusion.miniature.views import facing, inconsistency, is_head, points_of
from comfyui_stylegan_fusion.sds import (
    DirectionalRegularizer,
    Editor,
    PerceptualRegularizer,
    PicturesPrior,
    SavedTraining,
    TargetPictures,
    TrainSettings,
    make_targets,
    train_generator,
)
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.stylegan import Draw, load_generator, orbit, sample_z, save_generator, turned
from PIL import Image

RUNS = ("small", "large", "weak", "strong")
TARGETS, EDITS = 150, 2.0  # how many, and the guidance scale by which they are made
YAWS = (-25.0, 0.0, 25.0)
GUIDANCE_SCALE = 1.25  # as of the miniature in two dimensions
RANGES = {"small": (0.02, 0.3), "large": (0.3, 0.95)}
"""Timesteps: those that change the style, and those that change the shape."""
STRENGTHS = {"weak": 0.4, "strong": 0.8}
"""Of targets, likewise."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=RUNS)
    parser.add_argument("--steps", type=int, default=100, help="of score distillation")
    parser.add_argument("--target-steps", type=int, default=300, help="towards targets")
    parser.add_argument(
        "--adversarial",
        type=float,
        default=TargetPictures.adversarial,
        help="strength of the discriminator beside targets",
    )
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--folder", type=Path, default=Path("training-runs/heads"))
    parser.add_argument("--film", type=Path, help="where an animated picture of all of them is written")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    generators = {"frozen": load_generator(GENERATORS["miniature-3d"])}
    seconds = {}
    for name in options.runs:
        steps = options.steps if name in RANGES else options.target_steps
        told = "" if name in RANGES else f"-{options.adversarial:g}"
        path = options.folder / f"robot-{name}-{steps}{told}.safetensors"
        seconds[name] = adapt(name, steps, path, options.adversarial)
        generators[name] = load_generator(path)
    print_table(generators, seconds, options.samples)
    if options.film:
        film(generators, options.film)


def adapt(name: str, steps: int, path: Path, adversarial: float) -> float:
    """Make robots of persons, unless they are there; the seconds that it took."""
    notes = path.with_suffix(".json")
    if path.exists() and notes.exists():
        return json.loads(notes.read_text())["seconds"]
    start = time.monotonic()
    report = lambda p: p.step % 10 == 0 and print(name, p.step, p.losses, flush=True)  # noqa: E731
    saved = SavedTraining(path.with_suffix(".training.safetensors"))
    generator = load_generator(GENERATORS["miniature-3d"])
    if name in RANGES:
        training = distillation(name, steps)
    else:
        training = towards_targets(generator, name, steps, adversarial)
    result = train_generator(generator, *training, None, report, saved)
    taken = time.monotonic() - start
    save_generator(result.generator, path, {"prompt": prompt_for("robot"), "seed": "0"})
    notes.write_text(json.dumps({"seconds": taken}))
    return taken


def distillation(name: str, steps: int):
    """Prior, settings and terms of score distillation."""
    low, high = RANGES[name]
    settings = TrainSettings(
        steps=steps, batch_size=2, learning_rate=0.02, cooldown=0.6, t_min=low, t_max=high, diversity_every=steps
    )
    model = StableDiffusion.load(WEIGHTS / "diffusion")
    prior = DiffusersPrior(model, prompt_for("robot"), prompt_for("person"), GUIDANCE_SCALE)
    return (
        prior,
        settings,
        [DirectionalRegularizer(1.0), PerceptualRegularizer(0.5, features=load_features("miniature"))],
    )


def towards_targets(generator, name: str, steps: int, adversarial: float):
    """Prior, settings and terms of a training towards targets, made as the miniature's always are: each of one view."""
    model = StableDiffusion.load(WEIGHTS / "diffusion", decoder=True)
    path = DiffusersPrior(model, prompt_for("person"), "", 1.0)
    edit = DiffusersPrior(model, prompt_for("robot"), prompt_for("person"), EDITS)
    made = replace(MINIATURE_SETTINGS.targets, count=TARGETS, strength=STRENGTHS[name], refresh=0)
    targets = make_targets(generator, Editor(edit, path), made)
    settings = replace(MINIATURE_SETTINGS.training, steps=steps, batch_size=4, diversity_every=steps)
    term = TargetPictures(targets=targets, adversarial=adversarial)
    return PicturesPrior(edit.image_size, torch.device("cpu")), settings, [term]


@dataclass(frozen=True)
class Views:
    """Views are what is seen of the same samples from several sides."""

    images: dict[float, torch.Tensor]
    depth: dict[float, torch.Tensor]
    cameras: dict[float, torch.Tensor]


@torch.no_grad()
def views(generator, count: int) -> Views:
    z = sample_z(generator.z_dim, count, 4242)
    found = Views({}, {}, {})
    for yaw in YAWS:
        camera = turned(generator.config, yaw)
        parts = [
            generator.synthesis.render(Draw(generator.mapping(some), cameras=camera), "none") for some in z.split(4)
        ]
        found.images[yaw] = torch.cat([part.images for part in parts]).clamp(-1, 1)
        found.depth[yaw] = torch.cat([part.depth for part in parts])
        found.cameras[yaw] = camera.expand(count, -1)
    return found


def print_table(generators: dict, seconds: dict[str, float], count: int) -> None:
    judge = load_classifier()
    goal = judge.read(render(sample_factors(2000, seeded(4243), "robot"))).features
    z = sample_z(generators["frozen"].z_dim, count, 4242)
    before = views(generators["frozen"], count)
    truth = torch.cat(
        [Heads(portraits_of(some)).seen(before.cameras[0.0][: len(some)], 64).depth for some in z.split(16)]
    )
    truth = truth.view(count, 1, 64, 64)
    of_head = is_head(points_of(truth, before.cameras[0.0])).view(count, 1, 64, 64)
    error = lambda depth, wanted: ((depth - wanted).abs() * of_head).sum().item() / of_head.sum().item()  # noqa: E731
    print(f"{count} samples from each of {len(YAWS)} sides\n")
    print(
        "| generator | distance to robots from -25, 0, 25 degrees | read as a robot | colours of the same points from two "
        "sides differ by | depth differs from the person's own | from before | looks aside | time |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, generator in generators.items():
        seen = before if name == "frozen" else views(generator, count)
        readings = {yaw: judge.read(images) for yaw, images in seen.images.items()}
        distances = [frechet_distance(readings[yaw].features, goal) for yaw in YAWS]
        robot = [(readings[yaw].domain.argmax(1) == DOMAINS.index("robot")).float().mean().item() for yaw in YAWS]
        apart = [
            inconsistency(*(part[0.0] for part in (seen.images, seen.depth, seen.cameras)),
                          *(part[yaw] for part in (seen.images, seen.depth, seen.cameras))).mean().item()
            for yaw in (-25.0, 25.0)
        ]  # fmt: skip
        aside = (facing(seen.depth[0.0], seen.cameras[0.0]) - facing(before.depth[0.0], before.cameras[0.0])).abs()
        cells = [
            name,
            ", ".join(f"{distance:.1f}" for distance in distances),
            ", ".join(f"{share:.0%}" for share in robot),
            f"{sum(apart) / 2:.4f}",
            f"{error(seen.depth[0.0], truth):.4f}",
            f"{error(seen.depth[0.0], before.depth[0.0]):.4f}",
            f"{aside.mean():.2f}°",
            f"{seconds[name]:.0f} s" if name in seconds else "-",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


@torch.no_grad()
def film(generators: dict, path: Path, frames: int = 16, columns: int = 5, cell: int = 96) -> None:
    """Write the same persons by each generator, one row each, from an orbit that loops."""
    z = sample_z(generators["frozen"].z_dim, columns, 4242)
    cameras = orbit(generators["frozen"].config, frames, 25.0)
    sheets = [Image.new("RGB", (columns * cell, len(generators) * cell)) for _ in range(frames)]
    for row, generator in enumerate(generators.values()):
        ws = generator.mapping(z)
        for frame, sheet in enumerate(sheets):
            seen = cameras[frame : frame + 1]
            images = torch.cat([generator.synthesis(Draw(part, cameras=seen)) for part in ws.split(3)])
            for column, picture in enumerate(to_pictures(images)):
                sheet.paste(picture.resize((cell, cell), Image.Resampling.BICUBIC), (column * cell, row * cell))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheets[0].save(path, save_all=True, append_images=sheets[1:], duration=120, loop=0, quality=80, method=6)


if __name__ == "__main__":
    main()
