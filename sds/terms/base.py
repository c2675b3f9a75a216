"""What every term of the objective is: an object that turns what is known of a batch into a gradient."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...training.out_of_memory import MemoryPolicy
from ...training.phases import Phase
from ...training.settings import check_settings, setting
from ..prior import Prior
from ..settings import TrainSettings
from ..targets.pool import Targets


@dataclass(frozen=True)
class View:
    """A View is what terms see of a batch at its timestep, each part computed once for all of them: what no term needs
    is None. Latents are [B, c, h, w], images [B, 3, H, W] in [-1, 1] as the prior sees them."""

    t: float  # the timestep, as a fraction of the schedule
    alpha: float | None = None
    sigma: float | None = None
    weight: float | None = None  # w_t
    progress: float = 0.0  # share of the training that is done
    z: Tensor | None = None  # latents of the trained generator's images
    eps: Tensor | None = None  # the noise in z_t
    z_t: Tensor | None = None  # alpha z + sigma eps
    eps_hat: Tensor | None = None  # the prior's guided prediction at z_t
    conditions: Mapping[str, Tensor] | None = None  # its predictions at z_t by condition, before guidance
    eps_text_later: Tensor | None = None  # its prediction for the prompt a little later, with the same noise
    z0: Tensor | None = None  # latents of the frozen generator's images
    eps_hat_frozen: Tensor | None = None  # the guided prediction at these, with the same noise
    conditions_frozen: Mapping[str, Tensor] | None = None  # and those by condition
    images: Tensor | None = None  # the trained generator's
    frozen_images: Tensor | None = None
    targets: Tensor | None = None  # what the images shall become
    target_latents: Tensor | None = None  # and what the latents


@dataclass(frozen=True)
class Surroundings:
    """Surroundings are what a training tells its terms of itself."""

    prior: Prior
    settings: TrainSettings
    memory: MemoryPolicy
    half: bool  # whether networks compute in bfloat16 where that loses little


@dataclass(frozen=True)
class Term(ABC):
    """A Term pulls the generator somewhere, or holds it back.

    `needs` names the parts of a View that it reads beside z, eps and z_t; one evaluation of the prior serves the needs
    of all terms of a training."""

    kind: ClassVar[str]  # its name in the table
    role: ClassVar[str] = "regularizer"  # or "distillation": what takes the place of SDS
    on: ClassVar[str] = "latent"  # or "image"
    by_name: ClassVar[bool] = True  # whether it can be made of its name and a weight alone
    needs: ClassVar[frozenset[str]]
    usual: ClassVar[float] = 0.0  # the command line's weight where none is given
    usual_in_3d: ClassVar[float | None] = None  # the same for generators that draw in 3D; None: no other
    usual_scale: ClassVar[float] = 100.0  # of the guidance, where none is given
    largest_scale: ClassVar[float] = math.inf  # that a distillation is made for
    summary: ClassVar[str] = ""  # of a distillation: a clause for people who choose
    title: ClassVar[str]  # what its curve shows, for people

    weight: float = setting(  # lambda
        1.0,
        "Strength beside the other terms; 0 leaves it out.",
        what="The term's weight",
        wants="give 0 or more",
        least=0,
        added_later=False,
        shown=(0.0, 100.0, 0.05),
    )

    def __init_subclass__(cls):
        super().__init_subclass__()
        unknown = getattr(cls, "needs", frozenset()) - View.__dataclass_fields__.keys()
        if unknown:
            raise TypeError(f"{cls.__name__} needs {', '.join(sorted(unknown))}, which a View does not have.")

    def __post_init__(self):
        check_settings(self)

    def describe(self) -> dict:
        """Return what tells the term from others, in JSON's types: a saved training is recognized by it, and a
        generator's file records it."""
        values = {"weight": self.weight} | {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default  # one that is declared later changes no description
        }
        return {"term": self.kind, **{name: getattr(value, "name", value) for name, value in values.items()}}

    @property
    def pool(self) -> Targets | None:
        """Return the targets that batches are drawn from; None: they are drawn at random."""
        return None

    def require(self, prior: Prior) -> None:
        """Raise ValueError when the prior does not give what the term needs."""
        if self.needs & {"conditions", "conditions_frozen", "eps_text_later"} and not prior.condition_names:
            raise ValueError(
                f"The term {self.kind} compares the prompt with the negative prompt, and this guidance does not tell them "
                "apart; use a guider with both, such as CFG Guider, or another term."
            )

    def own(self, around: Surroundings) -> "Term":
        """Return the term as a training may change what belongs to it; most have nothing that is changed."""
        return self

    def phases(self) -> Sequence[Phase]:
        """Return what a term of a training trains beside the generator, each after it in every step."""
        return ()

    @property
    def keeps(self) -> Sequence[str]:
        """Return the parts of a View on images that are kept for these phases, in the micro step, under their names."""
        return ()

    @property
    def steps_alone(self) -> int:
        """Return the steps at the beginning in which what else it trains learns alone, the generator staying as it is."""
        return 0

    @property
    def prompt(self) -> str:
        """Return the words that it pulls to by itself; "": none, as most do."""
        return ""

    def memory(self, images: Tensor) -> tuple[int, int]:
        """Count the bytes that the term takes on the device for `images` [B, 3, H, W] on the meta device: what it keeps
        there, and what it takes beyond that for a moment."""
        return 0, 0

    def release(self) -> None:  # noqa: B027  (most have nothing to give)
        """Give back what a training has put on its device; called at the end of each."""


