import math

import pytest
import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.stylegan import Draw, Generator, GeneratorConfig, sample_z
from comfyui_stylegan_fusion.stylegan.layers import modulated_conv2d, upsample

Z = sample_z(12, 3, seed=1)


@pytest.mark.parametrize("side, codes", [(32, 8), (64, 10), (256, 14), (1024, 18)])
def test_number_of_codes_and_convolutions(side, codes):
    with torch.device("meta"):
        generator = Generator(GeneratorConfig(side))
    assert generator.num_ws == codes == 2 * round(math.log2(side)) - 2
    assert len(generator.synthesis.layers) == len(generator.synthesis.layer_names) == codes - 1


def test_channels_are_those_of_the_published_1024_pixel_generator():
    with torch.device("meta"):
        generator = Generator(GeneratorConfig(1024))
    assert [conv.weight.shape[0] for conv in generator.synthesis.layers][::2] == [512] * 5 + [256, 128, 64, 32]
    assert sum(p.numel() for p in generator.mapping.parameters()) == 8 * (512 * 512 + 512)


def test_code_i_drives_convolution_i_and_the_next_code_drives_to_rgb(generator):
    """Found from the outside: the sites whose output a change of one code changes at first hand."""
    synthesis, sites = generator.synthesis, {}
    for name, module in zip(synthesis.layer_names, synthesis.layers, strict=True):
        module.affine.register_forward_hook(lambda m, x, y, name=name: sites.__setitem__(name, y))
    for block, side in zip(synthesis.blocks, (4, 8, 16, 32), strict=True):
        block.to_rgb.affine.register_forward_hook(lambda m, x, y, side=side: sites.__setitem__(f"rgb{side}", y))
    ws = generator.mapping(Z[:1])
    synthesis(Draw(ws))
    before, driven = dict(sites), []
    for index in range(generator.num_ws):
        changed = ws.clone()
        changed[:, index] += 1
        synthesis(Draw(changed))
        driven.append({name for name in sites if not torch.equal(sites[name], before[name])})
    assert driven == [
        {"4x4/conv"},
        {"rgb4", "8x8/conv0"},
        {"8x8/conv1"},
        {"rgb8", "16x16/conv0"},
        {"16x16/conv1"},
        {"rgb16", "32x32/conv0"},
        {"32x32/conv1"},
        {"rgb32"},
    ]


def test_the_mapping_as_the_paper_writes_it(generator):
    x = Z / Z.square().mean(dim=1, keepdim=True).sqrt()
    for layer in generator.mapping.layers:
        a = x @ layer.weight.T * 0.01 / math.sqrt(layer.weight.shape[1]) + 0.01 * layer.bias
        x = math.sqrt(2) * torch.where(a > 0, a, 0.2 * a)
    ws = generator.mapping(Z)
    assert ws.shape == (3, 8, 16)
    torch.testing.assert_close(ws, x[:, None].expand(3, 8, 16))


def test_the_synthesis_as_the_paper_writes_it(generator):
    """Skip connections, noise after demodulation and before the bias, ToRGB without demodulation."""
    ws, synthesis = generator.mapping(Z), generator.synthesis
    x, picture, codes = synthesis.blocks[0].const.repeat(3, 1, 1, 1), 0.0, iter(ws.unbind(1))
    code = next(codes)
    for block in synthesis.blocks:
        for conv in block.convs:
            fir = synthesis.fir if conv.resolution > x.shape[-1] else None
            style = F.linear(code, conv.affine.weight / 4, conv.affine.bias)  # w_dim is 16
            x = modulated_conv2d(x, conv.weight, style, upsampling_kernel=fir)
            x = x + conv.noise_strength * conv.noise_const + conv.bias[:, None, None]
            x = math.sqrt(2) * torch.where(x > 0, x, 0.2 * x)
            code = next(codes)
        layer = block.to_rgb
        style = F.linear(code, layer.affine.weight / 4, layer.affine.bias) / math.sqrt(x.shape[1])
        colours = torch.einsum("bihw,bi,oi->bohw", x, style, layer.weight[..., 0, 0]) + layer.bias[:, None, None]
        picture = colours + (upsample(picture, synthesis.fir) if torch.is_tensor(picture) else 0)
    torch.testing.assert_close(synthesis(Draw(ws)), picture, atol=1e-4, rtol=1e-4)


def test_a_smaller_resolution_is_the_picture_that_the_larger_ones_build_on(generator):
    """The last blocks' colours are added to the upsampled picture: without them the rest must be left."""
    ws, synthesis = generator.mapping(Z), generator.synthesis
    half = synthesis(Draw(ws), resolution=16)
    assert half.shape == (3, 3, 16, 16)
    synthesis.blocks[-1].to_rgb.weight.zero_()
    synthesis.blocks[-1].to_rgb.bias.zero_()
    torch.testing.assert_close(synthesis(Draw(ws)), upsample(half, synthesis.fir))
    assert torch.equal(synthesis(Draw(ws), resolution=32), synthesis(Draw(ws)))


