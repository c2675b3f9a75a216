"""The directional loss of StyleGAN-NADA (Gal et al., arXiv 2108.00946): CLIP in the place of a diffusion model."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...metrics.clip import ImageEncoder
from ...training.settings import setting
from .base import ImageTerm, Surroundings, View
from .targets import PIXELS_OF_A_LATENT

TEMPLATES = (
    "{}",
    "a picture of {}",
    "a photo of {}",
    "a close-up of {}",
    "a cropped picture of {}",
    "a good picture of {}",
    "a blurred photo of {}",
    "a bright photo of {}",
    "a dark photo of {}",
    "one of many pictures of {}",
)
"""Phrasings whose embeddings are averaged: what they share drops out of the difference of two texts."""

SHORTEST = 0.1
"""The length of an image's movement in CLIP's space below which its direction counts less: where the trained generator
still draws what the frozen one does there is no direction, and the gradient of the cosine has no bound."""

PULL = 1 / 8
"""What the pull for each latent place is multiplied by, so that the weight 1 pulls about as strongly as score
distillation does: on the miniature the norm of a picture's gradient is 10 at first and below 1 once it has become what the
text says, where that of score distillation is 3 to 8."""


class Encoder(Protocol):
    """An Encoder stands for an ImageEncoder that may not be on the training's device, nor copied yet."""

    digest: str  # what tells its weights from others

    def copied(self) -> ImageEncoder:
        """Return the encoder that a training may move to its device."""
        ...


@dataclass(frozen=True)
class ClipDirectional(ImageTerm):
    """ClipDirectional moves each picture, in the space of a CLIP, from the frozen generator's along the line from one
    text to another: 1 - cos(E_I(x_train) - E_I(x_frozen), E_T(target) - E_T(source)), each embedding of unit length.
    Several models are several terms, whose pulls add up."""

    weight: float = setting(
        1.0,
        "Strength. Alone any does the same with Adam; beside score distillation or targets 1 pulls about as strongly.",
        what="The CLIP directional weight",
        wants="give 0 or more",
        least=0,
        added_later=False,
        shown=(0.0, 100.0, 0.05),
    )
    encoder: Encoder | None = None
    direction: Tensor | None = None  # [D], from the source to the target
    source: str = ""  # the texts behind it
    target: str = ""
    phrasings: int = 1  # how many of each text

    kind: ClassVar[str] = "clip directional"
    title: ClassVar[str] = "How far from the direction of the texts"
    role: ClassVar[str] = "distillation"
    by_name: ClassVar[bool] = False
    summary: ClassVar[str] = "CLIP's direction from one text to another, without a diffusion model"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "frozen_images"})

    def __post_init__(self):
        super().__post_init__()
        if self.encoder is None or self.direction is None:
            raise ValueError("The CLIP directional loss needs a CLIP and two texts; make it with ClipDirectional.of.")

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        embed: Callable[[str], Tensor],
        source: str,
        target: str,
        weight: float = 1.0,
        phrased: bool = True,
    ) -> "ClipDirectional":
        """Make the term of two texts, which `embed` takes to the [D] of the encoder's space; `phrased` averages each over
        TEMPLATES. Raises ValueError for texts that name no direction."""
        source, target = source.strip(), target.strip()
        for name, text in (("source", source), ("target", target)):
            if not text:
                raise ValueError(
                    f"The {name} text is empty: CLIP compares what the generator draws as it is with what it shall draw; "
                    "write both, a portrait of a person and a portrait of a fox for example."
                )
        templates = TEMPLATES if phrased else TEMPLATES[:1]
        direction = text_direction(embed, source, target, templates)
        return cls(weight, encoder, direction, source, target, len(templates))

    def distance(self, view: View) -> Tensor:
        """Return the loss [B] of the images. The encoder goes to their device and stays there until release()."""
        encoder = self.encoder.to(view.images.device)
        with torch.no_grad():
            before = F.normalize(encoder(view.frozen_images), dim=1)
        moved = F.normalize(encoder(view.images), dim=1) - before
        return directional_loss(moved, self.direction.to(moved.device))

    def pull(self, view: View) -> float:
        return self.weight * PULL * view.images[0, 0].numel() / PIXELS_OF_A_LATENT

    @property
    def prompt(self) -> str:
        return self.target

    def own(self, around: Surroundings) -> "ClipDirectional":
        return dataclasses.replace(self, encoder=self.encoder.copied())

    def release(self) -> None:
        self.encoder.to(torch.device("cpu"))

    def memory(self, images: Tensor) -> tuple[int, int]:
        return self.encoder.memory(images)

    def describe(self) -> dict:
        return {
            "term": self.kind,
            "weight": self.weight,
            "clip": self.encoder.digest,
            "source": self.source,
            "target": self.target,
            "phrasings": self.phrasings,
        }


def text_direction(embed: Callable[[str], Tensor], source: str, target: str, templates=TEMPLATES) -> Tensor:
    """Return the direction [D], of unit length, from one text to another: the difference of their embeddings, each of
    unit length, averaged over templates. Raises ValueError where there is none."""
    ends = [
        torch.stack([F.normalize(embed(template.format(text)).float(), dim=0) for template in templates]).mean(0)
        for text in (source, target)
    ]
    direction = ends[1] - ends[0]
    length = direction.norm()
    if not length.isfinite() or length < 1e-4:
        raise ValueError(
            f"To this CLIP {source!r} and {target!r} are the same; write what the generator draws as it is, and what it "
            "shall draw."
        )
    return direction / length


def directional_loss(moved: Tensor, direction: Tensor) -> Tensor:
    """Return 1 - cos(moved, direction) [B] of movements [B, D] and a direction [D] of unit length, with
    sqrt(|moved|^2 + SHORTEST^2) in the place of |moved|: finite gradients where nothing has moved."""
    return 1 - moved @ direction / (moved.square().sum(1) + SHORTEST**2).sqrt()
