"""The picture of a training's curves."""

from collections.abc import Sequence

from PIL import Image

from ..metrics.figures import plot_curves
from ..training.history import History
from .terms import curve_title

DIVERSITY_TITLE = "How different the images are from each other"
"""What the curve of diversity shows, the mean distance of two samples, for people."""


def loss_plot(history: History, width: int = 720, height: int = 200) -> Image.Image:
    """Draw one panel for each term with its mean squared difference over the steps, and one
    for the samples' diversity."""
    curves = {curve_title(term): history.series(term) for term in history.terms}
    if history.diversity:
        curves[DIVERSITY_TITLE] = (list(history.diversity), list(history.diversity.values()))
    return plot_curves(curves, width, height)


POINTS = 400
"""Of a curve that is written, at most: more than a picture has."""


def curves_of(history: History) -> dict[str, tuple[list[int], list[float]]]:
    """Return steps and values of each term by its name, and of the samples' diversity: means over neighbouring steps where
    there are more than POINTS."""
    curves = {term: history.series(term) for term in history.terms}
    if history.diversity:
        curves["diversity"] = (list(history.diversity), list(history.diversity.values()))
    return {name: _thinned(*curve) for name, curve in curves.items()}


def _thinned(steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    size = -(-len(steps) // POINTS) or 1
    places = range(0, len(steps), size)
    means = [sum(values[i : i + size]) / len(values[i : i + size]) for i in places]
    return [steps[min(i + size, len(steps)) - 1] for i in places], means
