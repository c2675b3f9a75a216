"""The LPIPS regularizer in a real ComfyUI: bundled features, VGG16 from a file, and names that are refused."""

import pytest
import torch
from comfy_host import PromptRejected
from graphs import training
from safetensors.torch import load_file, save_file
from vgg_weights import random_linear, random_vgg

NODE = "StyleGANFusionLPIPSRegularizer"


@pytest.fixture
def folder(host):
    folder = host.models / "lpips"
    assert folder.is_dir(), "it is made when ComfyUI starts"
    return folder


def with_lpips(features="miniature", weight=3.0):
    graph = training(2, **{"save.filename_prefix": "lpips"})
    inputs = {"weight": weight, "features": features, "previous": ["regularizer", 0]}
    graph["lpips"] = {"class_type": NODE, "inputs": inputs}
    twin = {"weight": 0.0, "features": features, "previous": ["lpips", 0]}  # adds nothing
    graph["twin"] = {"class_type": NODE, "inputs": twin}
    graph["train"]["inputs"]["regularizer"] = ["twin", 0]
    return graph


def trained(host, **options):
    run = host.run(with_lpips(**options))
    assert run.succeeded, run.error
    assert any("directional" in text and "lpips" in text for text in run.texts) or options.get("weight") == 0
    return load_file(sorted((host.output / "stylegan").glob("lpips_*.safetensors"))[-1])


def same(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items())


def listed(host):
    kind, options = host.object_info()[NODE]["input"]["required"]["features"]
    return kind if isinstance(kind, list) else options["options"]


def test_the_bundled_features_train_beside_another_regularizer(host):
    with_features, without = trained(host, weight=3.0), trained(host, weight=0)
    assert not same(with_features, without)


def test_new_files_are_listed_without_a_restart(host, folder):
    assert listed(host)[0] == "miniature"
    for name in ("new.pth", "new.safetensors", "notes.txt"):
        (folder / name).write_bytes(b"")
    assert {"new.pth", "new.safetensors"} == {name for name in listed(host) if name.startswith(("new", "notes"))}
    for name in ("new.pth", "new.safetensors", "notes.txt"):
        (folder / name).unlink()


def test_vgg_from_a_file_is_read_once_for_all_nodes_and_again_when_its_files_change(host, folder):
    path = folder / "vgg16" / "network.safetensors"
    path.parent.mkdir()
    save_file({name: value.half() for name, value in random_vgg().items()}, path)
    name = "vgg16/network.safetensors"
    first = trained(host, features=name)
    assert not same(first, trained(host))
    assert host.log.count(f"StyleGAN Fusion read {name}: VGG16 without calibration") == 1
    torch.save(random_linear(), path.with_name("vgg.pth"))
    calibrated = trained(host, features=name)
    assert not same(first, calibrated)
    assert host.log.count(f"StyleGAN Fusion read {name}: VGG16 with calibration") == 1
    save_file({name: value.half() for name, value in random_vgg(seed=5).items()}, path)
    assert not same(calibrated, trained(host, features=name))


@pytest.mark.parametrize(
    "name", ["../a.pth", "sub/../../a.pth", "/etc/passwd", "C:\\a.pth", "missing.pth", "Miniature"]
)
def test_unknown_names_are_refused(host, name):
    (host.models / "a.pth").write_bytes(b"")
    with pytest.raises(PromptRejected, match=r"leads out of the folder|There is no file .* in models/lpips"):
        host.submit(with_lpips(name))


def test_a_file_that_is_no_network_gets_one_sentence(host, folder):
    torch.save({"conv1.weight": torch.zeros(3)}, folder / "other.pth")
    (folder / "page.pth").write_bytes(b"<!DOCTYPE html>")
    for name, saying in (("other.pth", "holds no VGG16"), ("page.pth", "is neither a safetensors file nor")):
        run = host.run(with_lpips(name))
        message = run.error["exception_message"].strip()
        assert saying in message and message.endswith(".")
        (folder / name).unlink()
