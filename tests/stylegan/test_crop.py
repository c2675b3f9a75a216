"""Pictures that are not square: bars found, and cut off."""

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import Crop, crop_of, find_crop, with_crop
from foreign_files import small


def with_bars(rows=(), columns=()):
    """A generator whose last noise input blackens these rows and columns of 32 in every picture."""
    generator = small()
    last, to_rgb = generator.synthesis.layers[-1], generator.synthesis.blocks[-1].to_rgb
    black = torch.zeros(32, 32, dtype=torch.bool)
    black[list(rows)] = True
    black[:, list(columns)] = True
    to_rgb.weight.abs_().neg_()
    to_rgb.affine.weight.mul_(0.1)
    to_rgb.bias.fill_(0.5)
    last.noise_strength.fill_(1.0)
    last.bias.fill_(-3.0)
    last.noise_const.copy_(torch.where(black, 60.0, -2.0))
    return generator


def render_bars(generator):
    """find_crop renders without noise inputs; here the bars are one."""
    synthesis = generator.synthesis
    draw = synthesis.forward
    synthesis.forward = lambda ws, noise="const": draw(ws)
    return generator


@pytest.mark.parametrize(
    "rows, columns, expected",
    [
        ((*range(4), *range(28, 32)), (), "32x24"),
        ((), (*range(8), *range(24, 32)), "16x32"),
        ((), (), None),
        (range(4), (), None),  # on one side: a picture that is dark above
        ((*range(4), *range(28, 32)), (*range(4), *range(28, 32)), None),  # on all sides: a black ground
        ((*range(4), *range(22, 32)), (), "32x24"),  # as much as is black on both sides
        ((0, 31), (), None),  # one row may be by chance
        (range(32), (), None),
    ],
)
def test_bars_are_found(rows, columns, expected):
    found = find_crop(render_bars(with_bars(rows, columns)))
    assert (found and str(found)) == expected


def test_a_crop_takes_the_middle():
    images = torch.arange(64.0).view(1, 1, 8, 8)
    assert torch.equal(Crop(8, 4).apply(images), images[:, :, 2:6])
    assert torch.equal(Crop(2, 8).apply(images), images[..., 3:5])
    assert torch.equal(Crop(100, 100).apply(images), images)


def test_a_crop_is_read_from_metadata():
    assert crop_of({}) is None and crop_of({"crop": ""}) is None
    assert crop_of({"crop": "512x384"}) == Crop(512, 384)
    assert str(Crop.parse(" 512 X 384 ")) == "512x384"
    with pytest.raises(ValueError, match="'wide' is no crop; write width and height"):
        crop_of({"crop": "wide"})


@pytest.mark.parametrize(
    "wanted, crop", [("none", None), ("auto", "512x384"), ("", "512x384"), (" 512x256 ", "512x256"), ("64X32", "64x32")]
)
def test_a_crop_is_kept_taken_out_or_replaced(wanted, crop):
    assert with_crop({"a": "b", "crop": "512x384"}, wanted).get("crop") == crop


@pytest.mark.parametrize("wanted", ["512", "512x", "axb", "0x3", "512x384x3", "-1x2"])
def test_a_crop_that_is_none_is_named(wanted):
    with pytest.raises(ValueError, match="crop"):
        with_crop({}, wanted)
