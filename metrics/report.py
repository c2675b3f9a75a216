"""What an evaluation found: a table of measures for up to three sets of images, in words and as a picture."""

import math
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .evaluation import Measure, frechet_distance, kernel_distance

SETS = ("now", "before", "reference")
"""What is judged, what it is compared with, and what both should come near to."""

FEW = 20
"""Images below which a distance is chance."""

PHRASES = "CLIP score of each phrase"

_COLOURS = {"now": "#2f6fde", "before": "#9aa3ad", "reference": "#2f9e5f"}
_INK, _FAINT, _RULE = "#222222", "#666666", "#dddddd"


@dataclass(frozen=True)
class Row:
    """A Row is one measure of every set that it was taken of."""

    name: str
    direction: str  # which way is better, for people
    values: dict[str, Measure]  # by names of SETS

    def __str__(self):
        others = ", ".join(f"{name} {value}" for name, value in self.values.items() if name != "now")
        return f"{self.name}: {self.values['now']}" + (f" ({others})" if others else "") + f"; {self.direction}"


@dataclass
class Evaluation:
    """An Evaluation holds rows of measures, and sentences on how to read them."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    phrases: list[Row] = field(default_factory=list)  # CLIP score of each phrase of a text by itself

    def value(self, name: str) -> float:
        """Return the measure of the set that is judged; nan where it was not taken."""
        return next((row.values["now"].value for row in self.rows if row.name == name), math.nan)

    def text(self) -> str:
        phrases = [f"{PHRASES}:", *(f"  {row}" for row in self.phrases)] if self.phrases else []
        return "\n".join([*map(str, self.rows), *phrases, *self.notes])


def distance_rows(features: dict[str, Tensor], seed: int) -> tuple[list[Row], list[str]]:
    """Measure the Fréchet and kernel distance of each set's features [N, D] to those of "reference", and say what is to
    be known of them. Raises what the two measures raise."""
    reference = features["reference"]
    sets = [name for name in SETS[:2] if name in features]
    frechet = {name: Measure(frechet_distance(features[name], reference)) for name in sets}
    kernel = {name: kernel_distance(features[name], reference, seed) for name in sets}
    kernel = {name: Measure(1000 * found.value, 1000 * found.error) for name, found in kernel.items()}
    rows = [
        Row("Fréchet distance", "lower is nearer to the reference", frechet),
        Row("Kernel distance x 1000", "lower is nearer to the reference", kernel),
    ]
    fewest, width = min(map(len, features.values())), reference.shape[1]
    notes = []
    if fewest < FEW:
        notes.append(
            f"Both distances say nothing of so few images ({fewest}): give {FEW} at least, better some hundred, in each batch."
        )
    elif fewest <= width:
        notes.append(
            f"The Fréchet distance is too large with few images ({fewest}, and the network has {width} features): compare "
            "it only with one of as many images. The kernel distance has no such bias."
        )
    return rows, notes


def evaluation_picture(evaluation: Evaluation, width: int = 720) -> Image.Image:
    """Draw a bar with its error for every value, those of one measure on one scale, and so those of all phrases."""
    bar, gap, head = 26, 22, 34
    phrase_head = 26
    height = sum(head + bar * len(row.values) + gap for row in evaluation.rows) + 12
    if evaluation.phrases:
        height += head + sum(phrase_head + bar * len(row.values) for row in evaluation.phrases) + gap
    picture = Image.new("RGB", (width, max(height, 60)), "white")
    draw = ImageDraw.Draw(picture)
    if not evaluation.rows:
        draw.text((16, 20), "Nothing was measured.", fill=_INK, font=_font(15))
    top, side = 12, (110, width - 150)
    for row in evaluation.rows:
        _headline(draw, top, width, row.name, row.direction)
        _bars(draw, side, top + head - 6, bar, row.values, _reach(row))
        top += head + bar * len(row.values) + gap
        draw.line([(16, top - 12), (width - 16, top - 12)], fill=_RULE)
    if evaluation.phrases:
        _headline(draw, top, width, PHRASES, evaluation.phrases[0].direction)
        top += head
        for row in evaluation.phrases:
            draw.text((side[0], top), _shortened(row.name), fill=_INK, font=_font(13))
            _bars(draw, side, top + phrase_head - 6, bar, row.values, max(map(_reach, evaluation.phrases)))
            top += phrase_head + bar * len(row.values)
    return picture


def _headline(draw, top: int, width: int, name: str, direction: str) -> None:
    draw.text((16, top), name.replace("é", "e"), fill=_INK, font=_font(16))  # Pillow's font has no é
    draw.text((width - 16, top + 3), direction, fill=_FAINT, font=_font(13), anchor="ra")


def _shortened(phrase: str, most: int = 70) -> str:
    return phrase if len(phrase) <= most else f"{phrase[: most - 3].rstrip()}..."


def _reach(row: Row) -> float:
    """The largest value of a row with its error."""
    return max(
        (value.value + _drawn_error(value) for value in row.values.values() if math.isfinite(value.value)), default=0
    )


def _bars(draw, sides: tuple[int, int], top: int, height: int, values: dict[str, Measure], reach: float) -> None:
    """Horizontal bars from 0 between both sides, of which one of the length `reach` would fill all."""
    left, right = sides
    scale = (right - left) / reach if reach > 0 else 0.0
    for name, value in values.items():
        middle = top + height // 2
        draw.text((left - 10, middle), name, fill=_INK, font=_font(13), anchor="rm")
        length = max(0.0, value.value) * scale if math.isfinite(value.value) else 0.0
        draw.rectangle([left, middle - 8, left + max(1, length), middle + 8], fill=_COLOURS[name])
        spread = _drawn_error(value) * scale
        end = left + length
        if spread >= 1:
            ends = max(left, end - spread), end + spread
            draw.line([(ends[0], middle), (ends[1], middle)], fill=_INK, width=1)
            for x in ends:
                draw.line([(x, middle - 4), (x, middle + 4)], fill=_INK, width=1)
        draw.text((end + spread + 8, middle), str(value), fill=_INK, font=_font(13), anchor="lm")
        top += height


def _drawn_error(value: Measure) -> float:
    return value.error if math.isfinite(value.error) else 0.0


def _font(size: int):
    return ImageFont.load_default(size)
