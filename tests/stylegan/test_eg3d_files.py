"""Files of EG3D generators: those of EG3D's program, and ours."""

import dataclasses

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import CheckpointError, load_checkpoint, save_generator, write_generator
from comfyui_stylegan_fusion.stylegan.checkpoint import read_metadata
from eg3d_files import CONFIG, PUBLISHED_PLANES, head, rendering_kwargs, save_eg3d, state_dict

KINDS = {
    "faces": {},
    "the planes of published files": {"plane_axes": PUBLISHED_PLANES},
    "clamped": {"superresolution_clamp": 256.0, "conv_clamp": 256.0},
    "limits in the box": {"ray_start": None, "ray_end": None},
    "shapes": {
        "white_back": True,
        "box_warp": 1.6,
        "ray_start": 0.1,
        "ray_end": 2.6,
        "camera_radius": 1.7,
        "focal": 1.7074,
    },
    "no camera in the mapping": {"label_scale": 0.0},
    "old files": {"superresolution": "Deepfp32", "antialias": False},
    "noise": {"superresolution_noise": "random"},
    "twice enlarged": {"superresolution": "8XDC", "resolution": 64},
}


def assert_same(loaded, generator):
    assert loaded.config == generator.config
    expected, got = generator.state_dict(), loaded.state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in got.items())
    z = torch.randn(1, generator.z_dim, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(z), generator(z))


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_of_eg3d(tmp_path, kind):
    generator = head(**KINDS[kind])
    checkpoint = load_checkpoint(save_eg3d(generator, tmp_path / "head.pkl"))
    assert checkpoint.format == "EG3D (PyTorch pickle)"
    assert_same(checkpoint.generator, generator)


@pytest.mark.parametrize("protocol", [2, 3, 5])
def test_other_protocols_of_pickle(tmp_path, protocol):
    generator = head()
    assert_same(load_checkpoint(save_eg3d(generator, tmp_path / "head.pkl", protocol=protocol)).generator, generator)


def test_the_learning_rate_of_the_decoder_counts(tmp_path):
    """Both count only as their product."""
    generator = head()
    loaded = load_checkpoint(save_eg3d(generator, tmp_path / "head.pkl", decoder_lr_mul=0.5)).generator
    assert torch.equal(loaded.synthesis.decoder.out.weight, generator.synthesis.decoder.out.weight / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_files_say_everything(tmp_path, kind):
    generator = head(**KINDS[kind])
    save_generator(generator, tmp_path / "head.safetensors", {"name": "a head"})
    assert_same(load_checkpoint(tmp_path / "head.safetensors").generator, generator)
    assert '"architecture": "eg3d"' in read_metadata(tmp_path / "head.safetensors")["config"]


def test_state_dictionaries_with_their_settings_are_read(tmp_path):
    generator = head()
    beside = {
        "rendering_kwargs": rendering_kwargs(CONFIG),
        "neural_rendering_resolution": CONFIG.render_side,
        "plane_axes": torch.tensor(CONFIG.plane_axes),
        "sr_num_fp16_res": 0,
    }
    torch.save({"G_ema": state_dict(generator), "G_kwargs": {"sr_num_fp16_res": 0}, **beside}, tmp_path / "head.pt")
    assert_same(load_checkpoint(tmp_path / "head.pt").generator, generator)


def lacking(name):
    return lambda path: save_eg3d(head(), path, **{name: None})


@pytest.mark.parametrize(
    "write, message",
    [
        (lacking("box_warp"), "without the rendering settings 'box_warp'; choose the .pkl"),
        (lacking("superresolution_module"), "without the rendering settings 'superresolution_module'"),
        (
            lambda p: save_eg3d(head(), p, superresolution_module="training.superresolution.SuperresolutionHybrid16X"),
            "with the superresolution '.*16X', which StyleGAN Fusion does not know; choose one with any of .*8XDC",
        ),
        (lambda p: save_eg3d(head(), p, clamp_mode="relu"), "another 'clamp_mode' than 'softplus'"),
        (lambda p: save_eg3d(head(), p, plane_axes=None), "does not say which planes"),
        (lambda p: save_eg3d(head(), p, plane_axes=torch.zeros(3, 3)), "plane_axes have shape"),
        (lambda p: save_eg3d(head(), p, plane_axes=torch.zeros(3, 3, 3)), "plane_axes must have"),
        (lambda p: save_eg3d(head(), p, ray_start="near"), "setting 'ray_start' is no number"),
        (lambda p: save_eg3d(head(), p, avg_camera_pivot=3), "'avg_camera_pivot' is no list"),
        (lambda p: torch.save({"G_ema": state_dict(head())}, p), "without the rendering settings"),
        (
            lambda p: torch.save({"G_ema": state_dict(head()), "rendering_kwargs": rendering_kwargs(CONFIG)}, p),
            "does not say which planes .*choose the .pkl",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_sentence(tmp_path, write, message):
    path = tmp_path / "head.pkl"
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(str(path)) and str(caught.value).count("\n") == 0


@pytest.mark.parametrize("layout", ["rosinality", "nvlabs"])
def test_other_programs_have_no_place_for_it(tmp_path, layout):
    with pytest.raises(CheckpointError, match=r"has no place for an? EG3D generator"):
        write_generator(head(), tmp_path / "head.pt", {}, layout)
    assert not (tmp_path / "head.pt").exists()


def test_a_damaged_configuration_is_named(tmp_path):
    from comfyui_stylegan_fusion.training.files import write_tensors

    generator = head()
    save_generator(generator, tmp_path / "a.safetensors")
    sizes = dataclasses.asdict(generator.config) | {"architecture": "eg3d", "superresolution": "16X"}
    import json

    notes = {"format": "stylegan-fusion/1", "config": json.dumps(sizes)}
    write_tensors(tmp_path / "b.safetensors", dict(generator.state_dict()), notes)
    with pytest.raises(CheckpointError, match="superresolution is '16X'"):
        load_checkpoint(tmp_path / "b.safetensors")
