"""Generators written as state dictionaries of other programs."""

import dataclasses

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import (
    CheckpointError,
    GeneratorConfig,
    load_checkpoint,
    write_generator,
)
from foreign_files import STYLEGAN3_R, STYLEGAN3_T, build, rosinality_state, small
from foreign_layouts import nvlabs_state, standard

UNUSUAL = dataclasses.replace(
    STYLEGAN3_T, c_dim=3, num_layers=10, num_critical=1, margin_size=8, output_scale=0.5, first_cutoff=2.5,
    conv_clamp=100.0, channel_base=700,
)  # fmt: skip

CONFIGS = {
    "StyleGAN2": GeneratorConfig(32, 12, 16, 0, 2, 512, 16),
    "with classes, without a clamp": GeneratorConfig(32, 12, 16, 3, 2, 512, 16, conv_clamp=None),
    "grey": GeneratorConfig(32, 12, 16, 0, 2, 512, 16, img_channels=1),
    "tall": GeneratorConfig(32, 12, 16, 0, 2, 512, 16, const_size=(4, 2)),
    "any constant": GeneratorConfig(32, 12, 16, 0, 2, 512, 16, const_size=(3, 5), img_channels=4),
    "StyleGAN3-T": STYLEGAN3_T,
    "StyleGAN3-R": STYLEGAN3_R,
    "tall StyleGAN3": dataclasses.replace(STYLEGAN3_R, const_size=(4, 2)),
    "unusual StyleGAN3": UNUSUAL,
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_nvlabs_state_dictionary_has_every_name_and_shape_of_its_classes(config, tmp_path):
    """Those that the modules in the programs' own pickles have, as `foreign_files` describes them."""
    generator, path = build(config), tmp_path / "g.pt"
    write_generator(generator, path, {}, "nvlabs")
    written, wanted = torch.load(path, weights_only=True)["G_ema"], nvlabs_state(generator)
    assert {name: value.shape for name, value in written.items()} == {
        name: value.shape for name, value in wanted.items()
    }
    assert all(torch.equal(written[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_nvlabs_layout_is_read_back_bit_for_bit(config, tmp_path):
    generator, path = build(config), tmp_path / "g.pt"
    write_generator(generator, path, {"prompt": "a fox", "license": "MIT"}, "nvlabs")
    loaded = load_checkpoint(path)
    assert loaded.generator.config == config and loaded.format.startswith("NVlabs StyleGAN")
    assert loaded.metadata == {"prompt": "a fox", "license": "MIT"}
    for (name, value), again in zip(
        generator.state_dict().items(), loaded.generator.state_dict().values(), strict=True
    ):
        assert torch.equal(value, again), name


def test_the_arguments_of_nvlabs_classes_stand_beside_the_weights(tmp_path):
    write_generator(small(c_dim=3), tmp_path / "g.pt", {}, "nvlabs")
    assert torch.load(tmp_path / "g.pt", weights_only=True)["G_kwargs"] == {
        "class_name": "training.networks_stylegan2.Generator",
        "z_dim": 12,
        "c_dim": 3,
        "w_dim": 16,
        "img_resolution": 32,
        "img_channels": 3,
        "mapping_kwargs": {"num_layers": 2},
        "channel_base": 512,
        "channel_max": 16,
        "conv_clamp": 256.0,
    }
    write_generator(build(STYLEGAN3_R), tmp_path / "r.pt", {}, "nvlabs")
    arguments = torch.load(tmp_path / "r.pt", weights_only=True)["G_kwargs"]
    assert (
        arguments["class_name"] == "training.networks_stylegan3.Generator" and arguments["use_radial_filters"] is True
    )
    for config, name, value in [
        (CONFIGS["tall"], "square", False),
        (CONFIGS["any constant"], "init_res", [3, 5]),
        (CONFIGS["tall StyleGAN3"], "square", False),
    ]:
        write_generator(build(config), tmp_path / "t.pt", {}, "nvlabs")
        assert torch.load(tmp_path / "t.pt", weights_only=True)["G_kwargs"][name] == value


@pytest.mark.parametrize(
    "wrong", [{"conv_clamp": "256"}, {"img_resolution": [32]}, {"channel_base": "x" * 9}, "text", [1]]
)
def test_arguments_that_make_no_sense_are_an_error_or_ignored_but_never_executed(wrong, tmp_path):
    write_generator(build(STYLEGAN3_T), tmp_path / "g.pt", {}, "nvlabs")
    content = torch.load(tmp_path / "g.pt", weights_only=True)
    content["G_kwargs"] = {**content["G_kwargs"], **wrong} if isinstance(wrong, dict) else wrong
    torch.save(content, tmp_path / "g.pt")
    if isinstance(wrong, dict):
        with pytest.raises(CheckpointError, match=next(iter(wrong))):
            load_checkpoint(tmp_path / "g.pt")
    else:
        assert load_checkpoint(tmp_path / "g.pt").generator.config == STYLEGAN3_T


def test_rosinality_s_state_dictionary_has_every_name_and_shape_of_its_class(tmp_path):
    generator = build(GeneratorConfig(64, 16, 16, 0, 2, 16384, 512, conv_clamp=None))
    write_generator(generator, tmp_path / "g.pt", {}, "rosinality")
    content, wanted = torch.load(tmp_path / "g.pt", weights_only=True), rosinality_state(generator)
    assert content["g_ema"].keys() == wanted.keys() and content["metadata"] == {"channel_multiplier": "1"}
    assert all(torch.equal(content["g_ema"][name], value) for name, value in wanted.items())
    for name, value in generator.state_dict().items():
        assert torch.equal(value, load_checkpoint(tmp_path / "g.pt").generator.state_dict()[name])


@pytest.mark.parametrize(
    "config, layout, sentence",
    [
        (
            GeneratorConfig(32, 16, 16, 0, 2, 16384, 512, const_size=(4, 2)),
            "rosinality",
            r"no place for pictures that are not square \(16 x 32 pixels\); write NVlabs' layout",
        ),
        (
            dataclasses.replace(STYLEGAN3_T, const_size=(4, 3)),
            "nvlabs",
            r"no place for pictures of StyleGAN3 that are not square \(24 x 32 pixels\); keep it as safetensors",
        ),
    ],
)
def test_what_is_not_square_and_has_no_place_is_said_to_be(config, layout, sentence, tmp_path):
    with pytest.raises(CheckpointError, match=sentence):
        write_generator(build(config), tmp_path / "g.pt", {}, layout)
    assert not list(tmp_path.iterdir())


def test_a_layout_that_does_not_fit_the_ending_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"layout nvlabs is written as a \.pt, not as \.safetensors"):
        write_generator(standard(), tmp_path / "g.safetensors", {}, "nvlabs")
    with pytest.raises(ValueError, match="no layout 'keras' to write; choose from rosinality, nvlabs"):
        write_generator(standard(), tmp_path / "g.pt", {}, "keras")
