"""A way of drawing that no model of the miniature has seen and no caption names: ink lines and hatching over washed
colours on paper. It stands in for a style of which people have pictures and no word.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .factors import Factors
from .renderer import RESOLUTION, render

PAPER, INK = (0.95, 0.91, 0.81), (0.10, 0.10, 0.22)
"""Colours, sRGB."""

_FINER = 4  # times as fine as the picture is what is drawn on
_WASH = 0.42  # how much of a colour is paper
_EDGE = 0.12  # difference of colours within a line's width that is a line
_PERIOD, _STROKE = 16, 4  # of the hatching, in fine pixels


def render_ink(factors: Factors) -> Tensor:
    """Draw portraits [B, 3, 64, 64] in [-1, 1] of the factors with ink."""
    return torch.cat([_drawn(factors[slice(start, start + 32)]) for start in range(0, len(factors), 32)])


def _drawn(factors: Factors) -> Tensor:
    fine = (render(factors, RESOLUTION * _FINER) + 1) / 2
    # Lines where the colour changes within a fine pixel to each side: half a pixel of the picture wide.
    change = F.max_pool2d(fine, 3, 1, 1) + F.max_pool2d(-fine, 3, 1, 1)
    line = (change.amax(1, keepdim=True) > _EDGE).float()
    dark = 1 - fine.mean(1, keepdim=True)
    axis = torch.arange(fine.shape[-1])
    rising, falling = axis[None] + axis[:, None], axis[None] - axis[:, None]
    # One way where it is half dark, both ways where it is darker.
    hatch = torch.zeros_like(dark)
    for diagonal, above in ((rising, 0.52), (falling, 0.74)):
        hatch = torch.maximum(hatch, ((diagonal % _PERIOD < _STROKE) & (dark > above)).float())
    paper, ink = (torch.tensor(colour)[:, None, None] for colour in (PAPER, INK))
    washed = torch.lerp(fine, paper.expand_as(fine), _WASH)
    drawn = torch.lerp(washed, ink.expand_as(fine), torch.maximum(line, 0.75 * hatch))
    return F.avg_pool2d(drawn, _FINER) * 2 - 1
