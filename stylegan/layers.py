"""The layers of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) with equalized learning rate (arXiv 1710.10196).

Weights are stored as drawn from N(0, 1) / lr_multiplier and scaled when used, so that Adam moves every layer alike.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GAIN = math.sqrt(2)  # keeps the variance through a leaky ReLU of slope 0.2


def full_precision(x: Tensor) -> AbstractContextManager:
    """Let autocast leave float32 alone in the body: for what is small to compute and needs all its digits."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def normalize_second_moment(x: Tensor) -> Tensor:
    """Scale x [B, C] to a mean square of one per row."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def normal(*shape: int, std: float = 1.0) -> Tensor:
    """Draw numbers from N(0, std^2); on the meta device, where torch would first load a
    second's worth of code, none."""
    numbers = torch.empty(shape)
    return numbers if numbers.is_meta else numbers.normal_(std=std)


def fir_kernel() -> Tensor:
    """Return the binomial low-pass filter [1, 3, 3, 1] as a 4x4 kernel that sums to one."""
    taps = (1, 3, 3, 1)
    return torch.tensor([[a * b / 64 for a in taps] for b in taps])


def upsample(images: Tensor, kernel: Tensor) -> Tensor:
    """Upsample images [B, C, H, W] to [B, C, 2H, 2W]: zeros between the pixels, then the
    low-pass `kernel` with gain 4."""
    channels = images.shape[1]
    weight = (4 * kernel).to(images.dtype).expand(channels, 1, 4, 4)
    with full_precision(images):
        return F.conv_transpose2d(images, weight, stride=2, padding=1, groups=channels)


def leaky_relu(x: Tensor) -> Tensor:
    """Apply the leaky ReLU of slope 0.2 with gain sqrt(2)."""
    return F.leaky_relu(x, 0.2) * GAIN


class FullyConnected(nn.Module):
    """A FullyConnected is a linear layer [.., in] -> [.., out] in float32, under autocast too;
    `activate` adds the leaky ReLU."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activate: bool = False,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
    ):
        super().__init__()
        self.weight = nn.Parameter(normal(out_features, in_features, std=1 / lr_multiplier))
        self.bias = nn.Parameter(torch.full([out_features], bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            x = F.linear(x.float(), self.weight.float() * self.weight_gain, self.bias.float() * self.bias_gain)
        return leaky_relu(x) if self.activate else x


def activate(x: Tensor, bound: float | None = None) -> Tensor:
    """Apply the leaky ReLU of slope 0.2, in the place of x, whose gain sqrt(2) is in it already, and `clamped`. As much
    time goes into passes over large feature maps as into convolutions."""
    return clamped(F.leaky_relu_(x, 0.2), bound)


def clamped(x: Tensor, bound: float | None) -> Tensor:
    """Return x, which nothing else holds, clamped to [-bound, bound]; no bound clamps nothing.

    Where a gradient is recorded on the CPU, x is looked at first: that costs a tenth of what clamping and its gradient do,
    and activations seldom reach the bound. Elsewhere the device would have to be waited for."""
    if bound is None:
        return x
    if not x.requires_grad:
        return x.clamp_(-bound, bound)
    if x.device.type == "cpu":
        low, high = x.detach().aminmax()
        if -bound <= low.item() and high.item() <= bound:
            return x
    return x.clamp(-bound, bound)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    demodulate: bool = True,
    upsampling_kernel: Tensor | None = None,
    padding: int | None = None,
    bias: Tensor | None = None,
    gain: float = 1.0,
) -> Tensor:
    """Convolve each sample with its own kernel w'_oik = w_oik s_i, demodulated by 1 / ||w'_o|| (sec. 2.2), and return it
    with the bias [O] added, times gain: a tensor that nothing else holds.

    x [B, I, H, W], weight [O, I, k, k], styles [B, I] -> [B, O, H, W], or [B, O, 2H, 2W] with the FIR kernel of an
    upsampling layer; a `padding` other than k // 2 makes the result larger or smaller. Of one sample alone the kernel
    itself is scaled where it is smaller than the feature maps; else input and output are, which gives the same result
    from one convolution that all samples share.
    """
    scale = None
    if demodulate:
        # Demodulation cancels the size of a sample's styles and of an output's weights. Taken out beforehand, they keep
        # half precision from overflowing: 512 channels within +-256 give at most 256 sqrt(9 * 512), 17 000. As they
        # cancel, their own gradient is zero, and autograd need not follow them.
        styles, weight = styles.float(), weight.float()
        styles = styles / styles.detach().abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
        weight = weight * weight.detach().square().sum(dim=[1, 2, 3], keepdim=True).add(1e-8).rsqrt()
        with full_precision(x):
            norm = styles.square() @ weight.square().sum(dim=[2, 3]).t()
        scale = (norm + 1e-8).rsqrt() * gain
    elif gain != 1:
        styles = styles * gain
    own_kernel = len(x) == 1 and weight[0].numel() < 2 * x[0, 0].numel()
    if own_kernel:
        weight = weight * styles[0, None, :, None, None]
        weight = weight if scale is None else weight * scale[0, :, None, None, None]
        scale = None
    else:
        x = x * styles[:, :, None, None].to(x.dtype)
    if bias is not None and gain != 1:
        bias = bias * gain
    weight, last = weight.to(x.dtype), None if bias is None or scale is not None else bias.to(x.dtype)
    if upsampling_kernel is None:
        x = F.conv2d(x, weight, last, padding=weight.shape[-1] // 2 if padding is None else padding)
    else:
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        channels = x.shape[1]
        fir = (4 * upsampling_kernel).to(x.dtype).expand(channels, 1, 4, 4)
        x = F.conv2d(x, fir, last, padding=1, groups=channels)
    if scale is None:
        return x
    x = x * scale[:, :, None, None].to(x.dtype)
    return x if bias is None else x.add_(bias.to(x.dtype)[:, None, None])