@pytest.mark.parametrize("cutoff", [None, 0, 3, 8])
def test_truncation_moves_the_first_codes_towards_w_avg(generator, cutoff):
    ws, centre = generator.mapping(Z), generator.mapping.w_avg
    truncated = generator.mapping(Z, truncation_psi=0.7, truncation_cutoff=cutoff)
    count = 8 if cutoff is None else cutoff
    torch.testing.assert_close(truncated[:, :count], (centre + 0.7 * (ws - centre))[:, :count])
    assert torch.equal(truncated[:, count:], ws[:, count:])


def test_truncation_psi_zero_renders_the_average_picture(generator):
    a, b = generator(Z[:2], truncation_psi=0.0, noise="none")
    torch.testing.assert_close(a, b)


def test_a_label_changes_the_code_and_its_size_does_not(labelled):
    labels = torch.eye(3)
    labelled.mapping.embed.bias.zero_()
    same = Z[:1].expand(3, -1)
    a, b, c = labelled.mapping(same, label=labels)[:, 0]
    assert min((a - b).norm(), (b - c).norm()) > 0.1
    torch.testing.assert_close(labelled.mapping(same, label=5 * labels), labelled.mapping(same, label=labels))


def test_noise_modes(generator):
    ws = generator.mapping(Z)
    const, none = generator.synthesis(Draw(ws)), generator.synthesis(Draw(ws), noise="none")
    assert torch.equal(const, generator.synthesis(Draw(ws), noise="const"))
    torch.manual_seed(0)
    first, second = generator.synthesis(Draw(ws), noise="random"), generator.synthesis(Draw(ws), noise="random")
    torch.manual_seed(0)
    assert torch.equal(first, generator.synthesis(Draw(ws), noise="random"))
    for a, b in [(const, none), (first, const), (first, second)]:
        assert (a - b).abs().max() > 0.01
    for conv in generator.synthesis.layers:
        conv.noise_strength.zero_()
    assert torch.equal(generator.synthesis(Draw(ws)), generator.synthesis(Draw(ws), noise="none"))
    assert torch.equal(generator.synthesis(Draw(ws), noise="random"), generator.synthesis(Draw(ws), noise="none"))


def test_a_sample_does_not_depend_on_its_batch(generator):
    together = generator(Z)
    for index in range(3):
        torch.testing.assert_close(generator(Z[index : index + 1])[0], together[index], atol=1e-5, rtol=1e-5)
    assert generator(Z[:0]).shape == (0, 3, 32, 32)


def test_activations_and_colours_stay_within_the_clamp():
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(32, 12, 16, 0, 2, 512, 16, conv_clamp=0.5)).requires_grad_(False)
    seen = []
    for conv in generator.synthesis.layers:
        conv.register_forward_hook(lambda m, x, y: seen.append(y.abs().max().item()))
    for block in generator.synthesis.blocks:
        block.to_rgb.register_forward_hook(lambda m, x, y: seen.append(y.abs().max().item()))
    generator(Z)
    assert len(seen) == 11
    assert max(seen) == 0.5


