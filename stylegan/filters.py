"""Low-pass filters of StyleGAN3 (Karras et al. 2021, arXiv 2106.12423, appendix C.1), designed in float64."""

import math

import numpy as np
import torch


def kaiser_window(taps: int, width: float, rate: float) -> np.ndarray:
    """Return the window [taps] whose filter has a transition band of `width` at a sampling
    `rate` (both in the same unit).

    Kaiser's formulas: attenuation A = 2.285 (taps - 1) pi width / (rate / 2) + 7.95, and beta from A."""
    attenuation = 2.285 * (taps - 1) * math.pi * width / (rate / 2) + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    return np.kaiser(taps, beta)


def low_pass(taps: int, cutoff: float, width: float, rate: float, radial: bool = False) -> torch.Tensor | None:
    """Return a filter of gain 1 that passes frequencies below `cutoff`: [taps], used along both axes, or, when
    `radial`, [taps, taps], the same in all directions. None, the identity, for a single tap.

    `width` is that of the transition band; it, `cutoff` and the sampling `rate` have the same unit."""
    if taps == 1:
        return None
    window = kaiser_window(taps, width, rate)
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    if radial:  # the jinc, which is to discs what the sinc is to intervals
        radius = np.hypot(*np.meshgrid(x, x))
        bessel = torch.special.bessel_j1(torch.from_numpy(2 * math.pi * cutoff * radius)).numpy()
        middle = radius == 0  # there with an odd number of taps
        kernel = np.where(middle, math.pi * cutoff**2, cutoff * bessel / np.where(middle, 1.0, radius))
        kernel = kernel * np.outer(window, window)
    else:
        kernel = np.sinc(2 * cutoff * x) * window
    return torch.from_numpy(kernel / kernel.sum()).float()
