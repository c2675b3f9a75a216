"""The perceptual regularizer: the metric against its definition, and the files that its network comes from."""

import collections
import io
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.miniature.perceptual import load_features
from comfyui_stylegan_fusion.sds.perceptual import PerceptualRegularizer
from comfyui_stylegan_fusion.sds.regularizers import ImageRegularizer
from comfyui_stylegan_fusion.sds.vgg import VGG16, load_vgg
from comfyui_stylegan_fusion.stylegan import CheckpointError
from safetensors.torch import save_file
from vgg_weights import CONVOLUTIONS, ENDS, random_linear, random_vgg


@pytest.fixture(scope="module")
def vgg():
    return random_vgg()


@pytest.fixture(scope="module")
def linear():
    return random_linear()


@pytest.fixture(scope="module")
def vgg_file(vgg, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "network.safetensors"
    save_file(vgg, path)
    return path


def by_definition(state, linear, images, others):
    """Eq. 1 of arXiv 1801.03924, one image and one layer after the other."""
    distances = []
    for pair in zip(images, others, strict=True):
        outputs = []
        for image in pair:
            colours = (image + 1) / 2  # in [0, 1], as ImageNet's mean and deviation are
            mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
            x, layers = ((colours - mean[:, None, None]) / deviation[:, None, None])[None], []
            for number in CONVOLUTIONS:
                x = F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1).relu()
                if number in ENDS:
                    layers.append(x[0] / (x[0].square().sum(0).sqrt() + 1e-10))
                    x = F.max_pool2d(x, 2)
            outputs.append(layers)
        total = 0
        for index, (y, other) in enumerate(zip(*outputs, strict=True)):
            w = 1 if linear is None else linear[f"lin{index}.model.1.weight"][0]
            total = total + (w * (y - other) ** 2).sum() / y[0].numel()
        distances.append(total)
    return torch.stack(distances)


def images(count=2, height=32, width=32, seed=2):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def gradient(function, at):
    at = at.clone().requires_grad_()
    return torch.autograd.grad(function(at).sum(), at)[0]


@pytest.mark.parametrize("calibrated", [True, False])
def test_distance_and_gradient_are_those_of_the_papers_definition(tmp_path, vgg, linear, calibrated):
    save_file({**vgg, **(linear if calibrated else {})}, tmp_path / "vgg16.safetensors")
    regularizer = PerceptualRegularizer(1.0, load_vgg(tmp_path / "vgg16.safetensors"))
    x, x0 = images(width=48), images(width=48, seed=3)

    def expected(at):
        return by_definition(vgg, linear if calibrated else None, at, x0)

    distance = regularizer.distance(x, x0)
    assert distance.shape == (2,)
    assert torch.allclose(distance, expected(x), rtol=1e-5)
    found, wanted = gradient(lambda at: regularizer.distance(at, x0), x), gradient(expected, x)
    assert (found - wanted).norm() < 1e-4 * wanted.norm()


@pytest.fixture(scope="module", params=["miniature", "vgg"])
def regularizer(request, vgg_file):
    assert isinstance(PerceptualRegularizer(1.0, None), ImageRegularizer)
    return PerceptualRegularizer(1.0, load_features("miniature" if request.param == "miniature" else vgg_file))


def test_equal_images_have_no_distance_and_no_gradient(regularizer):
    x = images()
    assert torch.equal(regularizer.distance(x, x), torch.zeros(2))
    assert torch.equal(gradient(lambda at: regularizer.distance(at, x), x), torch.zeros_like(x))


def test_its_gradient_pulls_images_together(regularizer):
    frozen = images(seed=3)
    x = (0.9 * frozen + 0.1 * images()).clamp(-1, 1)
    before = regularizer.distance(x, frozen)
    for _ in range(4):
        g = gradient(lambda at: regularizer.distance(at, frozen), x)
        x = x - 0.1 * g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert (regularizer.distance(x, frozen) < before).all()


def test_black_images_have_finite_gradients(regularizer):
    """Where a layer is zero in every channel, its length has no derivative."""
    flat = -torch.ones(1, 3, 32, 32)
    assert gradient(lambda at: regularizer.distance(at, images(1)), flat).isfinite().all()


def test_neither_the_frozen_images_nor_the_weights_take_gradients(regularizer):
    x, frozen = images().requires_grad_(), images(seed=3).requires_grad_()
    distance = regularizer.distance(x, frozen)
    assert torch.autograd.grad(distance.sum(), frozen, allow_unused=True)[0] is None
    assert not any(weight.requires_grad for weight in regularizer.features.parameters())


def test_large_images_are_compared_at_the_size_of_the_features(regularizer):
    size = regularizer.features.image_size
    x, x0 = images(1, 2 * size, size), images(1, 2 * size, size, seed=3)
    smaller = regularizer.distance(F.avg_pool2d(x, 2), F.avg_pool2d(x0, 2))
    assert torch.allclose(regularizer.distance(x, x0), smaller, rtol=1e-5)


@pytest.mark.parametrize("height, width", [(8, 64), (300, 20), (4, 4)])
def test_narrow_and_tiny_images_are_compared_too(regularizer, height, width):
    x, x0 = images(1, height, width), images(1, height, width, seed=3)
    assert regularizer.distance(x, x0) > 0


def test_half_precision_images_are_compared_in_single_precision(regularizer):
    x, x0 = images().bfloat16(), images(seed=3).bfloat16()
    assert torch.equal(regularizer.distance(x, x0), regularizer.distance(x.float(), x0.float()))


class Pixels(torch.nn.Module):
    """Features that are the pixels themselves, and remember where they were sent."""

    name, image_size, calibration = "pixels", 64, None

    def __init__(self):
        super().__init__()
        self.devices = []

    def to(self, device):
        self.devices.append(device.type)
        return self

    def forward(self, images):
        return [images]


def test_the_features_follow_the_images_to_their_device_until_they_are_released():
    regularizer = PerceptualRegularizer(1.0, Pixels())
    there = images().to("meta")
    assert regularizer.distance(there, there).device.type == "meta"
    regularizer.release()
    assert regularizer.features.devices == ["meta", "cpu"]


def test_every_part_of_a_network_is_on_the_device_of_its_images(vgg_file):
    there = images().to("meta")
    for source in ("miniature", vgg_file):
        assert PerceptualRegularizer(1.0, load_features(source)).distance(there, there).device.type == "meta"


def test_features_loaded_in_inference_mode_train_outside_of_it(vgg_file):
    for load, source in ((load_features, "miniature"), (load_vgg, vgg_file)):
        with torch.inference_mode():
            features = load(source)
        g = gradient(lambda at, f=features: PerceptualRegularizer(1.0, f).distance(at, images(seed=3)), images())
        assert g.abs().sum() > 0


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_is_0_or_more(weight):
    with pytest.raises(ValueError, match="lpips regularizer's weight"):
        PerceptualRegularizer(weight, None)


# --- files -----------------------------------------------------------------------------------------------------------


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
