"""The StyleGAN3 generator: its filters, its layers' signals, and the equivariance that they are there for."""

import math

import pytest
import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.stylegan import Draw, Generator, StyleGAN3Config, alias_free, sample_z
from comfyui_stylegan_fusion.stylegan.alias_free import downsample_filtered, signals, upsample_filtered
from comfyui_stylegan_fusion.stylegan.filters import low_pass
from foreign_files import STYLEGAN3_R, STYLEGAN3_T, build


def response(taps, frequency, rate, other=0.0):
    """Amplitude at a frequency (in both directions for a kernel) of a filter that is symmetric about its middle."""
    count = taps.shape[-1]
    x = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) / rate
    wave = torch.cos(2 * math.pi * frequency * x)
    if taps.ndim == 1:
        return (taps.double() * wave).sum().item()
    return (taps.double() * wave * torch.cos(2 * math.pi * other * x)[:, None]).sum().item()


def test_a_low_pass_filter_passes_what_is_below_its_cutoff():
    taps = low_pass(24, cutoff=8.0, width=8.0, rate=64)
    assert taps.shape == (24,) and torch.allclose(taps, taps.flip(0))
    assert response(taps, 0.0, 64) == pytest.approx(1)
    assert response(taps, 8.0, 64) == pytest.approx(0.5, abs=0.02)
    assert response(taps, 3.0, 64) > 0.97
    assert max(abs(response(taps, f, 64)) for f in (13.0, 16.0, 20.0, 31.0)) < 0.02


def test_a_longer_transition_band_costs_sharpness_and_buys_attenuation():
    narrow, wide = (low_pass(24, cutoff=8.0, width=width, rate=64) for width in (4.0, 16.0))
    assert response(narrow, 10.0, 64) < response(wide, 10.0, 64)
    assert abs(response(wide, 20.0, 64)) < abs(response(narrow, 20.0, 64))


def test_a_radial_filter_is_the_same_in_all_directions():
    kernel = low_pass(24, cutoff=8.0, width=8.0, rate=64, radial=True)
    assert kernel.shape == (24, 24) and kernel.sum().item() == pytest.approx(1)
    assert torch.allclose(kernel, kernel.t()) and torch.allclose(kernel, kernel.flip(0))
    for frequency in (4.0, 8.0, 12.0):
        diagonal = frequency / 2**0.5
        assert response(kernel, diagonal, 64, diagonal) == pytest.approx(response(kernel, frequency, 64), abs=0.01)
    separable = torch.outer(low_pass(24, 8.0, 8.0, 64), low_pass(24, 8.0, 8.0, 64))
    assert abs(response(separable, 8.0 / 2**0.5, 64, 8.0 / 2**0.5) - response(separable, 8.0, 64)) > 0.2


def test_filters_of_one_tap_are_none_and_odd_radial_ones_have_a_middle():
    assert low_pass(1, 8.0, 8.0, 64) is None
    kernel = low_pass(13, cutoff=8.0, width=8.0, rate=64, radial=True)
    assert torch.isfinite(kernel).all() and kernel.argmax() == 13 * 13 // 2


@pytest.mark.parametrize(
    "factor, taps, padding",
    [
        (2, 12, ((9, 8), (9, 8))),
        (4, 24, ((-6, -9), (-6, -9))),
        (2, 12, ((-3, 30), (-3, 30))),
        (3, 5, ((0, 0), (0, 0))),
        (2, 12, ((9, 8), (-3, 4))),
    ],
)
def test_upsampling_is_zeros_between_samples_then_a_filter(factor, taps, padding):
    torch.manual_seed(0)
    x, kernel = torch.randn(2, 3, 10, 14, dtype=torch.float64), torch.randn(taps, dtype=torch.float64)
    spread = torch.zeros(2, 3, 10 * factor, 14 * factor, dtype=torch.float64)
    spread[:, :, ::factor, ::factor] = x
    rows, columns = padding
    padded = F.pad(spread, [*columns, *rows])
    plane = torch.outer(kernel, kernel).flip(0, 1).expand(3, 1, taps, taps)
    expected = factor**2 * F.conv2d(padded, plane, groups=3)
    torch.testing.assert_close(upsample_filtered(x, kernel, factor, padding), expected)


