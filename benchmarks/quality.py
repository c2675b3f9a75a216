"""Does the method work? Adapts the miniature's generators and measures what comes out, beside rendered portraits.

    python benchmarks/quality.py [--pairs person-fox cat-fox ...] [--methods targets sds] [--seeds 0 1 2]
        [--folder training-runs/quality]

Every run is kept in the folder, so that an interrupted benchmark goes on where it was. Several processes may share the
work with --only METHOD (run only that method, print nothing).
"""

import argparse
import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from comfyui_stylegan_fusion import load_generator, save_generator, train_generator
from comfyui_stylegan_fusion.metrics.evaluation import frechet_distance
from comfyui_stylegan_fusion.miniature import GENERATORS, WEIGHTS
from comfyui_stylegan_fusion.miniature.classifier import load_classifier
from comfyui_stylegan_fusion.miniature.drawing import draw
from comfyui_stylegan_fusion.miniature.factors import DOMAINS, sample_factors
from comfyui_stylegan_fusion.miniature.metrics import diversity, fine_details, shares, smeared
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.settings import MINIATURE_SETTINGS, SDS_SETTINGS, MiniatureSettings, prompt_for
from comfyui_stylegan_fusion.miniature.stages import seeded
from comfyui_stylegan_fusion.sds import (
    DirectionalRegularizer,
    Editor,
    PicturesPrior,
    TargetPictures,
    make_targets,
)
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.sds.targets.pool import to_unit
from comfyui_stylegan_fusion.stylegan import render_samples, sample_z

