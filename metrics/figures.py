"""Pictures of generators and trainings: sample grids, before and after, and curves."""

import math
from collections.abc import Iterable, Mapping, Sequence

from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_COLOURS = ("#2f6fde", "#d9622b", "#2f9e5f", "#8f4fc4", "#b58a00")
_INK, _RULE = "#222222", "#dddddd"


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Return images [B, 3, H, W] in about [-1, 1] as Pillow pictures."""
    pixels = ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
    return [Image.fromarray(rows.numpy()) for rows in rearrange(pixels, "batch rgb high wide -> batch high wide rgb")]


def sample_grid(images: Tensor, columns: int | None = None, cell: int = 256) -> Image.Image:
    """Draw images [B, 3, H, W] in rows; each is at most `cell` pixels wide, small ones are
    enlarged by a whole number."""
    pictures = [_fitted(picture, cell) for picture in to_pictures(images)]
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    width, height = pictures[0].size
    rows = math.ceil(len(pictures) / columns)
    grid = Image.new("RGB", (columns * width, rows * height), "white")
    for i, picture in enumerate(pictures):
        grid.paste(picture, (i % columns * width, i // columns * height))
    return grid


def before_after(before: Tensor, after: Tensor, cell: int = 128) -> Image.Image:
    """Draw two labelled rows: the frozen generator's images [B, 3, H, W] above the adapted
    one's of the same latents."""
    rows = [sample_grid(images, columns=len(images), cell=cell) for images in (before, after)]
    label = 28
    picture = Image.new("RGB", (rows[0].width, 2 * (label + rows[0].height)), "white")
    draw = ImageDraw.Draw(picture)
    for i, (row, name) in enumerate(zip(rows, ("before", "after"), strict=True)):
        top = i * (label + row.height)
        draw.text((8, top + 5), name, fill=_INK, font=_font(16))
        picture.paste(row, (0, top + label))
    return picture


def plot_curves(
    curves: Mapping[str, tuple[Iterable[int], Iterable[float]]], width: int = 720, height: int = 200
) -> Image.Image:
    """Draw one panel below the other for curves by their titles: steps, and the value at each."""
    panels = [(title, *_finite(steps, values)) for title, (steps, values) in curves.items()]
    picture = Image.new("RGB", (width, height * max(1, len(panels))), "white")
    draw = ImageDraw.Draw(picture)
    last = max([1, *(step for _, steps, _ in panels for step in steps[-1:])])
    for i, (title, steps, values) in enumerate(panels):
        _panel(draw, (0, i * height, width, (i + 1) * height), title, steps, values, last, _COLOURS[i % len(_COLOURS)])
    return picture


def _finite(steps: Iterable[int], values: Iterable[float]) -> tuple[list[int], list[float]]:
    """Without the points that no axis can hold: a guidance scale far too high makes losses infinite."""
    kept = [(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    return [step for step, _ in kept], [value for _, value in kept]


def _panel(draw, box, title: str, steps: Sequence[int], values: Sequence[float], last: int, colour: str) -> None:
    left, top, right, bottom = box[0] + 72, box[1] + 34, box[2] - 20, box[3] - 40
    draw.text((left, box[1] + 8), title, fill=_INK, font=_font(15))
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5

    def at(step, value):
        return left + (right - left) * step / last, bottom - (bottom - top) * (value - low) / (high - low)

    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        y = at(0, value)[1]
        draw.line([(left, y), (right, y)], fill=_RULE)
        draw.text((left - 8, y), f"{value:.3g}", fill=_INK, font=_font(12), anchor="rm")
        step = round(share * last)
        draw.text((at(step, low)[0], bottom + 6), str(step), fill=_INK, font=_font(12), anchor="ma")
    draw.text(((left + right) / 2, bottom + 22), "step", fill=_INK, font=_font(12), anchor="ma")
    points = [at(step, value) for step, value in zip(steps, values, strict=True)]
    if len(points) > 60:  # a noisy curve: the values faint, their running mean on top
        draw.line(points, fill="#c9d3e6")
        points = [at(step, value) for step, value in zip(steps, _running_mean(values), strict=True)]
    if len(points) > 1:
        draw.line(points, fill=colour, width=2)


def _running_mean(values: Sequence[float]) -> list[float]:
    """Exponential mean over about a twentieth of the values."""
    weight, mean, means = min(1.0, 20 / len(values)), values[0], []
    for value in values:
        mean += weight * (value - mean)
        means.append(mean)
    return means


def _fitted(picture: Image.Image, cell: int) -> Image.Image:
    if picture.width > cell:
        return picture.resize((cell, round(cell * picture.height / picture.width)), Image.Resampling.LANCZOS)
    factor = max(1, cell // picture.width)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _font(size: int):
    return ImageFont.load_default(size)
