"""What is measured of a set of images: how well it fits a text, how far it is from another set, how varied it is.

Distances are taken between features, [N, D] for N images, of whatever network: their numbers compare with each other,
never with those of other features. Fréchet and kernel distance are torchmetrics' own, imported when they are asked for.
"""

import importlib
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..training.packages import import_advice
from .lpips import Features, lpips, unit_layers

SUBSETS, LARGEST_SUBSET = 50, 1000  # of the kernel distance
NEIGHBOURS = 4  # others that each image is compared with for the diversity
_FRECHET, _KERNEL = "image.fid.FrechetInceptionDistance", "image.kid.KernelInceptionDistance"
_TOGETHER = 8  # images that the network of LPIPS sees at once


@dataclass(frozen=True)
class Measure:
    """A Measure is a measured number and its standard error; nan where the error is not known."""

    value: float
    error: float = math.nan

    def __str__(self):
        error = "" if math.isnan(self.error) else f" ± {self.error:.2g}"
        return f"{self.value:.3g}{error}"


class MissingPackage(ImportError):
    """A package is not installed that only these measures need."""


def clip_score(images: Tensor, text: Tensor) -> Measure:
    """Return 100 cos(image, text), the mean over embeddings of images [N, D] and of a text [D], at least 0
    (arXiv 2104.08718, without its factor of 2.5; torchmetrics' CLIPScore)."""
    similar = 100 * F.cosine_similarity(images.double(), text.double()[None], dim=1)
    return Measure(max(0.0, similar.mean().item()), _standard_error(similar))


def phrases_of(text: str, listed: str = "") -> list[str]:
    """Return the phrases that are scored by themselves, each once: those that are `listed`, else those of a text that has
    several. They stand between line ends and commas outside of brackets."""
    if listed.strip():
        return _split(listed)
    found = _split(text)
    return found if len(found) > 1 else []


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth = max(0, depth + (letter in "([{") - (letter in ")]}"))
        if letter == "\n" or (letter == "," and depth == 0):
            parts.append(text[start:place])
            start = place + 1
    found = dict.fromkeys(" ".join(part.split()) for part in [*parts, text[start:]])
    found.pop("", None)
    return [*found]