@pytest.mark.parametrize("dtype, error", [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
def test_autocast_stays_close_and_leaves_mapping_and_skips_in_full_precision(generator, dtype, error):
    full, ws = generator(Z), generator.mapping(Z)
    with torch.autocast("cpu", dtype):
        assert torch.equal(generator.mapping(Z), ws)
        images = generator(Z)
        torch.testing.assert_close(
            upsample(full, generator.synthesis.fir), upsample(full, generator.synthesis.fir.float())
        )
    assert images.dtype == torch.float32
    assert (images - full).norm() / full.norm() < error
    assert not torch.equal(images, images.to(dtype).float())


def test_autocast_trains(generator):
    generator.synthesis.requires_grad_(True)
    ws = generator.mapping(Z)
    generator.synthesis(Draw(ws)).square().mean().backward()
    exact = {name: p.grad.clone() for name, p in generator.synthesis.named_parameters()}
    generator.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        generator.synthesis(Draw(ws)).square().mean().backward()
    for name, parameter in generator.synthesis.named_parameters():
        assert parameter.grad.dtype == torch.float32
        assert F.cosine_similarity(parameter.grad.flatten(), exact[name].flatten(), dim=0) > 0.98, name


def test_weights_stored_in_half_precision_compute_in_full(generator):
    full = generator(Z)
    images = generator.half()(Z)
    assert images.dtype == torch.float32
    assert (images - full).norm() / full.norm() < 0.005


@pytest.mark.parametrize("noise", ["const", "random", "none"])
def test_activations_computed_again_give_the_same_gradients(generator, noise):
    """Bit for bit, with the same noise where it is random."""

    def step(checkpoint):
        ws = generator.mapping(Z).detach().requires_grad_()
        torch.manual_seed(3)
        images = generator.synthesis(Draw(ws), noise=noise, recompute=checkpoint)
        torch.randn(5)  # others draw, too
        images.square().mean().backward()
        gradients = [ws.grad, *(p.grad.clone() for p in generator.synthesis.parameters() if p.grad is not None)]
        generator.zero_grad()
        return images.detach(), gradients, torch.randn(1)

    generator.synthesis.requires_grad_(True)
    kept, again = step(False), step(True)
    assert torch.equal(again[0], kept[0]) and len(kept[1]) > 30
    for a, b in zip(again[1], kept[1], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(again[2], kept[2])  # the state of randomness is left as without


def test_activations_computed_again_give_the_same_gradients_under_autocast(generator):
    def step(checkpoint):
        with torch.autocast("cpu", torch.bfloat16):
            loss = generator.synthesis(Draw(ws), recompute=checkpoint).square().mean()
        return torch.autograd.grad(loss, list(generator.synthesis.parameters()), allow_unused=True)

    generator.synthesis.requires_grad_(True)
    ws = generator.mapping(Z)
    for a, b in zip(step(True), step(False), strict=True):
        assert torch.equal(a, b)


def test_each_layer_runs_once_without_gradients_and_again_in_the_backward_pass_only_if_asked(generator):
    calls = []
    for layer in generator.synthesis.layers:
        layer.register_forward_pre_hook(lambda m, x: calls.append(m))
    ws = generator.mapping(Z).requires_grad_()
    with torch.no_grad():
        generator.synthesis(Draw(ws), recompute=True)
    assert len(calls) == 7
    generator.synthesis(Draw(ws)).sum().backward()
    assert len(calls) == 14
    images = generator.synthesis(Draw(ws), recompute=True)
    assert len(calls) == 21
    images.sum().backward()
    assert calls[21:] == list(reversed(generator.synthesis.layers))


def test_channels_last_gives_the_same_pictures(generator):
    expected = generator(Z)
    generator.to(memory_format=torch.channels_last)
    torch.testing.assert_close(generator(Z), expected, atol=1e-5, rtol=1e-5)


def test_it_compiles_as_one_graph(generator):
    """Without the machine-code stage, which is the compiler's own and slow to start."""
    expected = generator(Z, truncation_psi=0.7)
    compiled = torch.compile(generator, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(Z, truncation_psi=0.7), expected, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        images = compiled(Z, truncation_psi=0.7)
    assert (images - expected).norm() / expected.norm() < 0.02


def test_a_new_generator_starts_as_the_paper_says():
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(32, 64, 64, 0, 8, 1024, 32)).requires_grad_(False)
    for conv in generator.synthesis.layers:
        assert conv.weight.std().item() == pytest.approx(1, rel=0.05)
        assert (conv.affine.bias == 1).all() and (conv.bias == 0).all() and conv.noise_strength == 0
    w = generator.mapping(sample_z(64, 256, seed=0))[:, 0]
    assert 0.5 < w.square().mean() < 2  # equalized layers keep the size of their input through all eight
    assert 0.1 < generator(sample_z(64, 4, seed=0)).std() < 10


def test_seeded_latents_repeat_and_are_normal():
    z = sample_z(12, 500, seed=4)
    assert torch.equal(z, sample_z(12, 500, seed=4))
    assert not torch.equal(z, sample_z(12, 500, seed=5))
    assert z.shape == (500, 12) and abs(z.mean()) < 0.05 and abs(z.std() - 1) < 0.05


def test_the_state_of_randomness_is_left_alone_by_seeded_latents():
    state = torch.get_rng_state()
    sample_z(12, 3, seed=0)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda g: g(torch.zeros(2, 7)), r"z must have shape \[B, 12\] for this generator, not \[2, 7\]"),
        (lambda g: g(Z, label=torch.zeros(3, 2)), r"takes no labels, but was given \[3, 2\]"),
        (lambda g: g.synthesis(Draw(torch.zeros(1, 9, 16))), r"ws must have shape \[B, 8, 16\].*not \[1, 9, 16\]"),
        (lambda g: g(Z, noise="loud"), "no noise mode 'loud'; choose from const, random, none"),
    ],
)
def test_input_that_does_not_fit_is_named(generator, call, message):
    with pytest.raises(ValueError, match=message):
        call(generator)


def test_a_missing_label_is_named(labelled):
    with pytest.raises(ValueError, match=r"takes labels of shape \[3, 3\], but was given none"):
        labelled(Z)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"resolution": 100}, "resolution is 100; it must be a power of two from 32 to 1024"),
        ({"resolution": 64.0}, "resolution is 64.0"),
        ({"z_dim": 0}, "z_dim is 0; it must be a whole number from 1"),
        ({"w_dim": "512"}, "w_dim is '512'"),
        ({"c_dim": -1}, "c_dim is -1; it must be a whole number from 0"),
        ({"mapping_layers": 10**9}, "mapping_layers is 1000000000"),
        ({"channel_max": True}, "channel_max is True"),
        ({"channel_base": 32}, "last layers would have no channels"),
        ({"conv_clamp": 0}, "conv_clamp is 0; it must be above 0, or None"),
        ({"conv_clamp": "256"}, "conv_clamp is '256'"),
        ({"conv_clamp": float("nan")}, "conv_clamp is nan"),
    ],
)
def test_a_size_out_of_range_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        GeneratorConfig(**{"resolution": 64, **change})
