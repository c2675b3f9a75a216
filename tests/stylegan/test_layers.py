import math

import pytest
import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.stylegan.layers import (
    FullyConnected,
    clamped,
    fir_kernel,
    leaky_relu,
    modulated_conv2d,
    normalize_second_moment,
    upsample,
)


def zero_insertion(x):
    """[.., H, W] to [.., 2H, 2W] with the pixels at even places."""
    out = x.new_zeros(*x.shape[:-2], 2 * x.shape[-2], 2 * x.shape[-1])
    out[..., ::2, ::2] = x
    return out


def low_pass(x):
    """Each pixel of [B, C, H, W] as the sum over a 4x4 window that starts two before it, by explicit loops."""
    taps, out, padded = (1, 3, 3, 1), torch.zeros_like(x), F.pad(x, (2, 2, 2, 2))
    height, width = x.shape[-2:]
    for i in range(4):
        for j in range(4):
            out += taps[i] * taps[j] / 64 * padded[..., i : i + height, j : j + width]
    return out


def own_kernels(weight, styles, demodulate):
    """The kernel of each sample, written as in the paper: w' = s w, w'' = w' / sqrt(sum w'^2)."""
    kernels = []
    for style in styles:
        kernel = weight * style[None, :, None, None]
        if demodulate:
            kernel = torch.stack([row / row.square().sum().sqrt() for row in kernel])
        kernels.append(kernel)
    return kernels


def convolution_of_each(x, weight, styles, demodulate=True, up=False):
    pieces = []
    for sample, kernel in zip(x[:, None], own_kernels(weight, styles, demodulate), strict=True):
        if up:  # a true convolution of the zero-inserted input, hence the flipped kernel, then the low-pass filter
            sharp = F.conv2d(zero_insertion(F.pad(sample, (1, 1, 1, 1))), kernel.flip([2, 3]), padding=1)
            pieces.append(4 * low_pass(F.pad(sharp, (1, 1, 1, 1)))[..., 3:-3, 3:-3])
        else:
            pieces.append(F.conv2d(sample, kernel, padding=weight.shape[-1] // 2))
    return torch.cat(pieces)


def numbers(size=3, up=False):
    torch.manual_seed(3)
    x, weight = torch.randn(4, 5, 6, 6), torch.randn(7, 5, size, size)
    return x, weight, 1 + 0.7 * torch.randn(4, 5)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
def test_a_modulated_convolution_gives_every_sample_its_own_kernel(size, demodulate):
    x, weight, styles = numbers(size)
    torch.testing.assert_close(
        modulated_conv2d(x, weight, styles, demodulate),
        convolution_of_each(x, weight, styles, demodulate),
        atol=1e-5,
        rtol=1e-5,
    )


def test_an_upsampling_convolution_is_zero_insertion_then_convolution_then_low_pass():
    x, weight, styles = numbers()
    ours = modulated_conv2d(x, weight, styles, upsampling_kernel=fir_kernel())
    assert ours.shape == (4, 7, 12, 12)
    torch.testing.assert_close(ours, convolution_of_each(x, weight, styles, up=True), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_its_gradients_are_those_of_the_explicit_kernels(up):
    """Demodulation divides sizes out without autograd following them: no gradient may be lost by that."""
    kernel = fir_kernel() if up else None
    inputs = [value.requires_grad_() for value in numbers()]
    probe = torch.randn(4, 7, 6 * (1 + up), 6 * (1 + up))
    ours = torch.autograd.grad((modulated_conv2d(*inputs, upsampling_kernel=kernel) * probe).sum(), inputs)
    explicit = torch.autograd.grad((convolution_of_each(*inputs, up=up) * probe).sum(), inputs)
    for a, b in zip(ours, explicit, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_demodulation_gives_unit_variance_whatever_the_styles_and_weights():
    torch.manual_seed(0)
    x, weight = torch.randn(8, 32, 16, 16), 1000 * torch.randn(64, 32, 3, 3)
    styles = torch.rand(8, 32) * torch.logspace(-3, 3, 8)[:, None]
    inside = modulated_conv2d(x, weight, styles)[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside.std(dim=[1, 2, 3]), torch.ones(8), atol=0.05, rtol=0)


def test_styles_of_zero_give_zero_and_no_nan():
    x, weight, styles = numbers()
    styles[1] = 0
    out = modulated_conv2d(x.half(), weight.half(), styles.half())
    assert torch.isfinite(out).all()
    assert (out[1] == 0).all()


@pytest.mark.parametrize("up", [False, True])
def test_half_precision_does_not_overflow_at_the_clamp_with_weights_that_all_agree(up):
    x, weight, styles = torch.full((1, 512, 4, 4), 256.0), torch.full((2, 512, 3, 3), 300.0), torch.full((1, 512), 90.0)
    kernel = fir_kernel() if up else None
    out = modulated_conv2d(x.half(), weight, styles, upsampling_kernel=kernel)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(
        out.float(), modulated_conv2d(x, weight, styles, upsampling_kernel=kernel), atol=0, rtol=0.01
    )


def test_upsampling_is_zero_insertion_then_low_pass_with_gain_four():
    images = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(
        upsample(images, fir_kernel()), 4 * low_pass(zero_insertion(images)), atol=1e-6, rtol=1e-6
    )


def test_upsampling_keeps_a_flat_picture_flat_but_for_its_border():
    flat = upsample(torch.full((1, 1, 8, 8), 0.7), fir_kernel())
    torch.testing.assert_close(flat[..., 1:-1, 1:-1], torch.full((1, 1, 14, 14), 0.7))


def test_a_fully_connected_layer_scales_its_weights_when_used():
    layer = FullyConnected(6, 4, bias_init=1.0, lr_multiplier=0.01)
    x = torch.randn(3, 6)
    expected = x @ (0.01 / math.sqrt(6) * layer.weight.T) + 1.0
    torch.testing.assert_close(layer(x), expected)


def test_initial_weights_are_normal_divided_by_the_learning_rate_multiplier():
    torch.manual_seed(0)
    layer = FullyConnected(200, 200, lr_multiplier=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)
    assert layer.weight.mean().abs() < 2
    assert layer.bias.abs().max() == 0


def test_the_activation_keeps_a_mean_square_of_one():
    x = torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(leaky_relu(x), torch.tensor([-0.2 * 2**0.5, 0.0, 2**0.5]))


@pytest.mark.parametrize("bound", [None, 3.0, 100.0])
@pytest.mark.parametrize("recorded", [False, True])
def test_activations_and_their_gradients_are_clamped(bound, recorded):
    x = torch.tensor([-50.0, -1.0, 0.5, 50.0, -3.0], requires_grad=recorded)
    limit = bound or math.inf
    result = clamped(x.clone(), bound)
    torch.testing.assert_close(result.detach(), x.detach().clamp(-limit, limit))
    if recorded:
        result.sum().backward()
        torch.testing.assert_close(x.grad, (x.detach().abs() <= limit).float())


def test_what_is_no_number_is_not_taken_for_within_the_bound():
    x = torch.tensor([math.nan, 50.0, math.inf], requires_grad=True)
    result = clamped(x.clone(), 3.0)
    assert result[0].isnan()
    assert result[1:].tolist() == [3.0, 3.0]


def test_latents_are_scaled_to_a_mean_square_of_one():
    z = 9 * torch.randn(5, 12)
    torch.testing.assert_close(normalize_second_moment(z).square().mean(dim=1), torch.ones(5))
    torch.testing.assert_close(F.normalize(z, dim=1) * 12**0.5, normalize_second_moment(z))
