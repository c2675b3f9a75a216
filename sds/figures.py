"""The picture of a training's curves."""

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