def test_downsampling_is_a_filter_then_every_nth_sample():
    torch.manual_seed(0)
    x, kernel = torch.randn(2, 3, 20, 20, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    plane = torch.outer(kernel, kernel)
    expected = F.conv2d(x, plane.expand(3, 1, 6, 6), groups=3)[:, :, ::2, ::2]
    torch.testing.assert_close(downsample_filtered(x, kernel, 2), expected)
    torch.testing.assert_close(downsample_filtered(x, plane, 2), expected)
    assert torch.equal(downsample_filtered(x, None, 1), x)


def test_sizes_and_channels_are_those_of_the_published_1024_pixel_generator():
    """Configuration R: those that its layers are named after."""
    layers = signals(StyleGAN3Config(1024, channel_base=65536, channel_max=1024))
    sides = [36, 36, 52, 52, 84, 148, 148, 276, 276, 532, 1044, 1044, 1044, 1024, 1024]
    assert [s.size for s in layers] == [(side, side) for side in sides]
    channels = [1024] * 7 + [645, 406, 256, 161, 102, 64, 64, 3]
    assert [s.channels for s in layers] == channels
    assert layers[0].cutoff == 2 and layers[-1].cutoff == 512


@pytest.mark.parametrize("config", [STYLEGAN3_T, STYLEGAN3_R])
def test_pictures_have_their_size_and_follow_w_but_no_noise(config):
    generator = build(config)
    z = sample_z(12, 2, seed=1)
    images = generator(z)
    assert images.shape == (2, 3, 32, 32) and torch.isfinite(images).all()
    assert (images[0] - images[1]).abs().max() > 0.01
    assert torch.equal(images, generator(z, noise="random"))
    assert generator.num_ws == 16 and len(generator.synthesis.layers) == len(generator.synthesis.layer_names) == 15
    assert generator.synthesis.layer_names[:2] == ["input", "36x36/conv1"]


def test_code_i_drives_layer_i_and_the_last_one_to_rgb():
    generator = build(STYLEGAN3_T)
    synthesis, styles = generator.synthesis, {}
    for index, layer in enumerate([*synthesis.layers, synthesis.to_rgb]):
        layer.affine.register_forward_hook(lambda m, x, y, index=index: styles.__setitem__(index, y))
    ws = generator.mapping(sample_z(12, 1, seed=1))
    synthesis(Draw(ws))
    before = dict(styles)
    for index in range(16):
        changed = ws.clone()
        changed[:, index] += 1
        synthesis(Draw(changed))
        assert [i for i in styles if not torch.equal(styles[i], before[i])] == [index]


def moved(generator, z, matrix):
    """The pictures after the user's inverse transform."""
    before = generator.synthesis.input.transform.clone()
    generator.synthesis.input.transform.copy_(torch.tensor(matrix))
    images = generator(z)
    generator.synthesis.input.transform.copy_(before)
    return images


def psnr(a, b):
    return -10 * math.log10(((a - b).square().mean() / (a.std() * 2) ** 2).item())


def equivariant(config):
    """A generator of smooth maps: with random weights in all layers the signals hardly resemble those of a trained one."""
    generator = build(config)
    for conv in [*generator.synthesis.convs, generator.synthesis.to_rgb]:
        conv.bias.mul_(0.3)
    return generator


@pytest.mark.parametrize("config", [STYLEGAN3_T, STYLEGAN3_R])
def test_moving_the_input_moves_the_picture(config):
    """Translation equivariance (eq. 2 of the paper), by 5 of 32 pixels."""
    generator, z = equivariant(config), sample_z(12, 4, seed=3)
    still = generator(z)
    shifted = moved(generator, z, [[1.0, 0.0, -5 / 32], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert psnr(shifted[..., 6:], still[..., 1:-5]) > 40
    assert psnr(shifted[..., 6:], still[..., 6:]) < 25


def test_turning_the_input_turns_the_picture_of_configuration_r_only():
    z = sample_z(12, 4, seed=3)
    quarter = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    scores = {}
    for name, config in {"R": STYLEGAN3_R, "T": STYLEGAN3_T}.items():
        generator = equivariant(config)
        turned = moved(generator, z, quarter)
        scores[name] = max(psnr(turned, generator(z).rot90(k, (2, 3))) for k in (1, 3))
    assert scores["R"] > 60 > 30 > scores["T"]


def test_gradients_reach_codes_and_weights():
    generator = build(STYLEGAN3_T).requires_grad_(True)
    ws = generator.mapping(sample_z(12, 2, seed=1)).detach().requires_grad_()
    generator.synthesis(Draw(ws)).square().mean().backward()
    assert (ws.grad.abs().amax(dim=(0, 2)) > 0).all()
    for layer in generator.synthesis.layers:
        assert layer.weight.grad.abs().max() > 0 and layer.affine.weight.grad.abs().max() > 0


@pytest.mark.parametrize("config", [STYLEGAN3_T, STYLEGAN3_R])
def test_activations_computed_again_give_the_same_gradients(config):
    generator = build(config).requires_grad_(True)
    calls = []
    for layer in generator.synthesis.layers:
        layer.affine.register_forward_pre_hook(lambda m, x: calls.append(m))

    def step(checkpoint):
        ws = generator.mapping(sample_z(12, 2, seed=1)).detach().requires_grad_()
        images = generator.synthesis(Draw(ws), recompute=checkpoint)
        return torch.autograd.grad(images.square().mean(), [ws, *generator.synthesis.parameters()])

    kept = step(False)
    assert len(calls) == 15
    again = step(True)
    # The Fourier features are small and kept.
    assert calls[15:30] == calls[:15] and calls[30:] == calls[14:0:-1]
    for a, b in zip(again, kept, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("config", [STYLEGAN3_T, STYLEGAN3_R])
def test_few_channels_at_a_time_give_the_same_pictures_and_gradients(config, monkeypatch):
    generator = build(config).requires_grad_(True)
    ws = generator.mapping(sample_z(12, 2, seed=1)).detach()

    def step(checkpoint):
        images = generator.synthesis(Draw(ws), recompute=checkpoint)
        parameters = list(generator.synthesis.parameters())
        return [images.detach(), *torch.autograd.grad(images.square().mean(), parameters)]

    whole, sizes = step(False), []
    monkeypatch.setattr(alias_free, "SLICE", 30_000)
    for conv in generator.synthesis.convs:
        monkeypatch.setattr(conv, "_activate", lambda x, real=conv._activate: sizes.append(x.shape[1]) or real(x))
    for a, b in zip(step(True), whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(generator.synthesis(Draw(ws)), whole[0], atol=1e-5, rtol=1e-4)
    assert min(sizes) < 5 and len(sizes) > 3 * 14


@pytest.mark.parametrize(
    "change, message",
    [
        ({"conv_kernel": 5}, "conv_kernel is 5; it must be 1 or 3"),
        ({"use_radial_filters": 1}, "use_radial_filters is 1; it must be true or false"),
        ({"num_critical": 14}, "num_critical is 14; it must be below num_layers, 14"),
        ({"first_stopband": 1.0}, "first_stopband is 1.0; it must be above first_cutoff"),
        ({"output_scale": 0.0}, "output_scale is 0.0; it must be a number from 1e-06"),
        ({"last_stopband_rel": float("nan")}, "last_stopband_rel is nan"),
        ({"num_layers": 10**6}, "num_layers is 1000000"),
        ({"margin_size": -1}, "margin_size is -1"),
    ],
)
def test_a_size_out_of_range_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        StyleGAN3Config(64, **change)


def test_a_new_generator_draws_within_bounds():
    torch.manual_seed(0)
    generator = Generator(StyleGAN3Config(32, 64, 64, 0, 2, channel_base=1024, channel_max=64)).requires_grad_(False)
    radii = generator.synthesis.input.freqs.norm(dim=1)
    assert (
        radii.max() < 2 and 0.5 < (radii < 2**0.5).float().mean() / 0.5 < 1.5
    )  # uniform in the disc: half in half its area
    assert generator.synthesis.input.phases.abs().max() <= 0.5
    assert 0.02 < generator(sample_z(64, 4, seed=0)).std() < 5
