"""Files of other programs, imitated from the descriptions of their layouts, and back."""

import argparse
import pathlib
import pickle

import numpy as np
import pytest
import torch
from comfyui_stylegan_fusion.stylegan import (
    CheckpointError,
    GeneratorConfig,
    load_checkpoint,
    load_generator,
    provenance,
    sample_z,
    save_generator,
    write_generator,
)
from foreign_files import (
    STYLEGAN3_R,
    STYLEGAN3_T,
    build,
    dump,
    nvlabs_generator,
    rosinality_generator,
    rosinality_state,
    save_nvlabs,
    save_rosinality,
    save_rosinality_training,
    save_tensorflow,
    small,
)


def assert_same(loaded, generator, but=()):
    expected, got = generator.state_dict(), loaded.state_dict()
    assert got.keys() == expected.keys()
    for name, value in got.items():
        if name not in but:
            assert torch.allclose(value, expected[name], rtol=0, atol=1e-6), name
    assert not loaded.training and not any(value.requires_grad for value in loaded.parameters())


NVLABS = {
    "stylegan2": lambda: small(),
    "stylegan2 without clamp": lambda: small(conv_clamp=None),
    "stylegan2 with classes": lambda: small(c_dim=3),
    "stylegan3-t": lambda: build(STYLEGAN3_T),
    "stylegan3-r": lambda: build(STYLEGAN3_R),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", NVLABS)
def test_nvlabs_pickles(tmp_path, kind, protocol):
    generator = NVLABS[kind]()
    checkpoint = load_checkpoint(save_nvlabs(generator, tmp_path / "network.pkl", protocol=protocol))
    assert checkpoint.generator.config == generator.config
    assert checkpoint.format.startswith("NVlabs StyleGAN" + kind[8])
    assert_same(checkpoint.generator, generator)


def test_a_stripped_nvlabs_pickle(tmp_path):
    generator = small()
    assert_same(load_generator(dump({"G": nvlabs_generator(generator)}, tmp_path / "a.pkl")), generator)
    assert_same(load_generator(dump(nvlabs_generator(generator), tmp_path / "b.pkl")), generator)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("settings", [{}, {"label_size": 3, "conv_clamp": 256, "num_fp16_res": 4}])
def test_tensorflow_pickles(tmp_path, settings, protocol):
    generator = small(c_dim=settings.get("label_size", 0), conv_clamp=settings.get("conv_clamp"))
    checkpoint = load_checkpoint(save_tensorflow(generator, tmp_path / "network.pkl", protocol, **settings))
    assert checkpoint.generator.config == generator.config
    assert checkpoint.format == "NVlabs StyleGAN2 (TensorFlow pickle)"
    assert_same(checkpoint.generator, generator)


@pytest.mark.parametrize("legacy", [False, True])
def test_rosinality_files(tmp_path, legacy):
    generator = rosinality_generator()
    checkpoint = load_checkpoint(save_rosinality(generator, tmp_path / "generator.pt", legacy))
    assert checkpoint.generator.config == generator.config
    assert checkpoint.format == "rosinality StyleGAN2"
    assert_same(checkpoint.generator, generator)


def test_the_state_of_a_rosinality_generator_by_itself(tmp_path):
    generator = rosinality_generator()
    torch.save(rosinality_state(generator), tmp_path / "state.pt")
    assert_same(load_generator(tmp_path / "state.pt"), generator, but=("mapping.w_avg",))


def test_a_whole_rosinality_training_gives_the_averaged_generator_and_estimates_w_avg(tmp_path):
    generator = rosinality_generator()
    path = save_rosinality_training(generator, tmp_path / "training.pt")
    loaded = load_generator(path)
    assert_same(loaded, generator, but=("mapping.w_avg",))
    w = generator.mapping(sample_z(16, 20_000, seed=7))[:, 0]
    truncated = loaded.mapping(sample_z(16, 1, seed=1), truncation_psi=0.0)[0, 0]
    assert (truncated - w.mean(dim=0)).abs().max() < 5 * (w.std(dim=0) / 4096**0.5).max()
    assert torch.equal(load_generator(path).mapping.centre(), truncated)
    save_generator(load_generator(path), tmp_path / "ours.safetensors")
    assert torch.equal(load_generator(tmp_path / "ours.safetensors").mapping.w_avg, truncated)


def test_what_a_training_keeps_beside_the_weights_is_ignored(tmp_path):
    generator = rosinality_generator()
    args = argparse.Namespace(path=pathlib.PurePosixPath("faces"), size=32)
    beside = {
        "args": args,
        "step": 3,
        "fid": np.float64(2.5),
        "device": torch.device("cuda:0"),
        "seen": np.float32([1, 2]),
    }
    assert_same(load_generator(save_rosinality(generator, tmp_path / "g.pt", **beside)), generator)


def test_noise_that_a_file_lacks_is_drawn_always_alike(tmp_path):
    generator, state = rosinality_generator(), rosinality_state(rosinality_generator())
    for name in [name for name in state if name.startswith("noises.")]:
        del state[name]
    torch.save({"g_ema": state}, tmp_path / "early.pt")
    first, second = (load_generator(tmp_path / "early.pt") for _ in range(2))
    noise = [layer.noise_const for layer in first.synthesis.layers]
    assert torch.equal(noise[3], second.synthesis.layers[3].noise_const)
    assert 0.9 < noise[-1].std() < 1.1 and not torch.equal(noise[-1], noise[-2])
    assert_same(first, generator, but={n for n in generator.state_dict() if n.endswith(("noise_const", "w_avg"))})


def test_the_format_is_in_the_content_not_in_the_name(tmp_path):
    for name, write in {
        "rosinality.safetensors": lambda path: save_rosinality(rosinality_generator(), path),
        "nvlabs.pt": lambda path: save_nvlabs(small(), path),
        "tensorflow": lambda path: save_tensorflow(small(), path),
    }.items():
        write(tmp_path / name)
        assert load_checkpoint(tmp_path / name).format.split()[0].lower() in name + "nvlabs"
    save_generator(small(), tmp_path / "ours.pkl")
    assert_same(load_generator(tmp_path / "ours.pkl"), small())


def test_weights_in_half_precision_and_in_other_memory_layouts(tmp_path):
    generator = rosinality_generator()
    state = {name: value.half() for name, value in rosinality_state(generator).items()}
    torch.save({"g_ema": state, "latent_avg": generator.mapping.w_avg}, tmp_path / "half.pt")
    loaded = load_generator(tmp_path / "half.pt")
    assert all(value.dtype == torch.float32 for value in loaded.state_dict().values())
    conv = loaded.synthesis.layers[2].weight
    assert torch.equal(conv, generator.synthesis.layers[2].weight.half().float())

    generator = small()
    for layer in generator.synthesis.layers:
        layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last)
    loaded = load_generator(save_nvlabs(generator, tmp_path / "channels_last.pkl"))
    assert_same(loaded, generator)
    assert all(value.is_contiguous() for value in loaded.state_dict().values())


