"""LPIPS: the metric against its definition."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.metrics.lpips import distance
from comfyui_stylegan_fusion.miniature.perceptual import load_features
from comfyui_stylegan_fusion.stylegan.feature_files import load_vgg
from safetensors.torch import save_file
from vgg_weights import CONVOLUTIONS, ENDS


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
    features = load_vgg(tmp_path / "vgg16.safetensors")
    x, x0 = images(width=48), images(width=48, seed=3)

    def expected(at):
        return by_definition(vgg, linear if calibrated else None, at, x0)

    found = distance(features, x, x0)
    assert found.shape == (2,)
    assert torch.allclose(found, expected(x), rtol=1e-5)
    found, wanted = gradient(lambda at: distance(features, at, x0), x), gradient(expected, x)
    assert (found - wanted).norm() < 1e-4 * wanted.norm()


@pytest.mark.parametrize("height, width", [(36, 64), (64, 40), (17, 19), (16, 64)])
def test_the_features_of_the_miniature_take_pictures_of_any_shape(height, width):
    layers = load_features("miniature")(torch.zeros(2, 3, height, width))
    sides = [layer.shape[2:] for layer in layers]
    assert all(
        tuple(-(-side // 2) for side in larger) == tuple(smaller) for larger, smaller in itertools.pairwise(sides)
    )


@pytest.fixture(scope="module", params=["miniature", "vgg"])
def features(request, vgg_file):
    return load_features("miniature" if request.param == "miniature" else vgg_file)


def test_equal_images_have_no_distance_and_no_gradient(features):
    x = images()
    assert torch.equal(distance(features, x, x), torch.zeros(2))
    assert torch.equal(gradient(lambda at: distance(features, at, x), x), torch.zeros_like(x))


def test_its_gradient_pulls_images_together(features):
    frozen = images(seed=3)
    x = (0.9 * frozen + 0.1 * images()).clamp(-1, 1)
    before = distance(features, x, frozen)
    for _ in range(4):
        g = gradient(lambda at: distance(features, at, frozen), x)
        x = x - 0.1 * g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert (distance(features, x, frozen) < before).all()


def test_black_images_have_finite_gradients(features):
    """Where a layer is zero in every channel, its length has no derivative."""
    flat = -torch.ones(1, 3, 32, 32)
    assert gradient(lambda at: distance(features, at, images(1)), flat).isfinite().all()


def test_neither_the_frozen_images_nor_the_weights_take_gradients(features):
    x, frozen = images().requires_grad_(), images(seed=3).requires_grad_()
    found = distance(features, x, frozen)
    assert torch.autograd.grad(found.sum(), frozen, allow_unused=True)[0] is None
    assert not any(weight.requires_grad for weight in features.parameters())


def test_large_images_are_compared_at_the_size_of_the_features(features):
    size = features.image_size
    x, x0 = images(1, 2 * size, size), images(1, 2 * size, size, seed=3)
    smaller = distance(features, F.avg_pool2d(x, 2), F.avg_pool2d(x0, 2))
    assert torch.allclose(distance(features, x, x0), smaller, rtol=1e-5)


@pytest.mark.parametrize("height, width", [(8, 64), (300, 20), (4, 4)])
def test_narrow_and_tiny_images_are_compared_too(features, height, width):
    x, x0 = images(1, height, width), images(1, height, width, seed=3)
    assert distance(features, x, x0) > 0


def test_half_precision_images_are_compared_in_single_precision(features):
    x, x0 = images().bfloat16(), images(seed=3).bfloat16()
    assert torch.equal(distance(features, x, x0), distance(features, x.float(), x0.float()))


def test_every_part_of_a_network_is_on_the_device_of_its_images(vgg_file):
    there = images().to("meta")
    for source in ("miniature", vgg_file):
        assert distance(load_features(source), there, there).device.type == "meta"


def test_features_loaded_in_inference_mode_train_outside_of_it(vgg_file):
    for load, source in ((load_features, "miniature"), (load_vgg, vgg_file)):
        with torch.inference_mode():
            features = load(source)
        g = gradient(lambda at, f=features: distance(f, at, images(seed=3)), images())
        assert g.abs().sum() > 0
