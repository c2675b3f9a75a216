"""Targets as a term: the pictures that the generator shall draw are there before it is trained."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from ...metrics.lpips import Features, distance
from ...training.phases import Phase
from ...training.settings import setting
from ..discriminator import HEAD_START, PAIRS, Discriminator
from ..targets.pool import Targets
from .base import ImageTerm, LatentTerm, Surroundings, Term, View

LENGTH_OF_EDGES = 4
"""How long the gradient of the edges' differences is beside that of the pixels' (measured)."""

PIXELS_OF_A_LATENT = 64
"""Pixels for one place of the latents of Stable Diffusion, by which pulls on pictures and on latents compare."""


@dataclass(frozen=True)
class _WithTargets(Term):
    """A term that has targets, whose codes a batch is then drawn from."""

    targets: Targets | None = None

    role: ClassVar[str] = "distillation"
    by_name: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        if self.targets is None:
            raise ValueError("A training towards targets needs some; make them first.")

    @property
    def pool(self) -> Targets:
        return self.targets

    def own(self, around: Surroundings) -> Term:
        if self.targets.refresher is None:
            return self
        return dataclasses.replace(self, targets=dataclasses.replace(self.targets, images=self.targets.images.clone()))

    def describe(self) -> dict:
        refresher, described = self.targets.refresher, super().describe()
        if refresher is not None:
            described["refresh"] = refresher.every
            if refresher.share < 1:  # earlier versions knew no other
                described["refresh_share"] = refresher.share
        return described


@dataclass(frozen=True)
class TargetPictures(_WithTargets, ImageTerm):
    """TargetPictures pulls each picture to its target: absolute differences of pixels and of their edges at three
    scales, LPIPS where there are features for it, and a discriminator that learns what still tells pictures from targets:
    differences alone leave what is hard to draw blurred. A batch is then drawn from the targets' codes.

    The pull of a picture is that of its mean difference times its number of latent places: each place pulls about as
    strongly as SDS does at most, whatever the size."""

    edges: float = setting(
        1.0,
        "Strength of the edges' differences beside the pixels'.",
        what="The strength of edges",
        least=0,
        shown=(0.0, 100.0, 0.05),
    )
    perceptual: float = setting(
        1.0,
        "Strength of LPIPS beside the pixels' differences, where there are features for it.",
        what="The strength of LPIPS",
        least=0,
        shown=(0.0, 100.0, 0.05),
    )
    features: Features | None = None  # the network that compares pictures beside their pixels; None: pixels alone
    adversarial: float = setting(
        0.5,
        "Strength of the discriminator, a small network that learns to tell pictures from targets, beside the differences: "
        "sharper outlines, open eyes. 0 goes without it.",
        what="The strength of the discriminator",
        least=0,
        shown=(0.0, 100.0, 0.05),
        option="--adversarial",
    )
    discriminator: Discriminator | None = None  # that of a training

    kind: ClassVar[str] = "targets"
    title: ClassVar[str] = "How far from the targets"
    summary: ClassVar[str] = "pictures that the diffusion model made beforehand"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "targets"})

    def distance(self, view: View) -> Tensor:
        """Return the difference [B] of the images from their targets."""
        images, targets = view.images, view.targets
        total = mean_difference(images, targets) + self.edges * edge_difference(images, targets)
        if self.features is not None and self.perceptual > 0:
            total = total + self.perceptual * distance(self.features, images, targets)
        if self.discriminator is not None and view.progress >= HEAD_START:
            strength = self.adversarial * (1 + LENGTH_OF_EDGES * self.edges)
            towards = (images * self.discriminator.pull(images, targets)).flatten(1).sum(1)
            total = total + strength * (towards - towards.detach())  # a pull without a value
        return total

    def own(self, around: Surroundings) -> Term:
        term = super().own(around)
        if self.adversarial == 0:
            return term
        prior = around.prior
        found = Discriminator(around.settings, around.memory, prior.image_size, prior.device)
        return dataclasses.replace(term, discriminator=found)

    @property
    def keeps(self) -> Sequence[str]:
        return PAIRS if self.adversarial else ()

    def phases(self) -> Sequence[Phase]:
        return [self.discriminator.phase()] if self.discriminator else []

    def memory(self, images: Tensor) -> tuple[int, int]:
        return self.discriminator.memory(images) if self.discriminator else (0, 0)

    def describe(self) -> dict:
        described = super().describe()
        for name in ("discriminator", "adversarial"):
            described.pop(name, None)
        # Said wherever there is one, also at its default: earlier versions had none.
        return described | ({"adversarial": self.adversarial} if self.adversarial else {})

    def pull(self, view: View) -> float:
        return self.weight * view.images[0, 0].numel() / PIXELS_OF_A_LATENT

    def release(self) -> None:
        if self.features is not None:
            self.features.to(self.targets.codes.device)


@dataclass(frozen=True)
class TargetLatents(_WithTargets, LatentTerm):
    """TargetLatents pulls each latent to that of its target, beside TargetPictures with the same pool or alone: what the
    diffusion model cannot tell apart does not count."""

    kind: ClassVar[str] = "target latents"
    title: ClassVar[str] = "How far from the targets, as latents"
    summary: ClassVar[str] = "latents of pictures that the diffusion model made beforehand"
    needs: ClassVar[frozenset[str]] = frozenset({"target_latents"})

    def gradient(self, view: View) -> Tensor:
        """Return the difference [B, c, h, w] of the latents from their targets': no timestep plays a part, so that the
        weight of the timestep is taken out again."""
        return (view.z - view.target_latents) / view.weight


def mean_difference(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean absolute difference [B] of images [B, C, H, W]."""
    return (a - b).abs().flatten(1).mean(1)


def edge_difference(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean absolute difference [B] of the horizontal and vertical differences of images [B, C, H, W], summed
    over full, half and quarter size."""
    total = a.new_zeros(len(a))
    for scale in range(3):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        total = (
            total + mean_difference(a.diff(dim=-1), b.diff(dim=-1)) + mean_difference(a.diff(dim=-2), b.diff(dim=-2))
        )
    return total
