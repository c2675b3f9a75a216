"""Prompts that depend on where the camera stands: front, side and back (DreamFusion, arXiv 2209.14988, sec. 3.2)."""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from ..stylegan import Generator, yaws
from .prior import Prior

VIEWS = ("front", "side", "back")
"""The sides that may have a prompt of their own."""


def view_weights(cameras: Tensor) -> dict[str, Tensor]:
    """Return how much each of VIEWS counts for cameras [B, 25], as [B], together 1: in proportion to the yaw, all front at
    0 degrees, all side at 90 to the right and left, and all back at 180."""
    quarters = (yaws(cameras.double()).abs() / 90).round(decimals=3)  # what is next to nothing is not evaluated
    front, back = (1 - quarters).clamp(min=0), (quarters - 1).clamp(min=0)
    return {"front": front, "side": 1 - front - back, "back": back}


def seen_from(prior: Prior, cameras: Tensor | None) -> Prior:
    """Return a prior for pictures [B, 3, H, W] that cameras [B, 25] took; the prior itself where none of its prompts
    depends on them. Within `session.run` of the prior."""
    if cameras is None or not prior.views:
        return prior
    weights = view_weights(cameras)
    return _SeenFrom(prior, {view: weights[view] for view in prior.views})


def require_views(generator: Generator, views: Collection[str]) -> None:
    """Raise ValueError where prompts depend on cameras and the generator takes none."""
    if views and not generator.config.takes_cameras:
        raise ValueError(
            f"There is a prompt for the {' and the '.join(views)}, and this generator draws flat pictures; leave it out, or "
            "give a generator that draws in 3D."
        )


class _SeenFrom(Prior):
    """The predictions of a prior for a batch: of each sample, those by the prompts of the views, as they count for its
    camera. What has no prompt of its own counts for the prior's."""

    def __init__(self, prior: Prior, weights: Mapping[str, Tensor]):
        self.prior = prior
        self.image_size, self.device, self.session = prior.image_size, prior.device, prior.session
        self.shares = [(prior, 1 - sum(weights.values()))]
        self.shares += [(prior.facing(view), weight) for view, weight in weights.items()]

    @property
    def condition_names(self) -> tuple[str, ...]:
        return self.prior.condition_names

    def schedule(self, t: float) -> tuple[float, float]:
        return self.prior.schedule(t)

    def encode(self, images: Tensor, recompute: bool = False) -> Tensor:
        return self.prior.encode(images, recompute)

    def guided(self, z_t: Tensor, t: float, scaling: float = 1.0) -> Tensor:
        return self._blended(z_t, lambda prior, rows: {"guided": prior.guided(rows, t, scaling)})["guided"]

    def guided_and_conditions(self, z_t: Tensor, t: float, scaling: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        def evaluate(prior: Prior, rows: Tensor) -> dict[str, Tensor]:
            guided, conditions = prior.guided_and_conditions(rows, t, scaling)
            return {"guided": guided, **{f"of {name}": eps for name, eps in conditions.items()}}

        found = self._blended(z_t, evaluate)
        return found.pop("guided"), {name.removeprefix("of "): eps for name, eps in found.items()}

    def _blended(self, z_t: Tensor, evaluate: Callable[[Prior, Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Sum what the prompts say, each asked of the rows for which it counts alone."""
        sums: dict[str, Tensor] = {}
        for prior, weight in self.shares:
            weight = weight.to(z_t)
            (rows,) = torch.nonzero(weight > 1e-6, as_tuple=True)
            if not len(rows):
                continue
            if bool((weight == 1).all()):
                return evaluate(prior, z_t)
            for name, eps in evaluate(prior, z_t[rows]).items():
                sums.setdefault(name, torch.zeros_like(z_t)).index_add_(0, rows, weight[rows].view(-1, 1, 1, 1) * eps)
        return sums
