"""What the study measures of pictures: against rendered ones of the target, and beside the frozen generator's."""

from pathlib import Path

import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.cli.clip import Clip
from comfyui_stylegan_fusion.metrics.evaluation import clip_score, frechet_distance, kernel_distance, phrases_of
from comfyui_stylegan_fusion.miniature import GENERATORS, WEIGHTS
from comfyui_stylegan_fusion.miniature.classifier import Readings, load_classifier
from comfyui_stylegan_fusion.miniature.drawing import draw
from comfyui_stylegan_fusion.miniature.factors import ACCESSORIES, BACKGROUNDS, DOMAINS, sample_factors
from comfyui_stylegan_fusion.miniature.lora import GOLDEN_STATUE, goldness, render_statues
from comfyui_stylegan_fusion.miniature.metrics import diversity, fine_detail, shares
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.settings import prompt_for
from comfyui_stylegan_fusion.miniature.stages import seeded
from comfyui_stylegan_fusion.sds import equations
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, ExtraPrompt, StableDiffusion
from comfyui_stylegan_fusion.sds.priors.lora import LoRA
from comfyui_stylegan_fusion.sds.targets.editing import edited, timesteps_up_to
from comfyui_stylegan_fusion.stylegan import render_samples, sample_z
from comfyui_stylegan_fusion.training.digests import weights_digest
from safetensors.torch import load_file, save_file
from study_cells import EDITED, STATUE, Cell

GOLDEN = 0.35
"""How golden the middle of a face is at least that is read as a statue's: of statues it is .5, of persons .1 to .2."""


