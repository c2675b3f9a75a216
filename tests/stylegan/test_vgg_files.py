"""The files that the perceptual regularizer's network comes from."""

import collections
import io
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from comfyui_stylegan_fusion.metrics.vgg import VGG16
from comfyui_stylegan_fusion.stylegan import CheckpointError
from comfyui_stylegan_fusion.stylegan.feature_files import load_vgg
from safetensors.torch import save_file


def save_as(kind, state, path):
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(collections.OrderedDict(state), path, _use_new_zipfile_serialization=kind == "zip")


def assert_same(network: VGG16, vgg):
    state = network.state_dict()
    assert state.keys() == vgg.keys()
    assert all(torch.equal(state[name], value.float()) for name, value in vgg.items())


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_every_kind_of_file_is_read(tmp_path, vgg, linear, kind):
    """With what else torchvision's file holds, which is left alone, and the linear layers beside it."""
    others = {"classifier.0.weight": torch.full((8, 8), float("nan")), "classifier.0.bias": torch.zeros(3)}
    save_as(kind, {**vgg, **others}, tmp_path / "vgg16-397923af.pth")
    assert load_vgg(tmp_path / "vgg16-397923af.pth").calibration is None
    save_as(kind, linear, tmp_path / "vgg.pth")
    network = load_vgg(tmp_path / "vgg16-397923af.pth")
    assert_same(network, vgg)
    assert all(torch.equal(a, b.flatten()) for a, b in zip(network.calibration, linear.values(), strict=True))


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_half_precision_and_odd_memory_layouts_are_read(tmp_path, vgg, kind):
    halves = {name: value.half() for name, value in vgg.items()}
    if kind != "safetensors":
        for name in halves:
            if name.endswith("weight"):
                halves[name] = halves[name].contiguous(memory_format=torch.channels_last)
    save_as(kind, halves, tmp_path / "half.pth")
    assert_same(load_vgg(tmp_path / "half.pth"), halves)


def python2(state, parameters) -> bytes:
    """A file as torch wrote it in its first years, from Python 2: text as bytes, pairs for the dictionary, and perhaps
    parameters in place of tensors."""

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value):
        return b"\x8a\x08" + struct.pack("<q", value)

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    out = io.BytesIO()
    system = b"\x80\x02}" + text("little_endian") + b"\x88s."
    for part in (pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), system):
        out.write(part)
    out.write(b"\x80\x02ccollections\nOrderedDict\n]")
    for index, (name, value) in enumerate(state.items()):
        stored = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(index)) + text("cuda:0")
        stored += number(value.numel()) + b"NtQ"
        tensor = b"ctorch._utils\n_rebuild_tensor\n(" + stored + b"K\x00" + numbers(value.shape)
        tensor += numbers(value.stride()) + b"tR"
        if parameters:
            tensor = b"ctorch.nn.parameter\nParameter\n)\x81(" + tensor + b"NN\x88\x89tb"
        out.write(b"]" + text(name) + b"a" + tensor + b"aa")
    out.write(b"\x85R.\x80\x02]" + b"".join(text(str(i)) + b"a" for i in range(len(state))) + b".")
    for value in state.values():
        out.write(struct.pack("<q", value.numel()) + value.contiguous().numpy().tobytes())
    return out.getvalue()


@pytest.mark.parametrize("parameters", [False, True])
def test_files_of_torchs_first_years_are_read(tmp_path, vgg, linear, parameters):
    (tmp_path / "old.pth").write_bytes(python2({**vgg, **linear}, parameters))
    network = load_vgg(tmp_path / "old.pth")
    assert_same(network, vgg)
    assert torch.equal(network.calibration[0], linear["lin0.model.1.weight"].flatten())


