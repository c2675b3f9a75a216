"""Does a domain learn a way of drawing that the model has never seen, and what does it cost? In-domain generation
(arXiv 2312.08195) beside the model with its best prompt, plain fine-tuning, prior-preserving fine-tuning and a LoRA.

    python benchmarks/domains.py [--counts 30 200] [--methods ...] [--seeds 0] [--file FILE] [--grid FILE]

Every cell is a line of JSON in domains.jsonl beside this file, under its settings and the weights' digest: a run goes on
where one was stopped.
Learning rates are chosen on a seed that does not score. The pictures are the miniature's, drawn with ink.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from comfyui_stylegan_fusion.domain.files import load_domain, save_domain
from comfyui_stylegan_fusion.domain.images import Pictures
from comfyui_stylegan_fusion.domain.learning import learn_domain
from comfyui_stylegan_fusion.domain.on_diffusers import DomainPrior, TextFreeUNet
from comfyui_stylegan_fusion.metrics.evaluation import frechet_distance
from comfyui_stylegan_fusion.metrics.figures import labelled_grid
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.classifier import load_classifier
from comfyui_stylegan_fusion.miniature.factors import ACCESSORIES, DOMAINS, HAIR_STYLES, sample_factors
from comfyui_stylegan_fusion.miniature.ink import render_ink
from comfyui_stylegan_fusion.miniature.metrics import diversity
from comfyui_stylegan_fusion.miniature.settings import LEARNING, prompt_for
from comfyui_stylegan_fusion.miniature.stages import seeded
from comfyui_stylegan_fusion.miniature.train_diffusion import encoded
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.sds.targets.editing import edited, noised
from comfyui_stylegan_fusion.training.digests import weights_digest
from comfyui_stylegan_fusion.training.low_rank import change

METHODS = ("base", "fine-tuning", "prior-preserving", "LoRA", "domain")
RATES = {"domain": (2e-4, 4e-4, 8e-4), "LoRA": (1e-3, 3e-3, 1e-2)}
RATES |= dict.fromkeys(("fine-tuning", "prior-preserving"), (1e-4, 2e-4, 4e-4))
PROMPTS = ("a portrait of a person", "a picture of a person", "portrait of a person, sad, on a grey background")
NAMED = "ink portrait of a person"  # what tuned models are given beside the pictures; no caption has the first word
ASKED = {
    "wearing a hat": ("accessory", ACCESSORIES.index("hat")),
    "wearing glasses": ("accessory", ACCESSORIES.index("glasses")),
    "wearing a scarf": ("accessory", ACCESSORIES.index("scarf")),
    "bald": ("hair", HAIR_STYLES.index("bald")),
    "with long brown hair": ("hair", HAIR_STYLES.index("long")),
    "with curly black hair": ("hair", HAIR_STYLES.index("curly")),
}
SCALE, DOMAIN_SCALE, LEVELS, LAYOUT = 2.0, 2.0, 8, 0.7
SELECTING = 10  # the seed on which rates are chosen
SAMPLES, FEWER, OF_EACH = 150, 60, 8


class Captioned(TextFreeUNet):
    """Captioned is a UNet that learns pictures under a caption, and beside them what it draws by itself."""

    def __init__(self, model, denoiser, prior_latents=None):
        super().__init__(model, denoiser)
        self.words = {text: model.texts[0].encode(text)[0] for text in (NAMED, PROMPTS[0])}
        self._states, self.prior_latents = self.words[NAMED], prior_latents
        self.random = seeded(55)

    def loss(self, z, eps, t):
        if self.prior_latents is None:
            return super().loss(z, eps, t)
        rows = torch.randint(len(self.prior_latents), [len(z)], generator=self.random)
        kept = self.prior_latents[rows]
        own = super().loss(z, eps, t)
        self._states = self.words[PROMPTS[0]]
        preserved = super().loss(kept, torch.randn(kept.shape, generator=self.random), t)
        self._states = self.words[NAMED]
        return own + preserved


class Bench:
    """Trains, draws and measures."""

    def __init__(self, file: Path):
        self.file, self.judge = file, load_classifier()
        self.model = StableDiffusion.load(WEIGHTS / "diffusion", decoder=True)
        self.digest = weights_digest(self.model.unet)[:12]
        self.lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        goal = sample_factors(1000, seeded(4243), "person")
        self.goal = self.judge.read(render_ink(goal))
        self._prior_latents = None

    def cell(self, make: Callable[[], dict], **key) -> dict:
        """Return what a cell measured, measured now where no line says it."""
        key = {**key, "weights": self.digest}
        known = next((line["found"] for line in self.lines if line["key"] == key), None)
        if known is None:
            start = time.process_time()
            known = make() | {"seconds": round(time.process_time() - start)}
            self.lines.append({"key": key, "found": known})
            with self.file.open("a") as out:
                out.write(json.dumps(self.lines[-1]) + "\n")
            print(key, {name: value for name, value in known.items() if name != "curve"}, flush=True)
        return known

    @staticmethod
    def domain_file(count: int, seed: int) -> Path:
        return Path("training-runs") / f"domain-{count}-{seed}.safetensors"

    def pictures(self, count: int) -> Pictures:
        factors = sample_factors(count, seeded(77, count), "person")
        versions = [encoded(self.model.vae, factors, draw) for draw in (render_ink, lambda f: render_ink(f).flip(-1))]
        return Pictures((torch.stack(versions, 1),), 64)

    def prior_latents(self):
        if self._prior_latents is None:
            prior = DiffusersPrior(self.model, PROMPTS[0], "", SCALE)
            self._prior_latents = self.latents(prior, 60, 900)
        return self._prior_latents

    def trained(self, method: str, count: int, rate: float, seed: int, at: float = SCALE) -> Callable:
        """Train, and return what makes a prior of (prompt, scale), with the style unless it is switched off."""
        settings = replace(LEARNING, learning_rate=rate, seed=seed, rank=8 if method == "LoRA" else 0)
        pictures = self.pictures(count)
        if method == "domain":
            score = TextFreeUNet.copied(self.model)
            removals = score.take_out_text(pictures.buckets[0][:, 0])
            learned = learn_domain(score, pictures, settings)
            path = self.domain_file(count, seed)
            save_domain(score.domain(removals, learned.weights, {}), path)
            return self.with_domain(TextFreeUNet.of(self.model, load_domain(path)), at)
        kept = self.prior_latents() if method == "prior-preserving" else None
        score = Captioned(self.model, TextFreeUNet.copied(self.model).denoiser, kept)
        with_average = learn_domain(score, pictures, settings)
        parameters = dict(score.denoiser.named_parameters())
        for name, value in with_average.weights.items():
            if name in parameters:
                parameters[name].data.copy_(value)
        modules = dict(score.denoiser.named_modules())
        for name, down in with_average.weights.items():
            if name.endswith(".down"):  # the change lives on as a hook until the weights have it
                layer = modules[name.removesuffix(".down")]
                layer._forward_hooks.clear()
                layer.weight.data.add_(change(down, with_average.weights[f"{name.removesuffix('.down')}.up"]))
        tuned = replace(self.model, unet=score.denoiser.requires_grad_(False))

        def prior(more: str = "", domain: str = "person", styled: bool = True):
            prompt = (NAMED if styled else PROMPTS[0]).replace("person", domain)
            return DiffusersPrior(tuned, f"{prompt}, {more}" if more else prompt, "", at)

        return prior

    def with_domain(self, copy, domain_scale: float = DOMAIN_SCALE) -> Callable:
        def prior(more: str = "", domain: str = "person", styled: bool = True):
            if not styled:
                return DiffusersPrior(self.model, prompt_for(domain), "", SCALE)
            if not more and domain == "person":  # unconditional, as the paper's
                return DomainPrior(self.model, "", "", 0.0, copy, domain_scale)
            return DomainPrior(
                self.model,
                f"{prompt_for(domain)}, {more}" if more else prompt_for(domain),
                "",
                SCALE,
                copy,
                domain_scale,
            )

        return prior

    def base(self, prompt: str) -> Callable:
        def prior(more: str = "", domain: str = "person", styled: bool = True):
            asked = prompt.replace("person", domain)
            return DiffusersPrior(self.model, f"{asked}, {more}" if more else asked, "", SCALE)

        return prior

    def latents(self, prior, count: int, seed: int) -> torch.Tensor:
        levels = [0.98 * (level + 1) / LEVELS for level in range(LEVELS)]
        noise = torch.randn(count, 4, 16, 16, generator=seeded(seed))
        return torch.cat([edited(prior, part, levels) for part in noise.split(25)])

    def drawn(self, prior, count: int, seed: int) -> torch.Tensor:
        return torch.cat([prior.decode(part) for part in self.latents(prior, count, seed).split(50)]).clamp(-1, 1)

    def distance(self, prior, count: int, seed: int) -> dict:
        seen = self.judge.read(self.drawn(prior, count, seed))
        found = frechet_distance(seen.features, self.goal.features)
        return {"distance": found, "diversity": diversity(seen.features) / diversity(self.goal.features)}

    def curve(self, prior: Callable) -> dict:
        """Measure one place of the trade-off: likeness, and the attributes that are asked for."""
        return self.distance(prior(), FEWER, 1) | {"text": self.asked(prior)}

    def asked(self, prior: Callable) -> float:
        """Return the share of pictures that show the attribute they were asked for."""
        found = []
        for number, (more, (reading, wanted)) in enumerate(ASKED.items()):
            seen = self.judge.read(self.drawn(prior(more), OF_EACH, 100 + number))
            found.append((getattr(seen, reading).argmax(1) == wanted).float().mean().item())
        return sum(found) / len(found)

    def scored(self, prior: Callable) -> dict:
        """Measure a way of drawing: unconditional, asked for attributes, along a layout, and in other domains."""
        found = self.distance(prior(), SAMPLES, 1)
        found["text"] = self.asked(prior)
        layout = sample_factors(40, seeded(31), "person")
        z_t = noised(prior(), encoded(self.model.vae, layout), LAYOUT, seeded(32))
        levels = [LAYOUT * (level + 1) / LEVELS for level in range(LEVELS)]
        images = prior().decode(edited(prior(), z_t, levels)).clamp(-1, 1)
        place = self.judge.read(images).position
        found["layout"] = (place - torch.stack([layout.x, layout.y], 1)).norm(dim=1).mean().item()
        for name, styled in (("others", False), ("others in ink", True)):
            shares = []
            for number, domain in enumerate(DOMAINS[1:]):
                seen = self.judge.read(self.drawn(prior("", domain, styled), OF_EACH, 200 + number))
                shares.append((seen.domain.argmax(1) == number + 1).float().mean().item())
            found[name] = sum(shares) / len(shares)
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", nargs="+", type=int, default=[30, 200], help="pictures that are learned")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--scales", nargs="*", type=float, default=[1, 1.5, 2.5, 3.5], help="of the trade-off over s_d")
    parser.add_argument(
        "--at", type=float, default=SCALE, help="guidance scale of what is scored: a domain's s_d, of others the text's"
    )
    parser.add_argument("--file", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--grid", type=Path, help="draw the first pictures of each method")
    options = parser.parse_args()
    options.file.parent.mkdir(parents=True, exist_ok=True)
    bench, table, grid = Bench(options.file), [], {}
    true = sample_factors(SAMPLES, seeded(99), "person")
    seen = bench.judge.read(render_ink(true))
    print(f"{SAMPLES} others drawn with ink: {frechet_distance(seen.features, bench.goal.features):.1f}")
    for method in options.methods:
        if method == "base":
            chosen = {
                prompt: bench.cell(
                    lambda prompt=prompt: bench.distance(bench.base(prompt)(), FEWER, SELECTING),
                    method=method,
                    prompt=prompt,
                )["distance"]
                for prompt in PROMPTS
            }
            best = min(chosen, key=chosen.get)
            table.append(
                (
                    method,
                    0,
                    best,
                    [bench.cell(lambda best=best: bench.scored(bench.base(best)), method=method, scored=best)],
                )
            )
            grid[method] = bench.base(best)
            continue
        chosen = {
            rate: bench.cell(
                lambda method=method, rate=rate: bench.distance(
                    bench.trained(method, 30, rate, SELECTING)(), FEWER, SELECTING
                ),
                method=method,
                rate=rate,
            )["distance"]
            for rate in RATES[method]
        }
        best = min(chosen, key=chosen.get)
        for count in options.counts:
            rows = []
            for seed in options.seeds:

                def score(method=method, count=count, seed=seed, rate=best):
                    prior = grid[method] = bench.trained(method, count, rate, seed, options.at)
                    return bench.scored(prior)

                at = {"at": options.at} if options.at != SCALE else {}
                rows.append(bench.cell(score, method=method, count=count, seed=seed, rate=best, **at))
            table.append((method, count, f"{best:g}", rows))
    rates = {count: float(chosen) for method, count, chosen, _ in table if method == "domain"}
    for count, rate in rates.items() if options.scales else ():
        path = bench.domain_file(count, options.seeds[0])
        if not path.exists():
            bench.trained("domain", count, rate, options.seeds[0])
        copy = TextFreeUNet.of(bench.model, load_domain(path))
        for scale in options.scales:
            bench.cell(
                lambda scale=scale, copy=copy: bench.curve(bench.with_domain(copy, scale)),
                method="curve",
                count=count,
                scale=scale,
            )
    print("\n| method | pictures | chosen | distance | diversity | text | layout | others | others in ink |")
    print("|---|---|---|---|---|---|---|---|---|")
    for method, count, chosen, rows in table:
        mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        print(
            f"| {method} | {count or '-'} | {chosen} | {mean['distance']:.1f} | {mean['diversity']:.0%} | {mean['text']:.0%} | "
            f"{mean['layout']:.3f} | {mean['others']:.0%} | {mean['others in ink']:.0%} |"
        )
    if options.grid:
        rows = [render_ink(true[:10]), *(bench.drawn(prior(), 10, 1) for prior in grid.values())]
        labelled_grid(torch.stack(rows), ["drawn with ink", *grid], [], 96).save(options.grid)


if __name__ == "__main__":
    main()