SAMPLES = 2000
PAIRS = ("person-fox", "person-robot", "person-zombie", "person-doll", "person-cat", "cat-fox")
METHODS = ("targets", "sds", "sds-muon")  # the last by the optimizer and the guidance scale of the first


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), metavar="SOURCE-TARGET")
    parser.add_argument("--methods", nargs="+", default=["targets", "sds"], choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--steps", type=int, help="training steps towards targets, in place of the demo's")
    parser.add_argument("--targets", type=int, help="how many targets, in place of the demo's")
    parser.add_argument("--adversarial", type=float, help="strength of the discriminator, in place of the usual one")
    parser.add_argument(
        "--refresh", type=int, help="steps between refreshing targets, in place of the demo's; 0: never"
    )
    parser.add_argument("--scale", type=float, help="guidance scale of the edits, in place of the demo's")
    parser.add_argument("--diffusion", action="store_true", help="draw with the diffusion model itself, too")
    parser.add_argument("--folder", type=Path, default=Path("training-runs/quality"))
    parser.add_argument("--only", choices=METHODS, help="run only this method, print no table")
    options = parser.parse_args()
    preset = MINIATURE_SETTINGS
    preset = replace(
        preset,
        training=replace(preset.training, steps=options.steps or preset.training.steps),
        targets=replace(
            preset.targets,
            count=options.targets or preset.targets.count,
            refresh=preset.targets.refresh if options.refresh is None else options.refresh,
        ),
        target_scale=options.scale or preset.target_scale,
    )
    adversarial = TargetPictures.adversarial if options.adversarial is None else options.adversarial
    folder = options.folder / fingerprint(preset, adversarial)
    bench = Bench(folder, options.samples, preset, adversarial)
    pairs = [tuple(pair.split("-")) for pair in options.pairs]
    methods = [options.only] if options.only else options.methods
    for pair in pairs:
        for method in methods:
            for seed in options.seeds:
                bench.run(*pair, method, seed)
    if not options.only:
        print_table(bench, pairs, methods, options.seeds, options.diffusion)


def fingerprint(preset: MiniatureSettings, adversarial: float) -> str:
    """Of settings and weights: what other ones made is never taken for theirs."""
    digest = hashlib.sha256(repr((preset, SDS_SETTINGS, adversarial)).encode())
    for path in sorted((WEIGHTS / "diffusion").rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def source_file(source: str) -> Path:
    return GENERATORS["miniature" if source == "person" else f"miniature-{source}"]


@dataclass
class Look:
    """A Look is what is seen of a set of pictures."""

    features: torch.Tensor
    read_as: torch.Tensor  # domains
    background: torch.Tensor
    detail: float
    smeared: float
    outlines: dict[str, dict[str, float]]


class Bench:
    """Makes and keeps what is compared."""

    def __init__(
        self, folder: Path, samples: int, preset: MiniatureSettings, adversarial: float = TargetPictures.adversarial
    ):
        self.folder, self.count, self.preset, self.adversarial = folder, samples, preset, adversarial
        folder.mkdir(parents=True, exist_ok=True)
        self.judge, self._looks = load_classifier(), {}
        self._model = None

    @property
    def model(self) -> StableDiffusion:
        if self._model is None:
            self._model = StableDiffusion.load(WEIGHTS / "diffusion", decoder=True)
        return self._model

    def prior(self, source: str, target: str, scale: float) -> DiffusersPrior:
        return DiffusersPrior(self.model, prompt_for(target), prompt_for(source), scale)

    def editor(self, source: str, target: str) -> Editor:
        path = DiffusersPrior(self.model, prompt_for(source), "", 1.0)
        return Editor(self.prior(source, target, self.preset.target_scale), path)

    def generator(self, source: str):
        return load_generator(source_file(source))

    def targets(self, source: str, target: str, seed: int):
        made = replace(self.preset.targets, seed=seed)
        return make_targets(self.generator(source), self.editor(source, target), made)

    def run(self, source: str, target: str, method: str, seed: int) -> tuple[Path, dict]:
        """Return the adapted generator's file, trained when it is not there yet, and notes on it."""
        begun = hashlib.sha256(source_file(source).read_bytes()).hexdigest()[:8]
        path = self.folder / f"{source}-{begun}-{target}-{method}-{seed}.safetensors"
        notes = path.with_suffix(".json")
        if not (path.exists() and notes.exists()):
            start, kept = time.monotonic(), {}
            if method == "targets":
                targets = self.targets(source, target, seed)
                kept["making"] = time.monotonic() - start
                look = self.look(f"targets-{source}-{target}-{seed}", lambda: to_unit(targets.images), target)
                goal = self.rendered(target)
                kept["targets"] = frechet_distance(look.features, goal.features)
                kept["targets_detail"] = look.detail / goal.detail
                kept["targets_outlines"] = {
                    name: share / goal.outlines[target][name] for name, share in look.outlines[target].items()
                }
                start = time.monotonic() - kept["making"]
                settings = replace(self.preset.training, seed=seed)
                terms = [TargetPictures(targets=targets, adversarial=self.adversarial)]
                prior = PicturesPrior(targets.side, torch.device("cpu"))
            else:
                settings, scale = replace(SDS_SETTINGS.training, seed=seed), SDS_SETTINGS.guidance_scale
                if method == "sds-muon":
                    settings = replace(settings, optimizer="muon", learning_rate=0.0005)
                    scale = self.preset.target_scale
                prior = self.prior(source, target, scale)
                terms = [DirectionalRegularizer(SDS_SETTINGS.weights["directional"])]
            result = train_generator(self.generator(source), prior, settings, terms)
            kept["seconds"] = time.monotonic() - start
            save_generator(result.generator, path, {"prompt": prompt_for(target), "seed": str(seed)})
            notes.write_text(json.dumps(kept))
        return path, json.loads(notes.read_text())

    def samples(self, generator) -> torch.Tensor:
        return render_samples(generator, sample_z(generator.z_dim, self.count, seed=4242)).clamp(-1, 1)

    def look(self, name: str, make, domain: str) -> Look:
        if name not in self._looks:
            images = make()
            seen = self.judge.read(images)
            outlines = {domain: shares(images, seen, domain)}
            details = fine_details(images)
            blurred = smeared(details)
            of_all = seen.features, seen.domain.argmax(1), seen.background, details.mean().item(), blurred, outlines
            self._looks[name] = Look(*of_all)
        return self._looks[name]

    def frozen(self, source: str, target: str) -> Look:
        return self.look(f"frozen-{source}-{target}", lambda: self.samples(self.generator(source)), target)

    def rendered(self, domain: str) -> Look:
        return self.look(f"rendered-{domain}", lambda: render(sample_factors(self.count, seeded(4243), domain)), domain)

    def diffused(self, source: str, target: str) -> Look:
        """The diffusion model's own pictures (20 DDIM steps, the demo's guidance)."""
        prior = self.prior(source, target, self.preset.target_scale)
        return self.look(f"diffused-{source}-{target}", lambda: draw(prior, self.count // 4, 4244), target)


def print_table(bench: Bench, pairs, methods, seeds, diffusion: bool) -> None:
    print(f"Mean ± standard deviation over seeds {seeds}, {bench.count} samples each\n")
    print(
        "| pictures | distance | of frozen | read as it | diversity | detail | smeared | outlines, of rendered | background "
        "| time |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for source, target in pairs:
        goal, frozen = bench.rendered(target), bench.frozen(source, target)
        start = frechet_distance(frozen.features, goal.features)

        def row(label, looks, seconds="", moved=True, goal=goal, frozen=frozen, start=start, target=target):
            distance = torch.tensor([frechet_distance(look.features, goal.features) for look in looks])
            read = torch.tensor([(look.read_as == DOMAINS.index(target)).float().mean().item() for look in looks])
            spread = torch.tensor([diversity(look.features) / diversity(goal.features) for look in looks])
            detail = torch.tensor([look.detail / goal.detail for look in looks])
            blurred = torch.tensor([look.smeared for look in looks])
            outlines = ", ".join(
                f"{name} {torch.tensor([look.outlines[target][name] for look in looks]).mean() / share:.0%}"
                for name, share in goal.outlines[target].items()
            )
            background = "-"
            if moved:
                changes = [(look.background - frozen.background).norm(dim=1).mean() for look in looks]
                background = _cell(torch.stack(changes), ".3f")
            cells = [
                _cell(distance, ".1f"), _cell(distance / start, ".1%"), _cell(read, ".0%"), _cell(spread, ".0%"),
                _cell(detail, ".2f"), _cell(blurred, ".1%"), outlines, background, seconds,
            ]  # fmt: skip
            print(f"| {label} | {' | '.join(cells)} |")

        print(f"| **{source} to {target}** | | | | | | | | | |")
        row("frozen generator", [frozen], moved=False)
        if diffusion:
            row("the diffusion model's own", [bench.diffused(source, target)], moved=False)
        for method in methods:
            runs = [bench.run(source, target, method, seed) for seed in seeds]
            looks = [
                bench.look(path.stem, lambda path=path: bench.samples(load_generator(path)), target) for path, _ in runs
            ]
            seconds = [notes["seconds"] for _, notes in runs]
            row(method, looks, f"{sum(seconds) / len(seconds):.0f} s")
            if method == "targets":
                aimed = [f"{notes['targets']:.1f} ({notes['targets_detail']:.2f})" for _, notes in runs]
                outlines = ", ".join(
                    f"{name} {sum(notes['targets_outlines'][name] for _, notes in runs) / len(runs):.0%}"
                    for name in goal.outlines[target]
                )
                print(f"| their targets: distance (detail) | {', '.join(aimed)} | | | | | | {outlines} | | |")


def _cell(values: torch.Tensor, form: str) -> str:
    return f"{values.mean():{form}}" + (f" ± {values.std():{form}}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
