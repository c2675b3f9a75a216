"""Judging sets of images: each is looked at once, a few images at a time, however many there are."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .evaluation import clip_score, lpips_diversity, pooled_features, require_distances
from .lpips import Features, reduced
from .report import Evaluation, Row, distance_rows

Embed = Callable[[Tensor], Tensor]
"""Takes images [b, 3, H, W] in [-1, 1] to features [b, D] on the CPU."""


class ImageSet(Protocol):
    """An ImageSet is images to be judged, in a folder or still to be drawn."""

    def __len__(self) -> int: ...

    def pieces(self) -> Iterator[Tensor]:
        """Give images [b, 3, H, W] in [-1, 1], a few at a time: many large ones are never in memory together."""
        ...

    def size(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        ...


@dataclass(frozen=True)
class Space:
    """A Space is the features between which distances are taken."""

    name: str  # for people
    embed: Embed
    is_inception: bool = False  # whether the distances compare with the FID and KID of others
    is_square: bool = False  # whether it sees the square in the middle of an image only


@dataclass(frozen=True)
class _Seen:
    """_Seen is what is kept of a set of N images."""

    small: Tensor  # [n, 3, h, w] of the first ones, as large as the network of LPIPS looks at
    features: Tensor | None  # [N, D] for the distances
    embeddings: Tensor | None  # [N, E] for CLIP score


def judge(
    sets: Mapping[str, ImageSet],
    network: Features,
    space: Space | None = None,
    clip: Embed | None = None,
    text: Tensor | None = None,
    seed: int = 0,
    varied: int | None = None,
    on_images: Callable[[int], None] = lambda count: None,
    phrases: Mapping[str, Tensor] | None = None,
) -> Evaluation:
    """Measure sets of images by their names, of SETS: CLIP score to a `text` [E] embedded as `clip` embeds images, where
    both are given, and to each of `phrases` [E] by itself; Fréchet and kernel distance to the set "reference", where there is one, in a `space` (None: pooled
    features of the network); and LPIPS diversity by the network, of the first `varied` images of each (None: all).

    The network runs where it is; `on_images` hears how many images were looked at, each once and those of the diversity
    once more, and may raise. Raises ValueError for sets that cannot be compared, MissingPackage without torchmetrics."""
    if "reference" in sets:
        require_distances()  # before anything is drawn
    evaluation = Evaluation()
    wanted = clip if text is not None or phrases else None
    seen = {
        name: _look(images, network, space, wanted, "reference" in sets, varied, on_images)
        for name, images in sets.items()
    }
    if text is not None:
        scores = {name: clip_score(found.embeddings, text) for name, found in seen.items()}
        evaluation.rows.append(Row("CLIP score", "higher fits the text better", scores))
    for phrase, embedding in (phrases or {}).items():
        scores = {name: clip_score(found.embeddings, embedding) for name, found in seen.items()}
        evaluation.phrases.append(Row(phrase, "higher fits it better", scores))
    if "reference" in sets:
        rows, notes = distance_rows({name: found.features for name, found in seen.items()}, seed)
        evaluation.rows += rows
        evaluation.notes += notes
    diversity = {name: lpips_diversity(found.small, network, seed, on_images) for name, found in seen.items()}
    evaluation.rows.append(Row("Diversity", "higher is more varied", diversity))
    evaluation.notes += _about(sets, network, space, varied)
    return evaluation


def _look(images: ImageSet, network: Features, space, clip, compares: bool, varied: int | None, on_images) -> _Seen:
    small, features, embeddings, kept = [], [], [], 0
    for piece in images.pieces():
        here = reduced(piece, network.image_size).half()  # 8 bits of an image fit well into 11
        if varied is None or kept < varied:
            small.append(here if varied is None else here[: varied - kept])
            kept += len(small[-1])
        if clip is not None:
            embeddings.append(clip(piece))
        if compares and space is None:
            features.append(pooled_features(here, network))
        elif compares:
            features.append(embeddings[-1] if space.embed is clip else space.embed(piece))
        on_images(len(piece))
    joined = (torch.cat(rows) if rows else None for rows in (features, embeddings))
    return _Seen(torch.cat(small), *joined)


def _about(sets: Mapping[str, ImageSet], network: Features, space: Space | None, varied: int | None) -> list[str]:
    counts = ", ".join(f"{len(images)} ({name})" for name, images in sets.items())
    fewer = varied is not None and any(len(images) > varied for images in sets.values())
    notes = [f"Images: {counts}. Diversity by {network.name}{f', of {varied} images of each' if fewer else ''}."]
    if "reference" in sets and space is not None and space.is_inception:
        notes.append(
            f"Both distances by {space.name}: FID and KID x 1000, which compare with others of as many images."
        )
    elif "reference" in sets:
        what = network.name if space is None else space.name
        notes.append(f"Both distances by features: {what}. They do not compare with FID and KID by Inception.")
    sizes = {name: images.size() for name, images in sets.items()}
    if space is None and len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {width} x {height}" for name, (width, height) in sizes.items())
        notes.append(f"The images differ in size ({told}), which counts as a difference: resize them to one size.")
    if space is not None and space.is_square and any(width != height for width, height in sizes.values()):
        notes.append("CLIP vision sees the square in the middle of each image, not the sides.")
    return notes