def require_distances() -> None:
    """Raise MissingPackage unless both distances can be measured."""
    for path in (_FRECHET, _KERNEL):
        _metric(path)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Return the squared Fréchet distance of Gaussians fitted to features a [N, D] and b [M, D] (arXiv 1706.08500):
    |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)). Too large where N or M is not far above D.

    Raises ValueError for features that cannot be compared, and MissingPackage without torchmetrics."""
    metric = _metric(_FRECHET)(_AsGiven(a.shape[-1]))
    return max(0.0, _compared(metric, a, b).item())


def kernel_distance(a: Tensor, b: Tensor, seed: int = 0) -> Measure:
    """Return the kernel distance of features a [N, D] and b [M, D]: the squared maximum mean discrepancy under the
    kernel (x . y / D + 1)^3, without bias whatever N and M are (arXiv 1801.01401); it may come out slightly below 0.

    Its mean and standard deviation over SUBSETS pairs of random halves of the smaller set, drawn by the seed, of at
    most LARGEST_SUBSET: for N unlike M the error is too large, and below 4 images it is not known. Raises ValueError
    for features that cannot be compared, and MissingPackage without torchmetrics."""
    kind = _metric(_KERNEL)
    fewest = min(len(a), len(b))
    half = min(LARGEST_SUBSET, max(2, fewest // 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps the features, which is known here
        metric = kind(_AsGiven(a.shape[-1]), subsets=SUBSETS, subset_size=half)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the processor alone, as what is put back
        mean, deviation = _compared(metric, a, b)
    return Measure(mean.item(), deviation.item() if fewest >= 4 else math.nan)


@torch.no_grad()
def lpips_diversity(
    images: Tensor, features: Features, seed: int = 0, on_images: Callable[[int], None] = lambda count: None
) -> Measure:
    """Return the mean LPIPS of two different images of a set [N, 3, H, W] in [-1, 1], as in arXiv 2104.06820.

    Of an order drawn by the seed, each image is compared with the NEIGHBOURS that follow it: all pairs where N is at
    most 9, the opposite ones twice for an even N. The error takes the images, not the pairs, as what was drawn; it is
    known from 4 images on. The features run where they are; `on_images` hears how many images are done. Raises
    ValueError for fewer than 2 images."""
    count = len(images)
    if count < 2:
        raise ValueError("The diversity is a mean over pairs of images; give 2 images or more.")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    neighbours = min(NEIGHBOURS, count // 2)
    device = _device_of(features)
    distances = torch.empty(count, neighbours, dtype=torch.float64)
    for start in range(0, count, _TOGETHER):
        here = min(_TOGETHER, count - start)
        rows = order[torch.arange(start, start + here + neighbours) % count]
        layers = unit_layers(features, images[rows].to(device))
        for shift in range(1, neighbours + 1):
            pairs = [layer[:here] for layer in layers], [layer[shift : shift + here] for layer in layers]
            distances[start : start + here, shift - 1] = lpips(*pairs, features.calibration).cpu().double()
        on_images(here)
    return Measure(distances.mean().item(), _error_over_pairs(distances))


def _error_over_pairs(distances: Tensor) -> float:
    """The standard error of the mean of distances [N, K] of N images, each to K others; nan below 4 images.

    A distance is the mean, plus what each of its two images adds (variance `own`), plus the rest (Hoeffding's parts)."""
    count, neighbours = distances.shape
    if neighbours < 2:
        return math.nan
    pairs, means = distances.var(), distances.mean(dim=1).var()
    own = ((means - pairs / neighbours) / (1 - 1 / neighbours)).clamp(min=0)
    rest = (pairs - 2 * own).clamp(min=0)
    return (4 * own / count + rest / (count * neighbours)).sqrt().item()


@torch.no_grad()
def pooled_features(images: Tensor, features: Features) -> Tensor:
    """Return the means over places of a network's layers, one after the other, [N, D] for
    images [N, 3, H, W] in [-1, 1]."""
    device = _device_of(features)
    pieces = [features(piece.float().to(device)) for piece in images.split(_TOGETHER)]
    return torch.cat([torch.cat([layer.mean(dim=(2, 3)) for layer in layers], dim=1).cpu() for layers in pieces])


def agreement(images: Tensor, texts: Tensor) -> int:
    """Count how many of K images [K, D] are nearest to their own one of K texts [K, D], each set around its own mean.

    Embeddings of two networks that were not trained together agree on about one."""
    images, texts = (F.normalize(rows - rows.mean(0), dim=1) for rows in (images.double(), texts.double()))
    return (images @ texts.T).argmax(1).eq(torch.arange(len(images))).sum().item()


class _AsGiven(torch.nn.Module):
    """Features are the images already: what the metrics take for their network."""

    def __init__(self, width: int):
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def _compared(metric, a: Tensor, b: Tensor):
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"Features {list(a.shape)} and {list(b.shape)} are not of one network: both must be [N, D].")
    for features in (a, b):
        if len(features) < 2:
            raise ValueError("A distance between sets of images needs 2 images or more in each.")
        if not features.isfinite().all():
            raise ValueError("The features of some images are not finite numbers; look at the images.")
    metric.update(a.cpu().double(), real=True)
    metric.update(b.cpu().double(), real=False)
    return metric.compute()


def _metric(path: str) -> type:
    """A class of torchmetrics."""
    module, name = path.rsplit(".", 1)
    try:
        return getattr(importlib.import_module(f"torchmetrics.{module}"), name)
    except (ImportError, RuntimeError) as error:
        python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
        raise MissingPackage(
            import_advice(
                "A Fréchet or kernel distance",
                "the package torchmetrics",
                f"run {python} -m pip install torchmetrics and start again",
                error,
            )
        ) from error


def _standard_error(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _device_of(features: Features) -> torch.device:
    """Where a network of LPIPS is: it is a torch module."""
    return next(features.parameters()).device
