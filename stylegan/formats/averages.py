"""The average of w, the centre of truncation, which files keep inside a generator, beside it, or around it."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from .arrays import weight
from .errors import Unsupported
from .weights import Weight

NAMES = (
    "w_avg",
    "latent_avg",
    "mean_latent",
    "latent_mean",
    "dlatent_avg",
    "truncation_latent",
    "w_mean",
    "style_mean",
)
"""What files call the average. In the order in which they are believed."""


def find_average(places: Iterable[Mapping[Any, Any]], w_dim: int) -> Tensor | None:
    """Return the average [w_dim] that is in the first place to have one, None without one.

    Raises FileError for one that does not fit: it would be missed in every truncated picture."""
    for place in places:
        for name in NAMES:
            found = place.get(name)
            found = found if isinstance(found, Weight) else weight(found)
            if found is not None:
                return average(name, found, w_dim)
    return None


def average(name: str, found: Weight, w_dim: int) -> Tensor:
    """Return one row [w_dim] of an average [w_dim], or [..., w_dim] where it stands once for each layer. Raises
    FileError when it has another size, or differs from layer to layer."""
    if not found.shape or found.shape[-1] != w_dim or 0 in found.shape:
        raise Unsupported(
            f"has an average of w, {name!r}, of shape {list(found.shape)}, where {w_dim} numbers belong",
            "choose the file that its program wrote first",
        )
    rows = found.read().reshape(-1, w_dim)
    if not rows.float().isclose(rows[:1].float(), rtol=0, atol=1e-5).all():
        raise Unsupported(
            f"has an average of w, {name!r}, that differs from layer to layer, which StyleGAN Fusion does not support",
            "choose the generator that it was made from",
        )
    return rows[0].clone()
