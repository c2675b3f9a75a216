"""Pictures that are not square, grey, or have an alpha channel: drawn, read, written."""

import dataclasses
import json

import pytest
import torch
from comfyui_stylegan_fusion.metrics.figures import sample_grid, to_pictures
from comfyui_stylegan_fusion.stylegan import (
    CheckpointError,
    Crop,
    Generator,
    GeneratorConfig,
    StyleGAN3Config,
    find_crop,
    load_checkpoint,
    picture_size,
    read_metadata,
    render_samples,
    sample_z,
    save_generator,
)
from foreign_files import (
    STYLEGAN3_R,
    STYLEGAN3_T,
    build,
    rosinality_state,
    save_nvlabs,
    save_tensorflow,
)
from foreign_layouts import basicsr_state, genforce_state, mmgeneration_state, nvlabs_state, standard
from safetensors.torch import load_file, save_file

Z = sample_z(16, 2, seed=1)
TALL, WIDE = (4, 2), (3, 5)


def stylegan2(const_size=TALL, **sizes):
    return standard(const_size=const_size, **sizes)


def stylegan3(config=STYLEGAN3_T, const_size=TALL, **sizes):
    return build(dataclasses.replace(config, z_dim=16, const_size=const_size, **sizes))


def turned(generator):
    """The generator of the same pictures, mirrored at their diagonal."""
    config = dataclasses.replace(generator.config, const_size=generator.config.const_size[::-1])
    result, state = Generator(config).eval().requires_grad_(False), {}
    for name, value in generator.state_dict().items():
        if name.startswith("synthesis.input.affine"):  # cosine, sine, x, y
            value = value[[0, 1, 3, 2]] * torch.tensor([1.0, -1.0, 1.0, 1.0]).view(-1, *[1] * (value.ndim - 1))
        elif name == "synthesis.input.freqs":
            value = value.flip(1)
        elif value.ndim == 4 or name.endswith(("const", "noise_const")):
            value = value.transpose(-1, -2)
        state[name] = value
    result.load_state_dict(state)
    return result


@pytest.mark.parametrize(
    "make, size",
    [
        (stylegan2, (32, 16)),
        (lambda: stylegan2(WIDE), (24, 40)),
        (stylegan3, (32, 16)),
        (lambda: stylegan3(STYLEGAN3_R, (4, 6)), (32, 48)),
    ],
)
def test_height_and_width_are_alike_but_for_their_names(make, size):
    generator = make()
    images = generator(Z)
    assert images.shape == (2, 3, *size) == (2, 3, generator.height, generator.width)
    assert torch.isfinite(images).all() and images[0].std() > 0.01
    torch.testing.assert_close(turned(generator)(Z), images.transpose(2, 3), rtol=1e-4, atol=1e-5)


def test_noise_layers_and_samples_follow_the_constant():
    generator = stylegan2()
    assert generator.synthesis.layer_names[:3] == ["2x4/conv", "4x8/conv0", "4x8/conv1"]
    assert [tuple(layer.noise_const.shape) for layer in generator.synthesis.layers][::2] == [
        (4, 2), (8, 4), (16, 8), (32, 16)
    ]  # fmt: skip
    const, *random = (render_samples(generator, Z, noise=noise, seed=3) for noise in ("const", "random", "random"))
    assert torch.equal(*random) and not torch.equal(const, random[0]) and const.shape == (2, 3, 32, 16)
    assert generator.num_ws == 8 and generator.synthesis.detail == [4, 8, 8, 16, 16, 32, 32, 32]
    assert picture_size(generator) == (16, 32) and picture_size(generator, Crop(12, 99)) == (12, 32)
    assert Crop(12, 24).apply(const).shape == (2, 3, 24, 12)
    assert [picture.size for picture in to_pictures(const)] == [(16, 32)] * 2


def test_half_as_wide_pictures_of_stylegan3_are_the_middle_of_square_ones():
    """Where the borders, which differ, are far away: in the first layer."""
    square, tall = stylegan3(const_size=(4, 4)), stylegan3()
    wide, narrow = (generator.synthesis.input(Z) for generator in (square, tall))
    torch.testing.assert_close(narrow, wide[..., 9:27])


def test_bars_are_found_in_pictures_that_are_not_square():
    generator = stylegan2()
    draw = generator.synthesis.forward

    def with_bars(*arguments, **options):
        images = torch.ones_like(draw(*arguments, **options))
        images[:, :, :4] = images[:, :, -4:] = -1
        return images

    assert find_crop(generator) is None
    generator.synthesis.forward = with_bars
    assert str(find_crop(generator)) == "16x24"


