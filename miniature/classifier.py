"""The judge of the miniature world: a small network that reads domain and factors off a picture.

Its features measure quality (Fréchet distance, diversity) and its readings measure faithfulness. It is trained first, on
renders and on blurred, noisy, recoloured and recompressed copies of them, so that soft pictures are still read rightly.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from .factors import ACCESSORIES, DOMAINS, HAIR_STYLES

FEATURES = 128
READINGS = ("domain", "hair", "accessory", "background", "surface", "position", "size", "pose", "light", "face")


@dataclass
class Readings:
    """Readings are what the classifier sees in B pictures."""

    features: Tensor  # [B, FEATURES], for distances between sets of pictures
    domain: Tensor  # [B, 6] logits over DOMAINS
    hair: Tensor  # [B, 4] logits over HAIR_STYLES (person, zombie and doll only)
    accessory: Tensor  # [B, 4] logits over ACCESSORIES
    background: Tensor  # [B, 3] colour in [0, 1]
    surface: Tensor  # [B, 3] colour in [0, 1]
    position: Tensor  # [B, 2] x and y in half image widths
    size: Tensor  # [B, 1]
    pose: Tensor  # [B, 2] tilt in radians, yaw from -1 to 1
    light: Tensor  # [B, 1] -1 to 1
    face: Tensor  # [B, 3] eye size, smile, open mouth


_WIDTHS = {"domain": len(DOMAINS), "hair": len(HAIR_STYLES), "accessory": len(ACCESSORIES), "background": 3, "surface": 3,
           "position": 2, "size": 1, "pose": 2, "light": 1, "face": 3}  # fmt: skip


class Classifier(nn.Module):
    """A Classifier takes pictures [B, 3, 64, 64] in [-1, 1] to Readings."""

    def __init__(self, width: int = 32):
        super().__init__()
        w = width
        self.stem = _conv(3, w, 2)
        self.stages = nn.ModuleList([_Residual(w, 2 * w), _Residual(2 * w, 3 * w), _Residual(3 * w, 4 * w)])
        self.embed = nn.Linear(4 * w * 16, FEATURES)
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, _WIDTHS[name]) for name in READINGS})

    def forward(self, images: Tensor) -> Readings:
        features = self.embed(self.layers(images)[-1].flatten(1))
        hidden = F.silu(features)
        return Readings(features=features, **{name: head(hidden) for name, head in self.heads.items()})

    def layers(self, images: Tensor) -> list[Tensor]:
        """Return what stem and stages make of pictures [B, 3, H, W] of any size from 16 pixels up:
        [B, C, H/2, W/2] to [B, C, H/16, W/16]."""
        outputs = [self.stem(images)]
        for stage in self.stages:
            outputs.append(stage(outputs[-1]))
        return outputs

    @torch.no_grad()
    def read(self, images: Tensor, batch_size: int = 250) -> Readings:
        """Return the readings of any number of pictures, without gradients."""
        parts = [self(chunk) for chunk in images.split(batch_size)]
        return Readings(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in ("features", *READINGS)}
        )


def _conv(inputs, outputs, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(outputs // 16, outputs), nn.SiLU()
    )


class _Residual(nn.Module):
    """Halves the resolution."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.body = nn.Sequential(_conv(inputs, outputs, 2), _conv(outputs, outputs))
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        return self.body(x) + self.skip(F.avg_pool2d(x, 2, ceil_mode=True))


def load_classifier(path: Path | None = None) -> Classifier:
    """Load the bundled classifier (or the one at `path`), ready to judge."""
    from . import WEIGHTS

    with safe_open(path or WEIGHTS / "classifier.safetensors", framework="pt") as file:
        settings = json.loads(file.metadata()["config"])
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  (not a mapping)
    model = Classifier(**settings)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)
