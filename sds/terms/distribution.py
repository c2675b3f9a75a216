"""Distribution matching: the prior's score against that of what the generator draws itself."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...training.phases import Phase
from ...training.settings import setting
from .. import equations
from ..fake_score import FakeScore
from ..prior import Prior
from .base import LatentTerm, Surroundings, View

NORMALIZATIONS = ("dmd", "none")

MATCHING = "Distribution Matching"
"""The node that shows the settings."""


@dataclass(frozen=True)
class DistributionMatching(LatentTerm):
    """DistributionMatching pulls along eps_hat - eps_phi, where phi is a second network that learns the generator's own
    pictures (VSD, ProlificDreamer, arXiv 2305.16213): what the prior and phi agree on is left as it is, so that pictures
    need not be alike.

    Normalized as in DMD (Yin et al., arXiv 2311.18828), the difference of the two denoised latents is divided by how far
    the prior's is from the latent, and no weight of the timestep counts."""

    rank: int = setting(
        16,
        "Rank of the second network's change of the diffusion model. 0 trains a whole copy: closer, with five times the "
        "model's memory.",
        least=0,
        node=MATCHING,
        added_later=False,
        shown=(0, 1024, 1),
        option="--fake-rank",
    )
    learning_rate: float = setting(
        0.001,
        "Learning rate of the second network: 0.001 in low rank, 0.0001 for a whole copy.",
        what="The second network's learning rate",
        above=0,
        node=MATCHING,
        added_later=False,
        shown=(0.000001, 0.1, 0.000001),
        option="--fake-learning-rate",
    )
    warmup: int = setting(
        50,
        "Steps at the beginning in which the second network alone learns, what the generator draws as it is.",
        least=0,
        node=MATCHING,
        added_later=False,
        shown=(0, 100_000, 1),
        option="--fake-warmup",
    )
    updates: int = setting(
        1,
        "Updates of the second network in each step.",
        least=1,
        node=MATCHING,
        added_later=False,
        shown=(1, 100, 1),
        option="--fake-updates",
    )
    normalization: str = setting(
        "dmd",
        "dmd: each picture's pull is divided by how far it is from what the diffusion model makes of it. none: as in VSD, "
        "weaker beside regularizers.",
        choices=NORMALIZATIONS,
        node=MATCHING,
        added_later=False,
        option="--fake-normalization",
    )
    fake: FakeScore | None = None  # the second network of a training

    kind: ClassVar[str] = "vsd"
    usual_scale: ClassVar[float] = 7.5
    largest_scale: ClassVar[float] = 30.0
    role: ClassVar[str] = "distillation"
    title: ClassVar[str] = "How far from the prompt, beside what is drawn already"
    summary: ClassVar[str] = "distribution matching: against a second network that learns what the generator draws"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat"})

    def require(self, prior: Prior) -> None:
        super().require(prior)
        prior.require_trainable_score()

    def own(self, around: Surroundings) -> "DistributionMatching":
        fake = FakeScore(
            around.prior.trainable_score(self.rank > 0), around.settings, around.memory, self.rank, around.half
        )
        return dataclasses.replace(self, fake=fake)

    def phases(self) -> Sequence[Phase]:
        return [self.fake.phase(lambda step: self.learning_rate, self.updates)]

    @property
    def steps_alone(self) -> int:
        return self.warmup

    def memory(self, images: Tensor) -> tuple[int, int]:
        return self.fake.memory(images)

    def describe(self) -> dict:
        described = super().describe()
        described.pop("fake", None)
        return described

    def gradient(self, view: View) -> Tensor:
        difference = view.eps_hat - self.fake.eps(view.z_t, view.t)
        if self.normalization == "none":
            return difference
        denoised = equations.denoise(view.z_t, view.eps_hat, view.alpha, view.sigma)
        distance = (view.z - denoised).abs().mean(dim=(1, 2, 3), keepdim=True)
        smallest = 1e-4  # of latents of about 1
        return view.sigma / view.alpha * difference / distance.clamp_min(smallest) / view.weight
