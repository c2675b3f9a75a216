"""Pictures of generators and trainings: sample grids, before and after, and curves."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .colours import rgb

_COLOURS = ("#2f6fde", "#d9622b", "#2f9e5f", "#8f4fc4", "#b58a00")
_INK, _RULE = "#222222", "#dddddd"


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Return images [B, C, H, W] in about [-1, 1] as Pillow pictures: RGBA where they have 4 channels, RGB where they have
    3 or are grey."""
    images = images if images.shape[1] == 4 else rgb(images)
    pixels = ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
    rows = rearrange(pixels, "batch colour high wide -> batch high wide colour")
    return [Image.fromarray(picture.numpy()) for picture in rows]


def from_picture(picture: Image.Image) -> Tensor:
    """Return a Pillow picture as an image [1, 3, H, W] in [-1, 1]."""
    pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.view(1, picture.height, picture.width, 3).movedim(-1, 1).float() / 127.5 - 1


def sample_grid(images: Tensor, columns: int | None = None, cell: int = 256) -> Image.Image:
    """Draw images [B, C, H, W] in rows, without alpha; each is at most `cell` pixels wide, small ones are
    enlarged by a whole number."""
    return picture_grid([fitted_picture(picture, cell) for picture in to_pictures(rgb(images))], columns)


def picture_grid(pictures: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """Draw pictures of one size in rows."""
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    width, height = pictures[0].size
    rows = math.ceil(len(pictures) / columns)
    grid = Image.new("RGB", (columns * width, rows * height), "white")
    for i, picture in enumerate(pictures):
        grid.paste(picture, (i % columns * width, i // columns * height))
    return grid


def mixing_grid(images: Tensor, rows: int, columns: int, cell: int = 256) -> Image.Image:
    """Draw the grid of style mixing: of images [rows + columns + rows * columns, C, H, W] the first stand at the left,
    the next above, and the mixtures, row by row, between them."""
    left, top, mixed = images.split([rows, columns, rows * columns])
    lines = [torch.ones_like(top[:1]), top]  # a white corner
    for beside, line in zip(left.split(1), mixed.split(columns), strict=True):
        lines += [beside, line]
    return sample_grid(torch.cat(lines), columns=columns + 1, cell=cell)


def before_after(
    before: Tensor, after: Tensor, cell: int = 128, names: tuple[str, str] = ("before", "after")
) -> Image.Image:
    """Draw two labelled rows: the frozen generator's images [B, C, H, W] above the adapted
    one's of the same latents, or others with their `names`."""
    rows = [sample_grid(images, columns=len(images), cell=cell) for images in (before, after)]
    label = 28
    picture = Image.new("RGB", (rows[0].width, 2 * (label + rows[0].height)), "white")
    draw = ImageDraw.Draw(picture)
    for i, (row, name) in enumerate(zip(rows, names, strict=True)):
        top = i * (label + row.height)
        draw.text((8, top + 5), name, fill=_INK, font=_font(16))
        picture.paste(row, (0, top + label))
    return picture


def labelled_grid(rows: Sequence[Tensor], names: Sequence[str], columns: Sequence[str], cell: int = 192) -> Image.Image:
    """Draw rows of images [N, C, H, W], each with its name at the left, below the names of the columns."""
    drawn = [sample_grid(row, columns=len(row), cell=cell) for row in rows]
    font, top = _font(16), 28
    left = max([0, *(round(font.getlength(name)) for name in names)])
    left += 16 if left else 0
    wide, high = drawn[0].size
    picture = Image.new("RGB", (left + wide, top + high * len(drawn)), "white")
    draw = ImageDraw.Draw(picture)
    for index, name in enumerate(columns):
        draw.text((left + index * wide // len(columns) + 8, 5), name, fill=_INK, font=font)
    for index, (row, name) in enumerate(zip(drawn, names, strict=True)):
        draw.text((8, top + index * high + high // 2 - 10), name, fill=_INK, font=font)
        picture.paste(row, (left, top + index * high))
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


def fitted_picture(picture: Image.Image, cell: int) -> Image.Image:
    """Return a picture as wide as in a grid: at most `cell` pixels, small ones enlarged by a whole number."""
    if picture.width > cell:
        return picture.resize((cell, round(cell * picture.height / picture.width)), Image.Resampling.LANCZOS)
    factor = max(1, cell // picture.width)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _font(size: int):
    return ImageFont.load_default(size)
