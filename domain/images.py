"""The pictures of a domain: from any shapes to the latents that its training draws from."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..stylegan.projection import fitted
from ..training.digests import tensors_digest

FEWEST = 3
"""Pictures without which there is no domain."""

SMALLEST = 0.5
"""Of the side that is learned: pictures below it would teach the model to blur."""

_LONGEST = 2.0
"""The proportions up to which pictures keep their shape."""


@dataclass(frozen=True)
class Pictures:
    """Pictures are the latents that a domain is learned from, by their shape, and the picture mirrored beside the picture
    where mirrored ones are wanted."""

    buckets: tuple[Tensor, ...]  # [N, versions, c, h, w] each, on the CPU
    longest_side: int  # in pixels

    def __len__(self) -> int:
        return sum(map(len, self.buckets))

    def batch(self, random: torch.Generator, count: int) -> Tensor:
        """Draw latents [count, c, h, w] of one shape, each shape as often as it has pictures."""
        shares = torch.tensor([float(len(bucket)) for bucket in self.buckets])
        bucket = self.buckets[int(torch.multinomial(shares, 1, generator=random))]
        rows = torch.randint(len(bucket), [count], generator=random)
        return bucket[rows, torch.randint(bucket.shape[1], [count], generator=random)]

    @cached_property
    def digest(self) -> str:
        """Return what tells them from others."""
        return tensors_digest((str(number), bucket) for number, bucket in enumerate(self.buckets))


def learnable(
    images: Iterable[tuple[str, Tensor]],
    side: int,
    multiple: int,
    crop: str,
    mirror: bool,
    encode: Callable[[Tensor], Tensor],
) -> tuple[Pictures, list[str]]:
    """Fit named images [1, 3, H, W] in [-1, 1] to shapes that a model takes, sides of `multiple` pixels and the area of a
    square of `side`, and encode them one by one; returns their latents, and sentences about pictures that may spoil the
    domain. Raises ValueError with a sentence for pictures that nothing can be learned from."""
    buckets: dict[tuple[int, int], list[Tensor]] = {}
    grey, small, count = [], [], 0
    for name, image in images:
        high, wide = image.shape[-2:]
        if min(high, wide) < SMALLEST * side:
            raise ValueError(
                f"{name} is {wide} x {high} pixels, and the model learns {side}: it would learn to blur. Take it out, "
                "give a larger one, or choose a smaller image_size."
            )
        if not image.isfinite().all():
            raise ValueError(f"{name} has pixels that are no numbers; take it out.")
        height, width = _shape(high, wide, side, multiple, crop)
        pixels = fitted(image, width, height).clamp(-1, 1)
        versions = [pixels, pixels.flip(-1)] if mirror else [pixels]
        buckets.setdefault((height, width), []).append(torch.cat([encode(one).float().cpu() for one in versions]))
        count += 1
        if (image.amax(1) - image.amin(1)).max() < 0.03:
            grey.append(name)
        if min(high, wide) < 0.9 * min(height, width):
            small.append(name)
    if count < FEWEST:
        raise ValueError(
            f"There {'is 1 picture' if count == 1 else f'are {count} pictures'}; a domain takes {FEWEST} or more, better "
            "thirty."
        )
    warnings = []
    if 0 < len(grey) < count:
        warnings.append(f"{_some(grey)} {_are(grey)} grey among pictures in colour: the domain will be both.")
    if small:
        warnings.append(f"{_some(small)} had to be enlarged, which the domain learns as blur.")
    return Pictures(
        tuple(torch.stack(latents) for _, latents in sorted(buckets.items())), max(map(max, buckets))
    ), warnings


def _shape(high: int, wide: int, side: int, multiple: int, crop: str) -> tuple[int, int]:
    """Return the height and the width at which a picture is learned."""
    if crop == "square":
        return side, side
    proportion = min(max(high / wide, 1 / _LONGEST), _LONGEST)
    # Steps of an eighth of the side: more shapes would leave few pictures to each.
    step = math.ceil(side / 8 / multiple) * multiple

    def rounded(length: float) -> int:
        return max(step, round(length / step) * step)

    width = rounded(side / math.sqrt(proportion))
    return rounded(width * proportion), width


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} pictures ({names[0]} and others)"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
