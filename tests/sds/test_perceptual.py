"""LPIPS as a term of the objective."""

import pytest
import torch
from comfyui_stylegan_fusion.metrics.lpips import distance
from comfyui_stylegan_fusion.miniature.perceptual import load_features
from comfyui_stylegan_fusion.sds import PerceptualRegularizer, View


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


def images(seed):
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_its_distance_is_lpips_to_the_frozen_images():
    features = load_features("miniature")
    view = View(0.4, images=images(0), frozen_images=images(1))
    assert torch.equal(PerceptualRegularizer(2.0, features).distance(view), distance(features, images(0), images(1)))


def test_the_features_follow_the_images_to_their_device_until_they_are_released():
    regularizer = PerceptualRegularizer(1.0, Pixels())
    there = images(0).to("meta")
    assert regularizer.distance(View(0.4, images=there, frozen_images=there)).device.type == "meta"
    regularizer.release()
    assert regularizer.features.devices == ["meta", "cpu"]


def test_two_networks_are_two_terms_and_named_in_what_is_recorded():
    described = [PerceptualRegularizer(2.0, features).describe() for features in (Pixels(), load_features("miniature"))]
    assert described[0] == {"term": "lpips", "weight": 2.0, "features": "pixels"}
    assert described[1]["features"] == "features of the miniature"


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_is_0_or_more(weight):
    with pytest.raises(ValueError, match="lpips regularizer's weight"):
        PerceptualRegularizer(weight, None)
