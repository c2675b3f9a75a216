"""Walks against their definitions, computed point by point."""

import math

import numpy as np
import pytest
import torch
from comfyui_stylegan_fusion.stylegan import PATHS, walk


@pytest.fixture
def keys():
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ease", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_walks_pass_through_every_key(keys, path, ease):
    opened, closed = walk(keys, 5, path, False, ease), walk(keys, 5, path, True, ease)
    assert len(opened) == 16 and len(closed) == 20
    torch.testing.assert_close(opened[::5], keys, rtol=0, atol=1e-6)
    torch.testing.assert_close(closed[::5], keys, rtol=0, atol=1e-6)


def test_straight_walks_are_even(keys):
    frames = walk(keys, 4, closed=True)
    steps = frames.roll(-1, 0) - frames
    for leg in range(4):
        expected = (keys[(leg + 1) % 4] - keys[leg]) / 4
        torch.testing.assert_close(steps[4 * leg : 4 * leg + 4], expected.expand(4, -1), rtol=0, atol=1e-6)


def test_slow_walks_rest_at_the_keys(keys):
    frames, share = walk(keys, 10, ease=True), 0.3
    eased = 3 * share**2 - 2 * share**3
    torch.testing.assert_close(frames[13], keys[1] + eased * (keys[2] - keys[1]))


def test_arcs_keep_their_length_and_pace():
    angle = 2.0
    a, b = torch.tensor([3.0, 0.0]), 3 * torch.tensor([math.cos(angle), math.sin(angle)])
    frames = walk(torch.stack([a, b]), 7, "sphere")
    expected = torch.tensor([[3 * math.cos(angle * i / 7), 3 * math.sin(angle * i / 7)] for i in range(8)])
    torch.testing.assert_close(frames, expected)


def test_arcs_between_parallel_keys_are_straight():
    a = torch.tensor([1.0, 2.0, -1.0])
    for b in (a, 2 * a, -a):
        frames = walk(torch.stack([a, b]), 2, "sphere")
        torch.testing.assert_close(frames[1], (a + b) / 2)


def test_curves_have_no_corners_and_follow_a_parabola_exactly():
    # Central differences are exact for a parabola, so its cubic through equally spaced points is the parabola itself.
    t = np.arange(6)
    keys = torch.tensor(np.stack([t**2, 1 - t], 1), dtype=torch.float64)
    frames = walk(keys, 8, "curve")
    inner = np.arange(8, 33) / 8  # the first and the last leg have a key on one side only
    np.testing.assert_allclose(frames[8:33], np.stack([inner**2, 1 - inner], 1), atol=1e-12)
    closed = walk(torch.randn(4, 3, dtype=torch.float64), 1000, "curve", closed=True)
    bends = (closed.roll(-1, 0) - 2 * closed + closed.roll(1, 0)).norm(dim=1)
    assert bends.max() < 5e-5 * (closed.amax() - closed.amin())


def test_w_plus_codes_walk_as_vectors_do(keys):
    codes = keys[:, None].repeat(1, 2, 1)
    for path in PATHS:
        torch.testing.assert_close(walk(codes, 3, path)[:, 1], walk(keys, 3, path))


@pytest.mark.parametrize(
    "count, frames, path, saying",
    [(1, 3, "curve", "two keyframes at least"), (2, 0, "curve", "at least 1"), (2, 3, "loop", "no path 'loop'")],
)
def test_what_cannot_be_walked_is_refused(count, frames, path, saying):
    with pytest.raises(ValueError, match=saying):
        walk(torch.zeros(count, 3), frames, path)
