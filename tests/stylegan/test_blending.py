"""Blending against weights computed one by one, and layer swaps against drawing by hand."""

import json

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import (
    Draw,
    GeneratorConfig,
    blend_generators,
    blend_metadata,
    sample_z,
    swap_amounts,
    swap_amounts_at,
)
from comfyui_stylegan_fusion.stylegan.layers import upsample
from foreign_files import STYLEGAN3_R, STYLEGAN3_T, build, small


@pytest.fixture(params=["stylegan2", "stylegan3"])
def pair(request):
    return [small(seed=s) if request.param == "stylegan2" else build(STYLEGAN3_T, s) for s in (0, 1)]


def same(a, b):
    return all(torch.equal(value.view(torch.uint8), other.view(torch.uint8)) for value, other in bits(a, b))


def bits(a, b):
    return [(value.flatten(), b.state_dict()[name].flatten()) for name, value in a.state_dict().items()]


def even(generator, amount):
    return [amount] * len(generator.synthesis.layers)


def test_the_ends_are_the_generators_bit_for_bit(pair):
    first, second = pair
    before = [value.clone() for value in first.state_dict().values()]
    assert same(blend_generators(first, second, even(first, 0.0), 0.0), first)
    assert same(blend_generators(first, second, even(first, 1.0), 1.0), second)
    assert all(torch.equal(a, b) for a, b in zip(before, first.state_dict().values(), strict=True))


def test_every_weight_is_the_mean_by_its_share(pair):
    first, second = pair
    blended = blend_generators(first, second, even(first, 0.3), 0.3)
    for (name, a), b, found in zip(
        first.state_dict().items(), second.state_dict().values(), blended.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, 0.7 * a + 0.3 * b, msg=name)
    assert not blended.training and not any(p.requires_grad for p in blended.parameters())


def test_swapped_layers_draw_as_by_hand():
    low, high = small(seed=0), small(seed=1)
    swapped = blend_generators(low, high, swap_amounts(low, 16))
    ws = low.mapping(sample_z(low.z_dim, 2, 5))
    x, image, index = low.synthesis.blocks[0].const.expand(2, -1, -1, -1), None, 0
    for of_low, of_high in zip(low.synthesis.blocks, high.synthesis.blocks, strict=True):
        block = of_low if of_low.convs[0].resolution < 16 else of_high
        for conv in block.convs:
            x = conv(x, ws[:, index], low.synthesis.fir, conv.noise_const)
            index += 1
        colours = block.to_rgb(x, ws[:, index])
        image = colours if image is None else upsample(image, low.synthesis.fir) + colours
    assert torch.equal(swapped.synthesis(Draw(ws)), image)
    assert torch.equal(swapped.mapping(sample_z(low.z_dim, 2, 5)), ws)


def test_swapped_layers_of_stylegan3_draw_as_by_hand():
    low, high = build(STYLEGAN3_T, 0), build(STYLEGAN3_T, 1)
    swapped = blend_generators(low, high, swap_amounts_at(len(low.synthesis.layers), 6))
    ws = low.mapping(sample_z(low.z_dim, 2, 5))
    x = low.synthesis.input(ws[:, 0])
    layers = [*low.synthesis.convs[:5], *high.synthesis.convs[5:], high.synthesis.to_rgb]
    for i, layer in enumerate(layers, start=1):
        x = layer(x, ws[:, i])
    torch.testing.assert_close(swapped.synthesis(Draw(ws)), x * low.config.output_scale, rtol=0, atol=0)


def test_amounts_step_at_the_resolution_or_go_up_softly():
    generator = small()  # 4, 8, 8, 16, 16, 32, 32
    assert swap_amounts(generator, 16, 0.8) == [0, 0, 0, 0.8, 0.8, 0.8, 0.8]
    assert swap_amounts(generator, 4) == [1] * 7
    with pytest.raises(ValueError, match="no layer for 64 pixels"):
        swap_amounts(generator, 64)
    with pytest.raises(ValueError, match="There is no layer 7"):
        swap_amounts_at(7, 7)
    soft = swap_amounts(generator, 16, softness=2)
    assert soft == sorted(soft) and soft[2] + soft[3] == pytest.approx(1) and soft[0] < 0.05 and soft[-1] > 0.95


@pytest.mark.parametrize(
    "other, saying",
    [
        (lambda: build(STYLEGAN3_T), "One of these generators is a StyleGAN2 and the other a StyleGAN3"),
        (lambda: small(c_dim=3), "c_dim is 0 in the first and 3 in the second"),
        (lambda: build(GeneratorConfig(64, 12, 16, 0, 2, 512, 16)), "resolution is 32 in the first and 64"),
    ],
)
def test_generators_that_differ_get_a_sentence(other, saying):
    with pytest.raises(ValueError, match=saying):
        blend_generators(small(), other(), [0.5] * 7)


def test_kinds_of_stylegan3_differ_and_a_clamp_does_not_matter():
    with pytest.raises(ValueError, match="not built alike"):
        blend_generators(build(STYLEGAN3_T), build(STYLEGAN3_R), [0.5] * 15)
    blend_generators(small(), small(conv_clamp=None), [0.5] * 7)
    with pytest.raises(ValueError, match="There are 3 amounts for 7 layers"):
        blend_generators(small(), small(), [0.5] * 3)


def test_metadata_tells_of_both():
    first = "ffhq.pkl", {"license": "CC BY-NC", "crop": "32x24", "prompt": ""}
    second = "fox", {"license": "MIT", "prompt": "a fox"}
    metadata = blend_metadata(first, second, "0.5 in all weights")
    assert metadata["license"] == "CC BY-NC; MIT" and metadata["crop"] == "32x24"
    blend = json.loads(metadata["blend"])
    assert blend["second"] == {"name": "fox", "metadata": second[1]} and blend["first"]["name"] == "ffhq.pkl"
    assert blend["share of the second"] == "0.5 in all weights"
    assert all(isinstance(value, str) for value in metadata.values())


def test_metadata_of_a_blend_of_blends_grows_no_more():
    """It would double each time, until the file could not be read again."""
    fox = {"prompt": "a fox", "settings": json.dumps({"seed": 1}), "license": "MIT"}
    metadata, sizes = dict(fox), []
    for number in range(20):
        metadata = blend_metadata(
            (f"blend {number}", metadata), ("fox", {**fox, "blend": metadata.get("blend", "")}), ""
        )
        sizes.append(len(json.dumps(metadata)))
    assert max(sizes[2:]) <= sizes[1] + 10 and metadata["license"] == "MIT"