@pytest.mark.parametrize(
    "make", [stylegan2, lambda: stylegan3(const_size=TALL), lambda: stylegan2(WIDE, img_channels=4)]
)
def test_files_of_our_own_keep_the_size(make, tmp_path):
    generator, path = make(), tmp_path / "g.safetensors"
    save_generator(generator, path)
    loaded = load_checkpoint(path).generator
    assert loaded.config == generator.config and torch.equal(loaded(Z), generator(Z))


def test_files_of_square_pictures_are_those_that_earlier_versions_write_and_read(tmp_path):
    generator, path = stylegan2((4, 4)), tmp_path / "g.safetensors"
    save_generator(generator, path)
    assert json.loads(read_metadata(path)["config"]).keys() == {
        "architecture", "resolution", "z_dim", "w_dim", "c_dim", "mapping_layers", "channel_base", "channel_max",
        "img_channels", "conv_clamp",
    }  # fmt: skip
    assert load_checkpoint(path).generator.config.const_size == (4, 4)


@pytest.mark.parametrize("wrong", [[4], [0, 4], [4, 65], [4, 2.0], "4x2", 4, [[4, 2], 4], None, [64, 64, 1], [True, 4]])
def test_a_size_that_makes_no_sense_is_named(wrong, tmp_path):
    path = tmp_path / "g.safetensors"
    save_generator(stylegan2(), path)
    notes, tensors = read_metadata(path), load_file(path)
    notes["config"] = json.dumps({**json.loads(notes["config"]), "const_size": wrong})
    save_file(tensors, path, notes)
    with pytest.raises(CheckpointError, match=r"no usable configuration.*const_size"):
        load_checkpoint(path)


def test_pictures_larger_than_any_are_refused():
    with pytest.raises(ValueError, match="16384 x 1024 pixels; at most 4096"):
        GeneratorConfig(1024, const_size=(4, 64))
    with pytest.raises(ValueError, match=r"img_channels is 2; it must be 1 \(grey\), 3 \(RGB\) or 4 \(RGBA\)"):
        StyleGAN3Config(1024, img_channels=2)


# --- other programs' files -----------------------------------------------------------------------------------------


def assert_read(path, generator):
    loaded = load_checkpoint(path).generator
    kept = ("resolution", "const_size", "img_channels")
    assert all(getattr(loaded.config, name) == getattr(generator.config, name) for name in kept)
    wanted, drawn = (one(Z, truncation_psi=0.7) for one in (generator, loaded))
    assert wanted.shape == drawn.shape and (wanted - drawn).abs().max() < 2e-6 * wanted.abs().max()


@pytest.mark.parametrize(
    "shape", [{}, {"const_size": WIDE}, {"const_size": (4, 4), "img_channels": 1}, {"img_channels": 4}]
)
def test_every_program_s_files_may_have_any_constant_and_channels(shape, tmp_path):
    generator, path = stylegan2(**shape), tmp_path / "g.pt"
    assert_read(save_nvlabs(generator, path), generator)
    assert_read(save_tensorflow(generator, path), generator)
    average = {"latent_avg": generator.mapping.w_avg.clone()}
    states = [rosinality_state, basicsr_state, genforce_state]
    if generator.config.img_channels != 4:
        states.append(mmgeneration_state)
    for state in states:
        torch.save({"params_ema": state(generator), **average}, path)
        assert_read(path, generator)


@pytest.mark.parametrize("config", [STYLEGAN3_T, STYLEGAN3_R])
def test_stylegan_human_s_stylegan3_is_read_with_and_without_its_arguments(config, tmp_path):
    generator, path = stylegan3(config), tmp_path / "g.pkl"
    assert_read(save_nvlabs(generator, path), generator)
    torch.save(nvlabs_state(generator), path)
    assert_read(path, generator)


# --- grey and alpha ------------------------------------------------------------------------------------------------


def test_grey_becomes_rgb_and_alpha_stays_where_there_is_a_place_for_it():
    grey, alpha = (stylegan2(img_channels=count)(Z) for count in (1, 4))
    assert grey.shape[1] == 1 and alpha.shape[1] == 4
    (drawn, _), (with_alpha, _) = to_pictures(grey), to_pictures(alpha)
    assert drawn.mode == "RGB" and len(set(zip(*[iter(drawn.tobytes())] * 3, strict=True))) > 1
    assert all(r == g == b for r, g, b in zip(*[iter(drawn.tobytes())] * 3, strict=True))
    assert with_alpha.mode == "RGBA" and with_alpha.getchannel("A").tobytes() == bytes(
        ((alpha[0, 3].clamp(-1, 1) + 1) * 127.5).round().byte().flatten().tolist()
    )
    assert sample_grid(alpha).mode == "RGB" == sample_grid(grey).mode