def test_a_loaded_generator_does_not_hold_on_to_its_file(tmp_path):
    """A file that is mapped into memory could not be replaced on Windows, and would change under the generator."""
    path = save_rosinality_training(rosinality_generator(), tmp_path / "training.pt")
    loaded = load_generator(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert_same(loaded, rosinality_generator(), but=("mapping.w_avg",))
    for value in loaded.state_dict().values():
        assert value.untyped_storage().nbytes() == 4 * value.numel()


# --- there and back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GeneratorConfig(32, 12, 16, 3, 2, 512, 16), STYLEGAN3_T, STYLEGAN3_R])
def test_any_kind_of_generator_is_saved_and_loaded_as_ours(tmp_path, config):
    generator = build(config)
    write_generator(generator, tmp_path / "g.safetensors", {"prompt": "a fox"})
    checkpoint = load_checkpoint(tmp_path / "g.safetensors")
    assert checkpoint.generator.config == config
    assert checkpoint.metadata == {"prompt": "a fox"}
    assert_same(checkpoint.generator, generator)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_generator_goes_to_rosinalitys_layout_and_back(tmp_path, multiplier):
    with torch.device("meta"):
        shapes = {n: v.shape for n, v in _standard(multiplier).state_dict().items()}
    generator = _standard(multiplier)
    write_generator(generator, tmp_path / "g.pt", {"source": "cats.pkl", "license": "MIT"})
    content = torch.load(tmp_path / "g.pt", weights_only=True)
    assert content["g_ema"].keys() == rosinality_state(generator).keys()
    for name, value in rosinality_state(generator).items():
        assert torch.equal(content["g_ema"][name], value), name
    checkpoint = load_checkpoint(tmp_path / "g.pt")
    assert {n: v.shape for n, v in checkpoint.generator.state_dict().items()} == shapes
    assert_same(checkpoint.generator, generator)
    assert checkpoint.metadata["source"] == "cats.pkl" and checkpoint.metadata["license"] == "MIT"
    assert checkpoint.metadata["channel_multiplier"] == str(multiplier)


def _standard(multiplier):
    return build(GeneratorConfig(64, 16, 16, 0, 2, 16384 * multiplier, 512, conv_clamp=None))


@pytest.mark.parametrize(
    "config, message",
    [
        (GeneratorConfig(32, 16, 16, 3, 2, 32768, 512), "no place for class labels"),
        (GeneratorConfig(32, 12, 16, 0, 2, 32768, 512), "no place for latents of different widths, 12 and 16"),
        (GeneratorConfig(32, 16, 16, 0, 2, 512, 16), "no place for 16 channels at 4 pixels and 16 in the end"),
        (GeneratorConfig(32, 16, 16, 0, 2, 32768, 512, 4), "no place for pictures of 4 channels"),
        (STYLEGAN3_T, "no place for a StyleGAN3 generator"),
    ],
)
def test_what_rosinalitys_layout_has_no_place_for_is_named_and_nothing_is_written(tmp_path, config, message):
    with pytest.raises(CheckpointError, match=message):
        write_generator(build(config), tmp_path / "g.pt", {})
    assert not list(tmp_path.iterdir())


def test_other_endings_are_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"g\.pkl ends in neither \.safetensors nor \.pt"):
        write_generator(small(), tmp_path / "g.pkl", {})


def test_where_a_generator_comes_from_stays_in_its_metadata(tmp_path):
    first = provenance(load_checkpoint(save_nvlabs(small(), tmp_path / "cats.pkl")), "cats.pkl")
    assert first["source"] == "cats.pkl" and first["source_format"] == "NVlabs StyleGAN2 (PyTorch pickle)"
    assert "that of the source, cats.pkl" in first["license"] and "non-commercial" in first["license"]
    write_generator(small(), tmp_path / "converted.safetensors", {**first, "license": "CC BY-NC 4.0"})
    second = provenance(load_checkpoint(tmp_path / "converted.safetensors"), "converted.safetensors")
    assert second["source"] == "cats.pkl" and second["license"] == "CC BY-NC 4.0"


def test_pickle_itself_is_never_asked(tmp_path, monkeypatch):
    paths = [
        save_nvlabs(small(), tmp_path / "a"),
        save_tensorflow(small(), tmp_path / "b"),
    ]

    def refuse(*_, **__):
        raise AssertionError("a pickle was opened with Python's own unpickler")

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for path in paths:
        assert_same(load_generator(path), small(conv_clamp=None) if path.name == "b" else small())