class Measures:
    """Measures draw the pictures that others are measured against, and keep them, edited ones in a folder."""

    def __init__(self, folder: Path, samples: int):
        self.folder, self.count = folder, samples
        self.judge, self._looks, self._kept = load_classifier(), {}, {}

    def once(self, name: str, make):
        """Return what `make` gives, the same each time."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def model(self, target: str = "") -> StableDiffusion:
        """Return the diffusion model, the one that is tuned on statues for these."""
        loras = [LoRA(GOLDEN_STATUE)] if target == STATUE else []
        return self.once(
            f"model {bool(loras)}", lambda: StableDiffusion.load(WEIGHTS / "diffusion", decoder=True, loras=loras)
        )

    def digest(self, source: str, target: str = "") -> str:
        """Return what tells the weights that a cell stands on from others."""
        tuned = STATUE if target == STATUE else ""
        return self.once(
            f"digest {source} {tuned}",
            lambda: "-".join(weights_digest(part)[:8] for part in (self.model(target).unet, self.generator(source))),
        )

    def clip(self) -> Clip:
        return self.once("CLIP", lambda: Clip("miniature", torch.device("cpu")))

    def generator(self, source: str):
        return load_generator(GENERATORS["miniature" if source == "person" else f"miniature-{source}"])

    def prior(self, cell: Cell) -> DiffusersPrior:
        negative = prompt_for(cell.source) if cell.negative is None else cell.negative
        extra = [ExtraPrompt("extra prompt 1", cell.extra, 0.0)] if cell.extra else []
        return DiffusersPrior(self.model(cell.target), cell.wanted, negative, cell.scale, None, extra)

    def samples(self, generator) -> torch.Tensor:
        return render_samples(generator, sample_z(generator.z_dim, self.count, seed=4242)).clamp(-1, 1)

    def seen(self, name: str, make) -> tuple[torch.Tensor, object]:
        """Pictures and what the judge reads in them, kept by name."""
        if name not in self._looks:
            images = make()
            self._looks[name] = images, self.judge.read(images)
        return self._looks[name]

    def rendered(self, domain: str):
        drawing, shown = (render_statues, "person") if domain == STATUE else (render, domain)
        return self.seen(f"rendered {domain}", lambda: drawing(sample_factors(2000, seeded(4243), shown)))

    def frozen(self, source: str):
        return self.seen(f"frozen {source}", lambda: self.samples(self.generator(source)))

    @torch.no_grad()
    def edited(self, cell: Cell, seed: int) -> torch.Tensor:
        """Draw the frozen generator's samples again from image to image, each with a noise of its own."""
        random, prior, pictures = seeded(seed, 17), self.prior(cell), []
        timesteps = timesteps_up_to(cell.edit, 10)
        for images in self.frozen(cell.source)[0].split(50):
            z = prior.encode(images)
            alpha, sigma = prior.schedule(timesteps[-1])
            z_t = equations.add_noise(z, torch.randn(z.shape, generator=random), alpha, sigma)
            pictures.append(prior.decode(edited(prior, z_t, timesteps)).clamp(-1, 1))
        return torch.cat(pictures)

    def to_edits(self, features: torch.Tensor, cell: Cell) -> dict[str, float]:
        """Return the distances from image to image at several strengths."""
        found = {}
        for strength in EDITED:
            pair = f"{cell.source}-{cell.target}"
            path = self.folder / f"edited-{pair}-{strength}-{self.digest(cell.source, cell.target)}.safetensors"
            if not path.exists():
                images = self.edited(Cell.parse(f"{pair} edited(strength={strength}) scale=2"), 1)
                self.folder.mkdir(parents=True, exist_ok=True)
                save_file({"features": self.judge.read(images).features}, path)
            found[str(strength)] = frechet_distance(features, load_file(path)["features"])
        return found

    def compare(self, images: torch.Tensor, cell: Cell, moved: bool = False) -> dict:
        """Measure pictures against rendered ones of the target, and what they kept of the frozen samples."""
        seen, source, target = self.judge.read(images), cell.source, cell.target
        (goal_images, goal), (_, frozen) = self.rendered(target), self.frozen(source)
        start = frechet_distance(frozen.features, goal.features)
        distance = frechet_distance(seen.features, goal.features)
        shape = "person" if target == STATUE else target
        outlines, true = shares(images, seen, shape), shares(goal_images, goal, shape)
        clip = self.clip()
        embedded = clip.embed_images(images[:500])
        # Not the judge's features: those of the diffusion model's encoder.
        coded, goal_coded = (self.encoded(some[:500]) for some in (images, goal_images))
        found = {
            "distance": distance,
            "of_frozen": distance / start,
            "kernel": kernel_distance(seen.features, goal.features).value,
            "read": read_as(target, images, seen),
            "diversity": diversity(seen.features) / diversity(goal.features),
            "coded_diversity": diversity(coded) / diversity(goal_coded),
            "detail": fine_detail(images) / fine_detail(goal_images),
            "outlines": {name: share / true[name] for name, share in outlines.items()},
        }
        if target != STATUE:  # of which CLIP knows nothing
            found["clip"] = clip_score(embedded, clip.embed_text(prompt_for(target))).value
        if cell.edits:
            found["to_edits"] = self.to_edits(seen.features, cell)
        if cell.prompt:
            found["phrases"] = {
                phrase: clip_score(embedded, clip.embed_text(phrase)).value for phrase in phrases_of(cell.prompt)
            }
            found["shown"] = {
                phrase: share
                for phrase in phrases_of(cell.prompt)
                if (share := share_showing(phrase, seen)) is not None
            }
        if moved:
            found["background"] = (seen.background - frozen.background).norm(dim=1).mean().item()
            found["position"] = (seen.position - frozen.position).norm(dim=1).mean().item()
        return rounded(found)

    def course(self, images: torch.Tensor, cell: Cell) -> dict:
        """Measure a training on its way, on fewer pictures."""
        seen, (goal_images, goal) = self.judge.read(images), self.rendered(cell.target)
        found = {
            "distance": frechet_distance(seen.features, goal.features),
            "read": read_as(cell.target, images, seen),
            "diversity": diversity(seen.features) / diversity(goal.features),
            "detail": fine_detail(images) / fine_detail(goal_images),
        }
        return rounded(found)

    @torch.no_grad()
    def encoded(self, images: torch.Tensor) -> torch.Tensor:
        vae = self.model().vae
        return torch.cat([vae.encode(part).latent_dist.mode().flatten(1) for part in images.split(100)])

    def floor(self, source: str, target: str, scale: float) -> dict:
        """What the diffusion model's own pictures come to, by 20 steps of DDIM."""
        cell = Cell.parse(f"{source}-{target} scale={scale}")
        return self.compare(draw(self.prior(cell), 500, 4244), cell)


def read_as(target: str, images: torch.Tensor, seen: Readings) -> float:
    """Return the share of pictures that the judge reads as the target, and of statues that are as golden."""
    if target == STATUE:
        return (goldness(images) > GOLDEN).float().mean().item()
    return share_showing(target, seen)


def share_showing(phrase: str, seen: Readings) -> float | None:
    """Return the share of pictures that show what a phrase of a caption says, as the judge reads them; None where it
    cannot tell: smiles, for one."""
    words = phrase.split()
    if words[0] == "wearing" and words[-1] in ACCESSORIES:
        return (seen.accessory.argmax(1) == ACCESSORIES.index(words[-1])).float().mean().item()
    if words[-1] == "background":
        nearest = torch.cdist(seen.background, torch.tensor([*BACKGROUNDS.values()])).argmin(1)
        return (nearest == [*BACKGROUNDS].index(words[-2])).float().mean().item()
    if words[-1] in DOMAINS:
        return (seen.domain.argmax(1) == DOMAINS.index(words[-1])).float().mean().item()
    return None


def rounded(value):
    """Return numbers, or what a dictionary has of them, to four digits."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return float(f"{value:.4g}")
