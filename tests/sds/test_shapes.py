"""Adapting generators of pictures that are not square, grey, or have an alpha channel."""

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    DirectionalRegularizer,
    Editor,
    TargetPictures,
    TargetSettings,
    make_targets,
    train_generator,
)
from comfyui_stylegan_fusion.sds.targets.making import samples_of
from comfyui_stylegan_fusion.stylegan import Crop, Generator, GeneratorConfig, StyleGAN3Config
from gaussian import GaussianPrior
from torch.nn import functional as F
from trainings import moved, settings, trained_names


class AnySize(GaussianPrior):
    """A GaussianPrior of pictures of any proportions, which it keeps."""

    def __init__(self):
        self.seen = []
        super().__init__()
        self.mean = self.mean[..., :1, :1]
        self.seen.clear()

    def encode(self, images, recompute=False):
        self.seen.append(images.detach())
        return torch.einsum("dc,bchw->bdhw", self.mixing, F.avg_pool2d(images, 2))

    def decode(self, latents):
        return F.interpolate(torch.einsum("cd,bdhw->bchw", torch.linalg.pinv(self.mixing), latents), scale_factor=2)


@pytest.fixture
def prior():
    return AnySize()


def generator_of(kind=GeneratorConfig, **shape):
    torch.manual_seed(1)
    config = kind(32, 16, 16, 0, 2, channel_base=512, channel_max=16, **shape)
    return Generator(config).eval().requires_grad_(False)


@pytest.mark.parametrize(
    "kind, shape, seen",
    [
        (GeneratorConfig, {"const_size": (4, 2)}, (16, 8)),
        (GeneratorConfig, {"const_size": (3, 6), "img_channels": 4}, (8, 16)),
        (GeneratorConfig, {"img_channels": 1}, (16, 16)),
        (StyleGAN3Config, {"const_size": (4, 2), "img_channels": 1}, (16, 8)),
    ],
)
def test_the_prior_sees_the_colours_in_their_proportions(prior, kind, shape, seen):
    generator = generator_of(kind, **shape)
    result = train_generator(generator, prior, settings(steps=2), [DirectionalRegularizer()])
    assert {tuple(images.shape) for images in prior.seen} == {(2, 3, *seen)}
    grey = generator.config.img_channels == 1
    assert all(torch.equal(images[:, 0], images[:, 2]) == grey for images in prior.seen)
    convs = generator.synthesis.layers[1:]
    assert moved(generator, result.generator) == trained_names(generator, convs)
    assert result.history.diversity[0] > 0


def test_the_crop_of_pictures_that_are_not_square_is_seen_in_its_proportions(prior):
    generator = generator_of(const_size=(4, 2))
    train_generator(generator, prior, settings(steps=1, crop=Crop(width=16, height=16)))
    assert {tuple(images.shape[-2:]) for images in prior.seen} == {(16, 16)}


def test_alpha_is_left_as_it_is(prior):
    generator = generator_of(img_channels=4)
    trained = train_generator(generator, prior, settings(also_train=("to_rgb",))).generator
    for before, after in zip(generator.synthesis.blocks, trained.synthesis.blocks, strict=True):
        assert torch.equal(before.to_rgb.weight[3], after.to_rgb.weight[3])
        assert not torch.equal(before.to_rgb.weight[:3], after.to_rgb.weight[:3])


def test_generators_with_alpha_move_to_the_priors_mean(prior):
    generator = generator_of(const_size=(4, 2), img_channels=4)

    def distance(g):
        images = g(torch.randn(16, 16, generator=torch.Generator().manual_seed(7)))[:, :3]
        z = prior.encode(F.avg_pool2d(images.clamp(-1, 1), 2))
        return (z - prior.mean).square().mean().item()

    with torch.no_grad():
        before = distance(generator)
        result = train_generator(generator, prior, settings(steps=60, batch_size=4, learning_rate=0.02))
        assert distance(result.generator) < 0.6 * before


@pytest.mark.parametrize(
    "shape", [{"const_size": (4, 2), "img_channels": 4}, {"const_size": (3, 6), "img_channels": 1}]
)
def test_targets_are_colours_in_the_proportions_of_the_samples(prior, shape):
    generator = generator_of(**shape)
    wanted = TargetSettings(count=4, levels=3, inversion="noise", batch_size=2)
    targets = make_targets(generator, Editor(prior, None), wanted)
    high, wide = (16, 8) if shape["img_channels"] == 4 else (8, 16)
    assert targets.images.shape == (4, 3, high, wide)
    assert samples_of(generator, targets.codes, prior).shape == (4, 3, high, wide)
    result = train_generator(generator, prior, settings(), [TargetPictures(targets=targets)])
    assert moved(generator, result.generator)