def refused(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_vgg(path)
    message = str(caught.value)
    assert message.startswith(str(path.parent)) or "There is no file" in message
    assert message.endswith(".") and "\n" not in message
    return message


def test_missing_and_foreign_files_get_one_sentence(tmp_path, vgg, linear):
    path = tmp_path / "file"
    assert "There is no file" in refused(path)
    for content in (b"", b"<!DOCTYPE html><html></html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(100)):
        path.write_bytes(content)
        assert "is neither a safetensors file nor one of torch.save" in refused(path)
    save_file(linear, path)
    assert "holds only the linear layers of LPIPS" in refused(path)
    save_file({"conv1.weight": torch.zeros(3)}, path)
    assert "holds no VGG16" in refused(path) and "download.pytorch.org" in refused(path)
    torch.save([1, 2], path)
    assert "holds no state dictionary" in refused(path)
    assert "is no ordinary file" in refused(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is no ordinary file" in refused(tmp_path / "pipe")


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize(
    "state, saying",
    [
        ({"features.5.weight": torch.zeros(128, 64, 1, 1)}, "'features.5.weight' of shape [128, 64, 1, 1] instead of"),
        ({"features.0.bias": torch.full((64,), float("nan"))}, "'features.0.bias' has values that are not finite"),
        ({"features.0.bias": torch.zeros(64)}, "lacks the weight 'features.0.weight'"),
    ],
)
def test_wrong_weights_are_named(tmp_path, kind, state, saying):
    save_as(kind, state, tmp_path / "wrong.pth")
    assert saying in refused(tmp_path / "wrong.pth")


def test_an_incomplete_calibration_is_named(tmp_path, vgg, linear):
    save_file({**vgg, "lin0.model.1.weight": linear["lin0.model.1.weight"]}, tmp_path / "file")
    assert "lacks the weight 'lin1.model.1.weight'" in refused(tmp_path / "file")


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_truncated_files_are_damaged(tmp_path, vgg, kind):
    path = tmp_path / "whole.pth"
    save_as(kind, {name: vgg[name] for name in ("features.0.weight", "features.0.bias")}, path)
    data = path.read_bytes()
    for length in (70, 500, 2000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert "is damaged or incomplete" in refused(path)


def test_a_damaged_calibration_is_named(tmp_path, vgg):
    save_file(vgg, tmp_path / "vgg16.safetensors")
    (tmp_path / "vgg.pth").write_bytes(b"")
    assert "vgg.pth is neither" in refused(tmp_path / "vgg16.safetensors")


class Call:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("zip_format", [True, False])
def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch, vgg, zip_format):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.pth"
    torch.save({"features.0.bias": torch.zeros(64), "extra": Call()}, path, _use_new_zipfile_serialization=zip_format)
    assert "is refused: it names posix.system" in refused(path) or "nt.system" in refused(path)
    assert not (tmp_path / "executed").exists()


def test_a_tensor_beyond_its_storage_is_refused(tmp_path, vgg):
    whole = python2({"features.0.bias": vgg["features.0.bias"]}, parameters=False)
    claimed = b"K\x00(\x8a\x08" + struct.pack("<q", 64)
    assert claimed in whole
    (tmp_path / "file").write_bytes(whole.replace(claimed, b"K\x01(\x8a\x08" + struct.pack("<q", 64)))
    assert "'features.0.bias' makes no sense" in refused(tmp_path / "file")


def memory(which) -> int:
    """Bytes of this process, now ("VmRSS") or at most ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured in the way of Linux")
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_what_is_left_alone_takes_no_memory(tmp_path, vgg, kind):
    """Of torchvision's half gigabyte nine tenths are other layers."""
    large = torch.zeros(100_000_000, dtype=torch.uint8).view(torch.float32)
    save_as(kind, {"classifier.0.weight": large, **vgg}, tmp_path / "file")
    del large
    load_vgg(tmp_path / "file")
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    network = load_vgg(tmp_path / "file")
    kept = sum(weight.nbytes for weight in network.parameters())
    assert memory("VmHWM") - before < kept + 40_000_000
