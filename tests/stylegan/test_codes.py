"""Codes: the layers they drive, style mixing, and drawing them."""

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import (
    Generator,
    GeneratorConfig,
    StyleGAN3Config,
    codes_of,
    draw_codes,
    mapping_digest,
    mix_styles,
    parse_codes,
    render_samples,
    require_fitting,
    sample_codes,
    sample_z,
    w_statistics,
)
from foreign_files import STYLEGAN3_T, build, small


@pytest.fixture(params=["stylegan2", "stylegan3"])
def either(request):
    return small() if request.param == "stylegan2" else build(STYLEGAN3_T)


def on_meta(config):
    with torch.device("meta"):
        return Generator(config)


def test_the_ranges_of_1024_pixels_are_the_resolutions_of_the_paper():
    generator = on_meta(GeneratorConfig(1024))
    # 4x4 has one convolution and every other resolution two; the last code is the last ToRGB's.
    assert codes_of(generator, "coarse") == (0, 1, 2)  # 4 and 8
    assert codes_of(generator, "middle") == (3, 4, 5, 6)  # 16 and 32
    assert codes_of(generator, "fine") == tuple(range(7, 18))  # 64 to 1024
    assert codes_of(generator, "coarse and middle") == tuple(range(7))
    assert codes_of(generator, "middle and fine") == tuple(range(3, 18))
    assert codes_of(generator, "all") == tuple(range(18))


def test_the_ranges_of_stylegan3_part_its_codes_by_their_cutoffs():
    generator = on_meta(StyleGAN3Config(1024))
    # Cutoffs rise from 2 to 512 cycles by equal factors in 12 layers (arXiv 2106.12423, appendix D), after an input that
    # has the first one's: 2, 2, 3.2, 5.0, 8, 12.7, 20.2, ... of which 4 and 16 stand for 8 and 32 pixels.
    assert codes_of(generator, "coarse") == (0, 1, 2)
    assert codes_of(generator, "middle") == (3, 4, 5)
    assert codes_of(generator, "fine") == tuple(range(6, 16))
    assert codes_of(generator, "all") == tuple(range(16))


def test_layers_are_read_from_numbers_and_ranges():
    assert parse_codes(" 6, 0-3 2 ") == (0, 1, 2, 3, 6)
    assert parse_codes("1 - 2") == (1, 2)
    for text in ("", " , ", "3-1", "a", "1.5", "-1", "0-99999"):
        with pytest.raises(ValueError, match=r"write for example 0-3, 6\.$"):
            parse_codes(text)


def test_layers_that_a_generator_lacks_are_refused(either):
    with pytest.raises(ValueError, match=f"no layer 99: .* numbered 0 to {either.num_ws - 1}"):
        codes_of(either, "0, 99")


def test_mixing_takes_the_chosen_codes_from_the_others():
    ws, others = torch.zeros(2, 1, 5, 3), torch.ones(1, 4, 5, 3)
    mixed = mix_styles(ws, others, (1, 4))
    assert mixed.shape == (2, 4, 5, 3)
    assert mixed[1, 2, :, 0].tolist() == [0, 1, 0, 0, 1]


def test_codes_draw_what_their_latents_draw(either):
    z = sample_z(either.z_dim, 5, seed=3)
    options = 0.7, 2
    drawn = torch.cat(list(draw_codes(either, sample_codes(either, z, *options))))
    torch.testing.assert_close(drawn, render_samples(either, z, *options), rtol=0, atol=1e-5)


def test_codes_of_one_class_draw_that_class(labelled):
    z = sample_z(labelled.z_dim, 2, seed=3)
    one = sample_codes(labelled, z, class_index=2)
    torch.testing.assert_close(one, labelled.mapping(z, label=torch.tensor([[0.0, 0, 1]] * 2)))
    with pytest.raises(ValueError, match="There is no class 3"):
        sample_codes(labelled, z, class_index=3)


def test_codes_of_another_size_are_refused_with_a_sentence(either):
    require_fitting(either, torch.zeros(1, either.num_ws, either.w_dim))
    with pytest.raises(
        ValueError, match=r"latents have 3 x 16 numbers each, and this generator takes .* adapted from\."
    ):
        require_fitting(either, torch.zeros(1, 3, 16))


def test_only_another_mapping_has_another_digest(either):
    digest = mapping_digest(either)
    either.synthesis.layers[1].weight.data += 1
    either.mapping.w_avg += 1  # moves with truncation alone
    assert mapping_digest(either) == digest
    either.mapping.layers[0].weight.data[0, 0] += 1
    assert mapping_digest(either) != digest


def test_the_deviation_of_w_is_that_of_other_latents(labelled):
    w = labelled.mapping(sample_z(12, 20_000, 8), label=torch.eye(3)[[1] * 20_000])[:, 0]
    mean, deviation = w_statistics(labelled, 1)
    assert deviation.item() == pytest.approx((w - w.mean(dim=0)).square().mean().sqrt().item(), rel=0.02)
    torch.testing.assert_close(mean, w.mean(dim=0), rtol=0, atol=0.1 * deviation.item())
