"""Does the method work? Adapts the miniature person generator and measures what comes out, in the classifier's features.

    python benchmarks/quality.py [--targets fox robot] [--seeds 0 1 2] [--folder training-runs/quality]

Every run is kept in the folder, so that an interrupted benchmark goes on where it was. Several processes may share the
work with --only NAME (run only that variant, print nothing).
"""

import argparse
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import torch
from comfyui_stylegan_fusion import load_generator, save_generator, train_generator
from comfyui_stylegan_fusion.metrics.evaluation import frechet_distance
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.classifier import load_classifier
from comfyui_stylegan_fusion.miniature.drawing import draw
from comfyui_stylegan_fusion.miniature.factors import sample_factors
from comfyui_stylegan_fusion.miniature.metrics import diversity
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.settings import DEMOS
from comfyui_stylegan_fusion.miniature.stages import seeded
from comfyui_stylegan_fusion.sds import DirectionalRegularizer
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.stylegan import render_samples, sample_z

SAMPLES = 2000
VARIANTS = ("demo", "no regularizer")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=list(DEMOS), choices=DEMOS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("training-runs/quality"))
    parser.add_argument(
        "--only", choices=[*VARIANTS, "diffusion"], help="do only this part of the work, print no table"
    )
    options = parser.parse_args()
    folder = options.folder / _fingerprint()
    folder.mkdir(parents=True, exist_ok=True)
    judge = Judge(folder)
    for target in options.targets:
        for variant in VARIANTS:
            for seed in options.seeds:
                if options.only in (None, variant):
                    judge.adapted(target, variant, seed)
        if options.only in (None, "diffusion"):
            judge.diffusion_samples(target)
    if options.only is None:
        print_tables(judge, options.targets, options.seeds)


def _fingerprint() -> str:
    """Of settings and weights: what other ones made is never taken for theirs."""
    digest = hashlib.sha256(repr(DEMOS).encode())
    judged = (path for path in WEIGHTS.rglob("*.safetensors") if not {"clip", "loras"} & {*path.parts})
    for path in sorted(judged):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Judge:
    """Makes and keeps what is compared: readings of sets of pictures, by name."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.classifier = load_classifier()
        self.model = StableDiffusion.load(WEIGHTS / "diffusion", decoder=True)
        self.latents = sample_z(load_generator("miniature").z_dim, SAMPLES, seed=4242)

    def adapted(self, target: str, variant: str, seed: int) -> dict[str, torch.Tensor]:
        """Readings of the generator adapted to `target`, trained when it is not there yet."""
        path = self.folder / f"{target}-{variant.replace(' ', '-')}-{seed}.safetensors"
        if not path.exists():
            chosen = DEMOS[target]
            prior = DiffusersPrior(self.model, chosen.prompt, chosen.negative_prompt, chosen.guidance_scale)
            weight = chosen.weights["directional"] if variant == "demo" else 0.0
            regularizers = (DirectionalRegularizer(weight),) if weight else ()
            settings = replace(chosen.training, seed=seed)
            result = train_generator(load_generator("miniature"), prior, settings, regularizers, chosen.layers)
            save_generator(result.generator, path, {"prompt": chosen.prompt, "seed": str(seed)})
        return self._read(path.stem, lambda: self.samples(path))

    def frozen(self):
        return self._read("frozen", lambda: self.samples("miniature"))

    def rendered(self, domain: str):
        return self._read(f"rendered-{domain}", lambda: render(sample_factors(SAMPLES, seeded(4243), domain)))

    def samples(self, path) -> torch.Tensor:
        return render_samples(load_generator(path), self.latents).clamp(-1, 1)

    def diffusion_samples(self, target: str):
        """Readings of the diffusion model's own pictures of the target (12 DDIM steps, the demo's guidance scale)."""
        return self._read(f"diffusion-{target}", lambda: self._diffuse(target))

    def _diffuse(self, target: str) -> torch.Tensor:
        prior = DiffusersPrior(self.model, DEMOS[target].prompt, "", DEMOS[target].guidance_scale)
        return draw(prior, SAMPLES, seed=4244, steps=12)

    def _read(self, name, make):
        path = self.folder / f"{name}.readings.pt"
        if not path.exists():
            seen = self.classifier.read(make())
            torch.save(
                {
                    "features": seen.features,
                    "domain": seen.domain,
                    "background": seen.background,
                    "position": seen.position,
                },
                path.with_suffix(f".{os.getpid()}"),
            )
            os.replace(path.with_suffix(f".{os.getpid()}"), path)
        return torch.load(path, weights_only=True)


def print_tables(judge: Judge, targets: list[str], seeds: list[int]) -> None:
    frozen = judge.frozen()
    print(f"Mean ± standard deviation over seeds {seeds}, {SAMPLES} samples each\n")
    print("| pictures | Fréchet distance to the target | of the frozen generator's | diversity, of the target's |")
    print("|---|---|---|---|")
    for target in targets:
        goal = judge.rendered(target)["features"]
        start = frechet_distance(frozen["features"], goal)

        def row(label, sets, goal=goal, start=start):
            distances = torch.tensor([frechet_distance(s["features"], goal) for s in sets])
            spreads = torch.tensor([diversity(s["features"]) / diversity(goal) for s in sets])
            print(
                f"| {label} | {_cell(distances, '.1f')} | {_cell(distances / start, '.1%')} | {_cell(spreads, '.0%')} |"
            )

        print(f"| **person to {target}** | | | |")
        row("frozen generator", [frozen])
        for variant in VARIANTS:
            row(f"adapted, {variant}", [judge.adapted(target, variant, seed) for seed in seeds])
        for other in targets:
            if other != target:
                row(f"adapted to {other} instead", [judge.adapted(other, "demo", seed) for seed in seeds])
        row("the diffusion model's own samples", [judge.diffusion_samples(target)])
    print("\n| mean change from the frozen sample | background (colour) | position (half widths) |\n|---|---|---|")
    for target in targets:
        for variant in VARIANTS:
            runs = [judge.adapted(target, variant, seed) for seed in seeds]
            cells = [
                _cell(torch.stack([(run[name] - frozen[name]).norm(dim=1).mean() for run in runs]), ".3f")
                for name in ("background", "position")
            ]
            print(f"| person to {target}, {variant} | " + " | ".join(cells) + " |")
    print()
    for target in targets:
        print(DEMOS[target])


def _cell(values: torch.Tensor, form: str) -> str:
    return f"{values.mean():{form}}" + (f" ± {values.std():{form}}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
