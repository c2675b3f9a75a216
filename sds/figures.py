"""The picture of a training's curves."""

from PIL import Image

from ..metrics.figures import plot_curves
from ..training.history import History


def loss_plot(history: History, width: int = 720, height: int = 200) -> Image.Image:
    """Draw one panel for each term with its mean squared difference over the steps, and one
    for the samples' diversity."""
    curves = {f"{term}: mean squared difference": history.series(term) for term in history.terms}
    if history.diversity:
        curves["diversity: mean distance of two samples"] = (list(history.diversity), list(history.diversity.values()))
    return plot_curves(curves, width, height)
