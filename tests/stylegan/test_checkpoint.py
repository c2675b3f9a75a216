import dataclasses
import errno
import json
import os
import stat

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import (
    CheckpointError,
    load_generator,
    read_metadata,
    sample_z,
    save_generator,
)
from comfyui_stylegan_fusion.training.files import write_atomically
from safetensors.torch import load, load_file, save_file

Z = sample_z(12, 2, seed=1)


@pytest.fixture
def path(tmp_path, generator):
    path = tmp_path / "generator.safetensors"
    save_generator(generator, path, {"prompt": "a fox"})
    return path


def rewritten(path, weights=None, **metadata):
    """The same file with some weights and metadata entries exchanged; None takes a metadata entry out."""
    entries = {key: value for key, value in {**read_metadata(path), **metadata}.items() if value is not None}
    save_file({**load_file(path), **(weights or {})}, path, entries)
    return path


def config_of(path, **changes):
    return json.dumps({**json.loads(read_metadata(path)["config"]), **changes})


def test_a_file_loads_with_nothing_but_its_path_bit_for_bit(path, generator):
    loaded = load_generator(str(path))
    assert loaded.config == generator.config
    expected = generator.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert torch.equal(loaded(Z), generator(Z))


def test_a_loaded_generator_is_on_the_cpu_in_float32_in_eval_mode_without_gradients(path, generator):
    save_generator(generator.half(), path)
    loaded = load_generator(path)
    assert not loaded.training
    for value in [*loaded.parameters(), *loaded.buffers()]:
        assert (value.dtype, value.device.type, value.requires_grad) == (torch.float32, "cpu", False)
    assert torch.equal(loaded(Z), generator.float()(Z))


def test_labels_and_clamp_survive(tmp_path, labelled):
    config = dataclasses.replace(labelled.config, conv_clamp=None)
    labelled.config = config
    save_generator(labelled, tmp_path / "g.safetensors")
    assert load_generator(tmp_path / "g.safetensors").config == config


def test_metadata_is_kept_beside_format_and_configuration(path):
    metadata = read_metadata(path)
    assert metadata["prompt"] == "a fox"
    assert metadata["format"] == "stylegan-fusion/1"
    assert json.loads(metadata["config"])["resolution"] == 32


def test_metadata_that_is_not_text_is_named_and_nothing_is_written(tmp_path, generator):
    with pytest.raises(ValueError, match="'seed' is not text"):
        save_generator(generator, tmp_path / "g.safetensors", {"seed": 3})
    assert not list(tmp_path.iterdir())


def test_a_compiled_or_channels_last_generator_is_saved_as_a_plain_one(path, generator):
    expected = path.read_bytes()
    generator.to(memory_format=torch.channels_last)
    generator.synthesis = torch.compile(generator.synthesis, backend="eager")
    save_generator(torch.compile(generator, backend="eager"), path, {"prompt": "a fox"})
    assert load_file(path).keys() == load(expected).keys()
    load_generator(path)


def test_what_is_loaded_within_inference_mode_can_be_trained_and_rendered(path):
    with torch.inference_mode():
        generator = load_generator(path)
        generator(Z)
    assert not any(value.is_inference() for value in [*generator.parameters(), *generator.buffers()])
    generator.requires_grad_(True)(Z).mean().backward()


