"""What cannot be loaded as a generator, and what is said of it."""

import zipfile

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import CheckpointError, load_generator
from foreign_files import (
    EasyDict,
    Network,
    dump,
    rosinality_generator,
    rosinality_state,
    save_nvlabs,
    save_rosinality,
    save_tensorflow,
    small,
)


def _change_first_block(**attributes):
    def change(state):
        synthesis = state["_modules"]["synthesis"].meta["state"]["_modules"]
        next(iter(synthesis.values())).meta["state"].update(attributes)

    return change


def _change_mapping(state):
    state["_modules"]["mapping"].meta["state"]["_modules"]["fc0"].meta["state"]["activation"] = "relu"


@pytest.mark.parametrize(
    "write, message",
    [
        (
            lambda p: save_nvlabs(small(), p, _change_first_block(architecture="resnet")),
            "another 'architecture' than 'skip'",
        ),
        (lambda p: save_nvlabs(small(), p, _change_mapping), "another 'activation' than 'lrelu'"),
        (lambda p: save_tensorflow(small(), p, architecture="orig"), "another 'architecture' than 'skip'"),
        (
            lambda p: save_tensorflow(small(), p, resample_kernel=[1, 2, 1]),
            r"another 'resample_kernel' than \[1, 3, 3, 1\]",
        ),
        (lambda p: dump({"a": [1, 2]}, p), "holds no weights of a network; choose a file with a generator"),
        (lambda p: dump([1, 2, 3], p), "holds no weights of a network"),
        (lambda p: dump(tuple(Network(variables=[]) for _ in range(3)), p), "holds another network"),
        (lambda p: dump({"G_ema": EasyDict()}, p), "holds no weights of a network"),
        (
            lambda p: torch.save({"state_dict": {"layer.weight": torch.ones(3)}}, p),
            r"a network that StyleGAN Fusion does not know, with 'layer\.weight'; choose a file of a plain StyleGAN2",
        ),
        (lambda p: torch.save(torch.ones(3), p), "holds no weights of a network"),
        (lambda p: p.write_bytes(b""), "it is empty"),
        (lambda p: p.write_bytes(b"<!DOCTYPE html><html>Too many users"), "is a web page: .*download the file again"),
        (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1"), "git lfs pull"),
        (lambda p: p.write_bytes(b"\x1f\x8b" + bytes(80)), "is a compressed archive; unpack it"),
        (lambda p: p.write_bytes(b"hello"), "is no generator that StyleGAN Fusion knows; choose"),
    ],
)
def test_what_is_no_generator_is_said_in_a_sentence(tmp_path, write, message):
    path = tmp_path / "file.bin"
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_generator(path)
    assert str(caught.value).startswith(str(path)) and str(caught.value).endswith(".")


def test_an_archive_that_is_no_torch_file_is_named(tmp_path):
    for name, compression in (("a", zipfile.ZIP_STORED), ("b", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / name, "w", compression) as archive:
            archive.writestr("folder/readme.txt", "hello " * 100)
        with pytest.raises(CheckpointError, match=r"archive.*; unpack it and choose what is inside"):
            load_generator(tmp_path / name)


def test_another_configuration_of_stylegan_is_named(tmp_path):
    old = tuple(
        Network(static_kwargs={}, variables=[], components={k: Network(variables=[]) for k in ("mapping", "synthesis")})
        for _ in range(3)
    )
    with pytest.raises(CheckpointError, match=r"StyleGAN1 or an early configuration.*E and F"):
        load_generator(dump(old, tmp_path / "old.pkl"))


def test_unusual_channels_are_named(tmp_path):
    generator = rosinality_generator()
    state = rosinality_state(generator)
    state["convs.1.conv.weight"] = torch.ones(1, 7, 16, 3, 3)
    torch.save({"g_ema": state}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"unusual number of channels .*7 at 8"):
        load_generator(tmp_path / "odd.pt")


def test_a_missing_weight_is_named(tmp_path):
    state = rosinality_state(rosinality_generator())
    del state["convs.2.activate.bias"]
    torch.save({"g_ema": state}, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=r"it lacks the weight 'convs\.2\.activate\.bias'"):
        load_generator(tmp_path / "part.pt")


def test_weights_that_are_not_finite_are_named_in_every_format(tmp_path):
    generator, bad = small(), rosinality_generator()
    for one in (generator, bad):
        one.synthesis.layers[2].bias[0] = float("nan")
    writers = save_nvlabs(generator, tmp_path / "a"), save_tensorflow(generator, tmp_path / "b")
    for path in (*writers, save_rosinality(bad, tmp_path / "c")):
        with pytest.raises(
            CheckpointError, match=r"'synthesis\.blocks\.1\.convs\.1\.bias' has values that are not finite"
        ):
            load_generator(path)
