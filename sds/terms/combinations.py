"""Distillations that cost nothing but predictions: each is one combination of what the prior says of a latent."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..prior import EXTRA, TEXT, UNCONDITIONAL, Prior
from .base import LatentTerm, View

GUIDED, NOISE, LATER, FROZEN = "guided", "noise", "later", "frozen"
"""What a combination is made of beside the prior's conditions: the guided prediction, the noise that is there, the
prompt's prediction at a later timestep, and the one without the prompt for the frozen generator's latent."""


class Combination(LatentTerm):
    """A Combination pulls along a weighted sum of predictions."""

    role: ClassVar[str] = "distillation"

    @abstractmethod
    def weights(self, view: View) -> Mapping[str, float]:
        """Return how much each prediction counts in a batch, by its name."""

    def gradient(self, view: View) -> Tensor:
        return sum(weight * _prediction(view, name) for name, weight in self.weights(view).items())


def _prediction(view: View, name: str) -> Tensor:
    known = {GUIDED: view.eps_hat, NOISE: view.eps, LATER: view.eps_text_later}
    if name in known:
        return known[name]
    return view.conditions_frozen[UNCONDITIONAL] if name == FROZEN else view.conditions[name]


@dataclass(frozen=True)
class ScoreDistillation(Combination):
    """ScoreDistillation is SDS, the paper's (DreamFusion, arXiv 2209.14988): the guided prediction against the noise that
    is there (eq. 3)."""

    kind: ClassVar[str] = "sds"
    title: ClassVar[str] = "How far from the prompt"
    summary: ClassVar[str] = "score distillation, as in the paper"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat"})

    def weights(self, view: View) -> Mapping[str, float]:
        return {GUIDED: 1, NOISE: -1}


@dataclass(frozen=True)
class ClassifierScoreDistillation(Combination):
    """ClassifierScoreDistillation leaves the noise out of SDS (Yu et al., arXiv 2310.19415): what is left of
    eps_hat - eps without eps_u - eps is the guidance itself, sum_i s_i (eps_i - eps_u), with the scales s_i of the
    prior."""

    kind: ClassVar[str] = "csd"
    title: ClassVar[str] = "How far from the prompt, by its guidance alone"
    summary: ClassVar[str] = "the guidance alone, without SDS's noise"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat", "conditions"})

    def weights(self, view: View) -> Mapping[str, float]:
        return {GUIDED: 1, UNCONDITIONAL: -1}


@dataclass(frozen=True)
class BridgeDistillation(Combination):
    """BridgeDistillation is SDS in the first half of a training and its guidance alone in the second (McAllister et al.,
    arXiv 2406.09417), where the negative prompt should say what is wrong with the pictures: "oversaturated, smooth"."""

    kind: ClassVar[str] = "bridge"
    title: ClassVar[str] = "How far from the prompt, in two stages"
    summary: ClassVar[str] = "sds, and from half of the steps on csd"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat", "conditions"})

    def weights(self, view: View) -> Mapping[str, float]:
        return {GUIDED: 1, (NOISE if view.progress < 0.5 else UNCONDITIONAL): -1}


@dataclass(frozen=True)
class NoiseFreeDistillation(Combination):
    """NoiseFreeDistillation replaces the noise of SDS by what the model says of it (NFSD, Katzir et al., arXiv
    2310.17590): s (eps_y - eps_u) + d, with d = eps_u where little noise is there, t < 0.2, and else eps_u - eps_n, eps_n
    being the prediction for a prompt of what pictures should not be: the first extra prompt, of scale 0."""

    kind: ClassVar[str] = "nfsd"
    usual_scale: ClassVar[float] = 7.5
    largest_scale: ClassVar[float] = 30.0
    title: ClassVar[str] = "How far from the prompt, free of noise"
    summary: ClassVar[str] = "the guidance and the way out of bad pictures, which an extra prompt of scale 0 names"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat", "conditions"})

    def weights(self, view: View) -> Mapping[str, float]:
        if view.t < 0.2:
            return {GUIDED: 1}  # eps_u + s (eps_y - eps_u)
        bad = next(name for name in view.conditions if name.startswith(EXTRA))
        return {GUIDED: 1, bad: -1}

    def require(self, prior: Prior) -> None:
        super().require(prior)
        if not any(name.startswith(EXTRA) for name in prior.condition_names):
            raise ValueError(
                "The term nfsd stays away from a prompt of its own; add an extra prompt of scale 0 that says what pictures "
                'should not be, such as "blurry, low quality".'
            )


@dataclass(frozen=True)
class AsynchronousDistillation(Combination):
    """AsynchronousDistillation compares the guided prediction with the prompt's own a little later in the schedule, for
    the same noise (ASD, Ma et al., arXiv 2407.02040): at t + D, D = 0.1 (t - t_min) times a random number."""

    kind: ClassVar[str] = "asd"
    usual_scale: ClassVar[float] = 7.5
    largest_scale: ClassVar[float] = 30.0
    title: ClassVar[str] = "How far from the prompt, against a later timestep"
    summary: ClassVar[str] = "the guidance against the prediction at a later timestep (experimental)"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat", "eps_text_later"})

    def weights(self, view: View) -> Mapping[str, float]:
        return {GUIDED: 1, LATER: -1}

    def require(self, prior: Prior) -> None:
        super().require(prior)
        if TEXT not in prior.condition_names:
            raise ValueError("The term asd compares the prompt with itself, and this guidance has none; add a prompt.")


@dataclass(frozen=True)
class DeltaDistillation(Combination):
    """DeltaDistillation subtracts what the model says of the frozen generator's picture, given the negative prompt, which
    has to name what that shows (DDS, Hertz et al., arXiv 2304.07090)."""

    kind: ClassVar[str] = "dds"
    usual_scale: ClassVar[float] = 7.5
    largest_scale: ClassVar[float] = 30.0
    title: ClassVar[str] = "How far from the prompt, less what was there before"
    summary: ClassVar[str] = "less the prediction for the picture before training, which the negative prompt names"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat", "conditions_frozen"})

    def weights(self, view: View) -> Mapping[str, float]:
        return {GUIDED: 1, FROZEN: -1}


@dataclass(frozen=True)
class PlainDistillation(Combination):
    """PlainDistillation takes the guided prediction as it is, no noise subtracted (LD, arXiv 2411.13536, without its
    re-weighting of ranks)."""

    kind: ClassVar[str] = "ld"
    title: ClassVar[str] = "The guided prediction"
    summary: ClassVar[str] = "the guided prediction as it is (experimental)"
    needs: ClassVar[frozenset[str]] = frozenset({"eps_hat"})

    def weights(self, view: View) -> Mapping[str, float]:
        return {GUIDED: 1}