def test_folders_are_made_and_permissions_are_the_usual_ones(tmp_path, generator):
    path = tmp_path / "a" / "b" / "g.safetensors"
    save_generator(generator, path)
    (tmp_path / "plain").write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_earlier_file_whole_and_nothing_else(path, generator, monkeypatch, step):
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    generator.mapping.w_avg.zero_()
    with pytest.raises(
        CheckpointError, match=r"generator\.safetensors could not be written \(No space left on device\)"
    ):
        save_generator(generator, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_earlier_file_whole_and_nothing_else(path, monkeypatch):
    before = path.read_bytes()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"half")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_new_file_is_on_the_disk_before_it_takes_the_name(path, generator, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        order.append(("fsync", os.fstat(handle).st_size))
        fsync(handle)

    def replaced(source, target):
        order.append(("replace", os.path.getsize(source)))
        assert os.path.dirname(source) == os.path.dirname(target)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    save_generator(generator, path, {"prompt": "a fox"})
    assert order == [("fsync", path.stat().st_size), ("replace", path.stat().st_size)]


@pytest.mark.parametrize("name", ["", "taken"])
def test_a_path_that_cannot_be_written_is_named(tmp_path, generator, name):
    (tmp_path / "taken").write_bytes(b"")
    target = tmp_path / name / "g.safetensors" if name else tmp_path  # within a file, and a folder itself
    with pytest.raises(CheckpointError, match="could not be written"):
        save_generator(generator, target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_weights_that_are_not_finite_never_replace_a_good_file(path, generator):
    before = path.read_bytes()
    generator.synthesis.layers[2].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(
        CheckpointError, match=r"'synthesis\.blocks\.1\.convs\.1\.weight' has values that are not finite"
    ):
        save_generator(generator, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read", [load_generator, read_metadata])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(CheckpointError, match=r"There is no file .*fox\.safetensors"):
        read(tmp_path / "fox.safetensors")


@pytest.mark.parametrize("read", [load_generator, read_metadata])
def test_a_folder_is_not_a_file(tmp_path, read):
    with pytest.raises(CheckpointError, match="could not be read"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 8, 9, 200, -1, -5000])
def test_a_truncated_file_is_named_wherever_it_ends(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"generator\.safetensors is (damaged|no generator)"):
        load_generator(path)


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04" + bytes(60),
        b"\x80\x04\x95" + bytes(60),
        b"hello, this is a text file",
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"a": 1,,',
        (2**63).to_bytes(8, "little") + b"{",
        (24).to_bytes(8, "little") + b'{"__metadata__":{"a":1}}',
        (20).to_bytes(8, "little") + b'{"__metadata__":[1]}',
        (50_000).to_bytes(8, "little") + b'{"a":' * 10_000,
        (3).to_bytes(8, "little") + b"{\xff}",
    ],
)
@pytest.mark.parametrize("read", [load_generator, read_metadata])
def test_a_file_that_is_no_safetensors_is_named(tmp_path, data, read):
    path = tmp_path / "g.safetensors"
    path.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"g\.safetensors is (damaged|not a safetensors file|no generator|a zip archive)"
    ):
        read(path)


def test_a_foreign_safetensors_file_is_named_and_its_metadata_can_be_read(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file({"unet.lora_up.weight": torch.zeros(2)}, path, {"format": "pt"})
    assert read_metadata(path) == {"format": "pt"}
    with pytest.raises(CheckpointError, match=r"lora\.safetensors holds a LoRA of a diffusion model"):
        load_generator(path)
    save_file({"lora.up": torch.zeros(2)}, path)
    assert read_metadata(path) == {}
    with pytest.raises(
        CheckpointError, match=r"a network that StyleGAN Fusion does not know, with .lora\.up.; choose a file"
    ):
        load_generator(path)


def test_a_later_format_is_named(path):
    with pytest.raises(CheckpointError, match=r"another version of StyleGAN Fusion \(stylegan-fusion/2; .*update it"):
        load_generator(rewritten(path, format="stylegan-fusion/2"))


@pytest.mark.parametrize("config", [None, "", "[]", "{}", "null", '{"resolution": 32, "depth": 3}'])
def test_a_configuration_that_is_none_is_named(path, config):
    with pytest.raises(CheckpointError, match="has no usable configuration"):
        load_generator(rewritten(path, config=config))


@pytest.mark.parametrize(
    "change", [{"resolution": 33}, {"w_dim": 16.5}, {"channel_max": 10**12}, {"mapping_layers": 10**7}]
)
def test_a_configuration_out_of_range_is_named(path, change):
    name = next(iter(change))
    with pytest.raises(CheckpointError, match=f"no usable configuration .*{name}"):
        load_generator(rewritten(path, config=config_of(path, **change)))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"resolution": 64}, r"lacks weight 'synthesis\.blocks\.4\.convs\.0\.affine\.bias'"),
        ({"mapping_layers": 1}, r"has an unknown weight 'mapping\.layers\.1\.bias'"),
        ({"w_dim": 8}, r"'\S+' has shape .* but its configuration needs"),
    ],
)
def test_a_configuration_of_another_generator_is_named(path, change, message):
    with pytest.raises(CheckpointError, match=message):
        load_generator(rewritten(path, config=config_of(path, **change)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(path, value):
    spoilt = {"mapping.w_avg": torch.full((16,), value)}
    with pytest.raises(CheckpointError, match=r"'mapping\.w_avg' has values that are not finite"):
        load_generator(rewritten(path, spoilt))
