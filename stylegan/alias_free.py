"""The synthesis network of StyleGAN3 (Karras et al. 2021, arXiv 2106.12423): Fourier features, then layers that treat
their feature maps as samples of band-limited signals. Sampling rates and cutoffs count cycles over the picture."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import StyleGAN3Config
from .filters import low_pass
from .layers import FullyConnected, clamped, full_precision, leaky_relu, modulated_conv2d, normal
from .synthesis import Draw, SynthesisNetwork, maybe_recompute

SLICE = 2**25  # values of the raised feature maps that are computed together, where none of them is kept


@dataclass(frozen=True)
class Signal:
    """Signal describes what a layer's feature maps are samples of."""

    channels: int
    size: tuple[int, int]  # height and width in samples, margins included
    rate: int  # sampling rate s
    cutoff: float  # f_c
    half_width: float  # f_h, half of the transition band


def signals(config: StyleGAN3Config) -> list[Signal]:
    """Return the signal that each layer puts out, from the first to ToRGB, whose input and the Fourier
    features have the first layer's."""
    last_cutoff = config.resolution / 2
    last_stopband = last_cutoff * config.last_stopband_rel
    progress = np.minimum(np.arange(config.num_layers + 1) / (config.num_layers - config.num_critical), 1)
    cutoffs = config.first_cutoff * (last_cutoff / config.first_cutoff) ** progress
    stopbands = config.first_stopband * (last_stopband / config.first_stopband) ** progress
    rates = np.exp2(np.ceil(np.log2(np.minimum(stopbands * 2, config.resolution))))
    half_widths = np.maximum(stopbands, rates / 2) - cutoffs
    sides = rates + 2 * config.margin_size
    sides[-2:] = config.resolution
    sizes = [tuple(int(side) * share // 4 for share in config.const_size) for side in sides]
    channels = np.rint(np.minimum(config.channel_base / 2 / cutoffs, config.channel_max))
    channels[-1] = config.img_channels
    columns = (column.tolist() for column in (channels.astype(int), rates.astype(int), cutoffs, half_widths))
    return [Signal(count, size, *rest) for size, (count, *rest) in zip(sizes, zip(*columns, strict=True), strict=True)]


class FourierInput(nn.Module):
    """A FourierInput takes w [B, w_dim] to features [B, channels, H, W] of its signal's size: sines, moved and turned as
    w says, mixed by a matrix."""

    def __init__(self, w_dim: int, signal: Signal):
        super().__init__()
        self.signal = signal
        self.weight = nn.Parameter(normal(signal.channels, signal.channels))
        self.affine = FullyConnected(w_dim, 4)
        self.affine.weight.data = torch.zeros(4, w_dim)
        self.affine.bias.data = torch.tensor([1.0, 0.0, 0.0, 0.0])
        identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        self.register_buffer(
            "transform", torch.tensor(identity)
        )  # a further inverse transform of the picture, by the user
        self.register_buffer("freqs", normal(signal.channels, 2))
        self.register_buffer("phases", torch.empty(signal.channels))
        if not self.freqs.is_meta:
            self._draw_waves()

    def _draw_waves(self) -> None:
        radii = self.freqs.norm(dim=1, keepdim=True)
        self.freqs /= radii * radii.square().exp().pow(0.25)  # uniform in the disc of radius 1
        self.freqs *= self.signal.cutoff
        self.phases.uniform_(-0.5, 0.5)

    def forward(self, w: Tensor) -> Tensor:
        with full_precision(w):
            cos, sin, shift_x, shift_y = self._pose(w)
            zero, one = torch.zeros_like(cos), torch.ones_like(cos)
            # The picture is turned first, then moved, then transformed by the user.
            turn = _matrices([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])
            move = _matrices([[one, zero, -shift_x], [zero, one, -shift_y], [zero, zero, one]])
            transform = turn @ move @ self.transform.float()
            freqs = self.freqs.float() @ transform[:, :2, :2]
            phases = self.phases.float() + (self.freqs.float() @ transform[:, :2, 2:]).squeeze(2)
            features = torch.sin(2 * math.pi * self._angles(freqs, phases)) * self._amplitudes(freqs)
            weight = self.weight.float() / math.sqrt(self.signal.channels)
            return torch.einsum("oi,bihw->bohw", weight, features)

    def _pose(self, w: Tensor) -> tuple[Tensor, ...]:
        pose = self.affine(w)
        return (pose / pose[:, :2].norm(dim=1, keepdim=True)).unbind(1)

    def _angles(self, freqs: Tensor, phases: Tensor) -> Tensor:
        """In turns, [B, channels, H, W], of waves with freqs [B, channels, 2] and phases [B, channels]."""
        down, across = (
            (torch.arange(size, device=freqs.device) + 0.5 - size / 2) / self.signal.rate for size in self.signal.size
        )
        x, y = freqs[:, :, :1] * across, freqs[:, :, 1:] * down
        return x[:, :, None, :] + y[:, :, :, None] + phases[:, :, None, None]

    def _amplitudes(self, freqs: Tensor) -> Tensor:
        """Below 1 for frequencies that the user's transform moved out of the band."""
        cutoff, rate = self.signal.cutoff, self.signal.rate
        return (1 - (freqs.norm(dim=2) - cutoff) / (rate / 2 - cutoff)).clamp(0, 1)[:, :, None, None]


def _matrices(rows: list[list[Tensor]]) -> Tensor:
    """[B, 3, 3] of entries [B]."""
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


class AliasFreeConv(nn.Module):
    """An AliasFreeConv is a modulated convolution with bias and leaky ReLU at a raised sampling rate; the
    last layer, ToRGB, is linear.

    x [B, I, *source.size] to [B, O, *target.size]."""

    def __init__(self, config: StyleGAN3Config, source: Signal, target: Signal, critical: bool, to_rgb: bool):
        super().__init__()
        self.to_rgb = to_rgb
        self.clamp = config.conv_clamp
        self.size = target.size
        self.affine = FullyConnected(config.w_dim, source.channels, bias_init=1.0)
        kernel = 1 if to_rgb else config.conv_kernel
        self.weight = nn.Parameter(normal(target.channels, source.channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(target.channels))
        self.register_buffer("magnitude_ema", torch.ones([]))  # mean square of the inputs, as the training saw it

        rate = max(source.rate, target.rate) * (1 if to_rgb else config.lrelu_upsampling)
        self.up, self.down = rate // source.rate, rate // target.rate
        taps = 0 if to_rgb else config.filter_size
        radial = config.use_radial_filters and not critical
        up_taps = taps * self.up if self.up > 1 and taps else 1
        down_taps = taps * self.down if self.down > 1 and taps else 1
        up_filter = low_pass(up_taps, source.cutoff, 2 * source.half_width, rate)
        down_filter = low_pass(down_taps, target.cutoff, 2 * target.half_width, rate, radial)
        self.register_buffer("up_filter", up_filter, persistent=False)
        self.register_buffer("down_filter", down_filter, persistent=False)

        def padding(target: int, source: int) -> tuple[int, int]:
            """What the output lacks, or has too much, of the upsampled picture; shared between both sides."""
            total = (target - 1) * self.down + 1 - (source + kernel - 1) * self.up + up_taps + down_taps - 2
            low = (total + self.up) // 2
            return low, total - low

        self.padding = tuple(padding(*sizes) for sizes in zip(target.size, source.size, strict=True))

    def forward(self, x: Tensor, w: Tensor, recompute: bool = False) -> Tensor:
        x = maybe_recompute(recompute, self._convolve, x, w)
        raised = self.up**2 * x.shape[-2] * x.shape[-1]
        count = max(1, SLICE // (len(x) * raised))
        if count >= x.shape[1] or (torch.is_grad_enabled() and not recompute):
            return maybe_recompute(recompute, self._activate, x)
        # Channels do not meet here: a few at a time, for the raised sampling rate takes many times their memory.
        return torch.cat([maybe_recompute(recompute, self._activate, part) for part in x.split(count, dim=1)], dim=1)

    def _convolve(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w)
        if self.to_rgb:
            styles = styles / math.sqrt(self.weight.shape[1])
        x = x * self.magnitude_ema.rsqrt().to(x.dtype)
        padding = self.weight.shape[-1] - 1
        demodulate = not self.to_rgb
        return modulated_conv2d(x, self.weight, styles, demodulate=demodulate, padding=padding, bias=self.bias)

    def _activate(self, x: Tensor) -> Tensor:
        x = upsample_filtered(x, self.up_filter, self.up, self.padding)
        if not self.to_rgb:
            x = leaky_relu(x)
        return downsample_filtered(clamped(x, self.clamp), self.down_filter, self.down)


def upsample_filtered(
    x: Tensor, taps: Tensor | None, factor: int, padding: tuple[tuple[int, int], tuple[int, int]]
) -> Tensor:
    """Upsample x [B, C, H, W]: factor - 1 zeros after each sample, `padding` zeros before and after, first of the columns'
    and then of the rows' samples (less than 0: cut off), then filtered with gain factor^2 where the filter fits:
    [B, C, M, N], M = factor H + sum(padding[0]) - len(taps) + 1, and N likewise."""
    (top, low), (left, right) = padding
    if taps is None:
        return F.pad(x, [left, right, top, low])
    channels, count = x.shape[1], len(taps)
    height, width = (factor * x.shape[dim] + sum(pads) - count + 1 for dim, pads in zip((2, 3), padding, strict=True))
    weight = (taps * factor).to(x.dtype)
    with full_precision(x):
        x = F.conv_transpose2d(x, weight.expand(channels, 1, 1, count), stride=(1, factor), groups=channels)
        x = _window(x, 3, count - 1 - left, width)
        x = F.conv_transpose2d(x, weight[:, None].expand(channels, 1, count, 1), stride=(factor, 1), groups=channels)
        return _window(x, 2, count - 1 - top, height)


def _window(x: Tensor, dim: int, start: int, size: int) -> Tensor:
    """x[start : start + size] along `dim`, with zeros where there is no x."""
    if start >= 0 and start + size <= x.shape[dim]:
        return x.narrow(dim, start, size)
    pads = [-start, start + size - x.shape[dim]]
    return F.pad(x, pads if dim == x.ndim - 1 else [0, 0, *pads])


def downsample_filtered(x: Tensor, taps: Tensor | None, factor: int) -> Tensor:
    """Return every factor-th sample in both directions of x [B, C, H, W], filtered where the filter fits.

    `taps` [n] filters both axes in turn, [n, n] is a kernel in two dimensions."""
    if taps is None:
        return x[..., ::factor, ::factor]
    channels, taps = x.shape[1], taps.to(x.dtype)
    with full_precision(x):
        if taps.ndim == 2:
            return F.conv2d(x, taps.expand(channels, 1, *taps.shape), stride=factor, groups=channels)
        x = F.conv2d(x, taps.expand(channels, 1, 1, len(taps)), stride=(1, factor), groups=channels)
        return F.conv2d(x, taps[:, None].expand(channels, 1, len(taps), 1), stride=(factor, 1), groups=channels)


class AliasFreeSynthesis(SynthesisNetwork):
    """AliasFreeSynthesis is the synthesis network of StyleGAN3: layer 0 is the Fourier input, the last
    code drives the only ToRGB."""

    def __init__(self, config: StyleGAN3Config):
        super().__init__()
        self.num_ws = config.num_layers + 2
        self.w_dim = config.w_dim
        self.output_scale = config.output_scale
        outputs = signals(config)
        self.signals = [outputs[0], *outputs]  # of each code's layer
        self.input = FourierInput(config.w_dim, outputs[0])
        sources = [outputs[0], *outputs[:-1]]
        first_critical = config.num_layers - config.num_critical
        convs = [
            AliasFreeConv(config, source, target, critical=i >= first_critical, to_rgb=i == config.num_layers)
            for i, (source, target) in enumerate(zip(sources, outputs, strict=True))
        ]
        self.convs = nn.ModuleList(convs[:-1])
        self.to_rgb = convs[-1]

    @property
    def layers(self) -> list[nn.Module]:
        return [self.input, *self.convs]

    @property
    def layer_names(self) -> list[str]:
        """Return "input", "36x36/conv1", "36x36/conv2", ..."""
        sides = (f"{width}x{height}" for height, width in (conv.size for conv in self.convs))
        return ["input", *(f"{side}/conv{i}" for i, side in enumerate(sides, start=1))]

    @property
    def groups(self) -> dict[str, list[nn.Module | nn.Parameter]]:
        # The Fourier features take the place of StyleGAN2's constant.
        return {"constant": [self.input], "to_rgb": [self.to_rgb]}

    @property
    def companions(self) -> list[list[nn.Module | nn.Parameter]]:
        return [*([] for _ in self.layers[1:]), [self.to_rgb]]

    @property
    def detail(self) -> list[float]:
        """Return twice the cutoff frequency of the layers' signals."""
        return [2 * signal.cutoff for signal in self.signals]

    def forward(self, draw: Draw, noise: str = "const", recompute: bool = False) -> Tensor:
        """Render a draw. There are no noise inputs: every `noise` gives the same picture. With `recompute` the backward
        pass computes activations again instead of keeping them."""
        ws = self.checked_codes(draw, noise)
        x = self.input(ws[:, 0]).to(ws.dtype)
        for conv, w in zip([*self.convs, self.to_rgb], ws[:, 1:].unbind(1), strict=True):
            x = conv(x, w, recompute)
        return x.float() * self.output_scale
