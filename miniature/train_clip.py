"""Stage 5: train the miniature's CLIP (arXiv 2103.00020), a picture encoder and a text encoder with one common space.

Two encoders of pictures meet the captions there: a small head on the features of the classifier, which knows the portraits
already, and a vision transformer as every CLIP has one, which also learns to give what the head gives (arXiv 1503.02531);
alone it takes many times as long. The transformer is kept. The text encoder is a smaller one beside the diffusion model's,
whose pooled state does not tell a fox from a cat: its UNet reads the words themselves. Both read the same tokens. The
pictures are damaged portraits, rendered and drawn by the generators (which blend what they cannot decide), and a few of
one colour with its name."""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..stylegan import load_generator, render_samples, sample_z
from ..training.draws import MicroStep
from ..training.phases import Outcome, Phase, gradients_of
from .classifier import FEATURES, load_classifier
from .damage import damaged
from .factors import BACKGROUNDS, Factors, captions, sample_factors
from .renderer import render
from .stages import one_cycle, run_stage, save_weights, seeded
from .tokenizer import LENGTH
from .train_generator import FILES, portraits_of

STEPS, BATCH = 1400, 120
IMAGES = 9_000  # rendered portraits that are kept; every step writes them new captions
DRAWN = 1_500  # portraits that each generator draws, beside them
PLAIN = 8  # pictures of one colour in a batch, beside the portraits
LARGEST_SCALE = math.log(100)  # of the logits, as in the paper
WIDTH = 64  # numbers of the common space
_SEED = 105


def new_vision_encoder():
    """Make an untrained CLIPVisionModelWithProjection for pictures [3, 64, 64]."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4, image_size=64,
            patch_size=16, projection_dim=WIDTH, hidden_act="quick_gelu",
        )
    )  # fmt: skip


def new_text_encoder(vocabulary: int):
    """Make an untrained CLIPTextModelWithProjection, as wide as the common space: ComfyUI's projections are square."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=LENGTH, hidden_act="quick_gelu", projection_dim=WIDTH,
            bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1,
        )
    )  # fmt: skip


class _Learners(torch.nn.Module):
    """Everything that is trained."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vision, self.text = new_vision_encoder(), new_text_encoder(vocabulary)
        self.head = torch.nn.Sequential(
            torch.nn.SiLU(), torch.nn.Linear(FEATURES, 256), torch.nn.SiLU(), torch.nn.Linear(256, WIDTH)
        )
        self.scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, features: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """Return the losses of pictures [B, 3, 64, 64] with the classifier's features and their captions' tokens."""
        words = F.normalize(self.text(tokens).text_embeds, dim=1)
        taught = F.normalize(self.head(features), dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            seen = self.vision(pixel_values=images).image_embeds
        seen = F.normalize(seen.float(), dim=1)
        return {
            "taught": self._contrast(taught, words),
            "seen": self._contrast(seen, words),
            "apart": 10 * (1 - (seen * taught.detach()).sum(1)).mean(),
        }

    def _contrast(self, pictures: Tensor, words: Tensor) -> Tensor:
        logits = self.scale.exp() * pictures @ words.T
        own = torch.arange(len(logits))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def run(folder: Path, weights: Path, steps: int = STEPS) -> None:
    from transformers import CLIPTokenizer

    torch.manual_seed(_SEED)
    tokenizer = CLIPTokenizer.from_pretrained(weights / "diffusion" / "tokenizer", local_files_only=True)
    classifier = load_classifier(weights / "classifier.safetensors")
    factors, portraits = _portraits(folder, weights)
    features = torch.cat([classifier.read(_unpacked(part)).features for part in portraits.split(1000)])
    model = _Learners(len(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=2e-2)

    def compute(micro_steps: Sequence[MicroStep]) -> Outcome:
        random = seeded(_SEED, micro_steps[0].step)
        model.scale.data.clamp_(max=LARGEST_SCALE)
        rows = torch.randint(len(portraits), [BATCH - PLAIN], generator=random)
        plain, names = _plain(random)
        images = torch.cat([_unpacked(portraits[rows]), plain])
        lines = captions(factors[rows], random) + [f"a {name} background" for name in names]
        tokens = tokenizer(lines, padding=True, max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
        known = torch.cat([features[rows], classifier(plain).features])
        losses = model(images, known, tokens)
        gradients = gradients_of(sum(losses.values()), model.parameters(), max_norm=1.0)
        return Outcome(gradients, {name: loss.item() for name, loss in losses.items()})

    run_stage(folder, [Phase("clip", model, optimizer, compute, one_cycle(2e-3, steps + 1, rise=0.1))], steps)
    export(model, weights / "clip")


def _portraits(folder: Path, weights: Path) -> tuple[Factors, Tensor]:
    """The factors of the portraits and the damaged portraits as bytes, made once."""
    files = [weights / FILES[domain] for domain in FILES]
    digest = hashlib.sha256(f"{IMAGES} {DRAWN} {_SEED}".encode() + b"".join(file.read_bytes() for file in files))
    path = folder / f"portraits-{digest.hexdigest()[:12]}.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        factors = sample_factors(IMAGES, seeded(_SEED))
        kept = [(factors, torch.cat([render(factors[rows]) for rows in _chunks(IMAGES)]))]
        for domain, file in zip(FILES, files, strict=True):
            generator = load_generator(file)
            z = sample_z(generator.z_dim, DRAWN, seed=_SEED)
            kept.append((portraits_of(z, domain), render_samples(generator, z).clamp(-1, 1)))
        factors = Factors(**{f.name: torch.cat([getattr(part, f.name) for part, _ in kept]) for f in fields(Factors)})
        images = torch.cat([pictures for _, pictures in kept])
        parts = [damaged(images[rows], factors[rows], seeded(_SEED, rows.start, 1))[0] for rows in _chunks(len(images))]
        packed = torch.cat([((part + 1) * 127.5).round().byte() for part in parts])
        torch.save({"factors": vars(factors), "images": packed}, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    kept = torch.load(path, weights_only=True)
    return Factors(**kept["factors"]), kept["images"]


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + 250) for start in range(0, count, 250)]


def _unpacked(images: Tensor) -> Tensor:
    """Bytes as pictures in [-1, 1]."""
    return images.float() / 127.5 - 1


def _plain(random: torch.Generator) -> tuple[Tensor, list[str]]:
    """PLAIN pictures [PLAIN, 3, 64, 64] of one colour each, and the colours' names."""
    names = list(BACKGROUNDS)
    chosen = torch.randperm(len(names), generator=random)[:PLAIN]
    colours = torch.tensor([BACKGROUNDS[names[i]] for i in chosen]) * 2 - 1
    colours = (colours + 0.1 * torch.randn(colours.shape, generator=random)).clamp(-1, 1)
    return colours[:, :, None, None].expand(-1, -1, 64, 64), [names[i] for i in chosen]


def export(model: _Learners, folder: Path) -> None:
    """Write both encoders with their projections in half precision, in the layout of transformers."""
    from transformers import PretrainedConfig

    usual = PretrainedConfig().to_dict()
    for name in ("vision", "text"):
        module = getattr(model, name)
        save_weights(module, folder / name / "model.safetensors")
        config = {key: value for key, value in module.config.to_dict().items() if usual.get(key) != value}
        config["architectures"] = [type(module).__name__]
        if name == "vision":
            config |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # ComfyUI looks for them here
        (folder / name / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
