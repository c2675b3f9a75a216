import math

import pytest
import torch
from comfyui_stylegan_fusion.metrics.figures import before_after, sample_grid, to_pictures
from comfyui_stylegan_fusion.sds.figures import loss_plot
from comfyui_stylegan_fusion.training.history import History, StepRecord


def colours(*values, side=4):
    """One flat picture for each value, [B, 3, side, side]."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, side, side)


def history(values, diversity=()):
    records = [StepRecord(step, {"sds": value}) for step, value in enumerate(values, 1)]
    return History(records, {"diversity": dict(enumerate(diversity))} if diversity else {})


def drawn_curve(picture):
    """The points (x, y) of pixels in the first term's colour."""
    pixels = picture.load()
    return [(x, y) for x in range(picture.width) for y in range(picture.height) if pixels[x, y] == (0x2F, 0x6F, 0xDE)]


def test_pictures_map_minus_one_to_black_and_one_to_white_and_clamp():
    found = [picture.getpixel((0, 0)) for picture in to_pictures(colours(-1.0, 0.0, 1.0, 7.0, -7.0))]
    assert found == [(0,) * 3, (128,) * 3, (255,) * 3, (255,) * 3, (0,) * 3]


def test_a_grid_fills_rows_from_the_left_and_enlarges_small_images_by_whole_numbers():
    grid = sample_grid(colours(-1.0, 0.0, 1.0), columns=2, cell=11)
    assert grid.size == (16, 16)  # twice 4 pixels: three times would be wider than 11
    assert [grid.getpixel(place) for place in [(0, 0), (8, 0), (0, 8), (15, 15)]] == [
        (0,) * 3,
        (128,) * 3,
        (255,) * 3,
        (255,) * 3,
    ]


def test_a_grid_shrinks_large_images_to_the_cell():
    assert sample_grid(colours(0.0, 0.0, 0.0, 0.0, side=64), cell=16).size == (32, 32)


def test_before_is_above_after():
    picture = before_after(colours(-1.0, -1.0), colours(0.0, 0.0), cell=8)
    assert picture.width == 16
    column = [picture.getpixel((3, y)) for y in range(picture.height)]
    assert column.index((0, 0, 0)) < column.index((128, 128, 128))


def test_a_plot_has_a_panel_for_each_term_and_one_for_diversity():
    assert loss_plot(history([1.0, 2.0])).height == 200
    assert loss_plot(history([1.0, 2.0], [0.5, 0.4])).height == 400


def test_a_plotted_curve_falls_where_the_values_fall():
    points = drawn_curve(loss_plot(history([3.0, 2.0, 1.0])))
    left, right = min(points), max(points)
    assert left[0] < right[0] and left[1] < right[1]  # y grows downwards


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0], [math.inf, 1.0, math.nan, 2.0], [math.inf]])
def test_a_plot_is_drawn_whatever_the_history(values):
    assert loss_plot(history(values)).width == 720
    assert loss_plot(history(values, [0.3])).width == 720  # diversity as measured before the first step