class LatentTerm(Term):
    """A LatentTerm gives a gradient with respect to the latent."""

    @abstractmethod
    def gradient(self, view: View) -> Tensor:
        """Return the term's gradient [B, c, h, w], each sample by itself, without its weight and w_t: the objective
        multiplies by both, as the method's official code does, and clamps."""


class ImageTerm(Term):
    """An ImageTerm gives a distance of images, whose gradient is added to what the latent's terms send to the image,
    after that has been clamped; the timestep plays no part."""

    on: ClassVar[str] = "image"

    @abstractmethod
    def distance(self, view: View) -> Tensor:
        """Return the distance [B] of view.images; differentiable with respect to them."""

    def pull(self, view: View) -> float:
        """Return what the gradient of the distance is multiplied by."""
        return self.weight


def of_objective(terms: Sequence[Term], default: Term) -> list[Term]:
    """Return the terms that count, those of distillation first; `default` where there are none of them."""
    weighty = [term for term in terms if term.weight > 0]
    distilling = [term for term in weighty if term.role == "distillation"]
    if not any(term.role == "distillation" for term in terms):
        distilling = [default]
    return distilling + [term for term in weighty if term.role != "distillation"]


def scale_warnings(terms: Sequence[Term], scale: float) -> list[str]:
    """Say which terms a guidance scale is too large for."""
    return [
        f"The term {term.kind} is made for guidance scales up to {term.largest_scale:g}, 7.5 for example, and this guidance "
        f"has {scale:g}: the pictures may become garish."
        for term in terms
        if scale > term.largest_scale
    ]


def instance_names(terms: Sequence[Term]) -> list[str]:
    """Name each term: its kind, and a number from the second of a kind on."""
    names: list[str] = []
    for term in terms:
        same = sum(other.kind == term.kind for other in terms[: len(names)])
        names.append(f"{term.kind} {same + 1}" if same else term.kind)
    return names


def require_different(terms: Sequence[Term]) -> None:
    """Raise ValueError where two terms differ in nothing, or in their weights alone."""
    seen: list[dict] = []
    for term in terms:
        described = {name: value for name, value in term.describe().items() if name != "weight"}
        if described in seen:
            raise ValueError(
                f"The {term.kind} {term.role} is given twice with no difference but its weight; give it once."
            )
        seen.append(described)
