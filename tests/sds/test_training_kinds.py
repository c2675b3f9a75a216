"""Training of other generators than StyleGAN2 without classes and whole: StyleGAN3, with classes, with a crop."""

import copy

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    ManualLayers,
    PicturesPrior,
    TargetPictures,
    Targets,
    TopKLayers,
    train_generator,
)
from comfyui_stylegan_fusion.sds.draws import draw_labels
from comfyui_stylegan_fusion.sds.targets.pool import to_bytes
from comfyui_stylegan_fusion.stylegan import (
    Crop,
    Draw,
    Generator,
    GeneratorConfig,
    StyleGAN3Config,
    draw_codes,
    sample_codes,
    sample_z,
)
from comfyui_stylegan_fusion.training.draws import MicroStep
from trainings import moved, settings, trained_names


def small_stylegan3():
    torch.manual_seed(0)
    return Generator(StyleGAN3Config(32, 16, 16, 0, 2, channel_base=512, channel_max=16)).eval().requires_grad_(False)


def test_of_stylegan3_only_the_convolutions_move(prior):
    generator = small_stylegan3()
    result = train_generator(generator, prior, settings())
    assert moved(generator, result.generator) == trained_names(generator, generator.synthesis.convs)


@pytest.mark.parametrize("group, module", [("constant", "input"), ("to_rgb", "to_rgb")])
def test_groups_of_stylegan3(prior, group, module):
    generator = small_stylegan3()
    result = train_generator(generator, prior, settings(also_train=(group,)))
    modules = [*generator.synthesis.convs, getattr(generator.synthesis, module)]
    assert moved(generator, result.generator) == trained_names(generator, modules)


def test_a_group_that_stylegan3_does_not_have_is_named(prior):
    with pytest.raises(ValueError, match="no group '4x4' to train; it has constant, to_rgb"):
        train_generator(small_stylegan3(), prior, settings(also_train=("4x4",)))


def test_layers_of_stylegan3_are_selected(prior):
    generator = small_stylegan3()
    manual = train_generator(generator, prior, settings(), layers=ManualLayers((0, 3)))
    layers = generator.synthesis.layers
    assert moved(generator, manual.generator) == trained_names(generator, [layers[0], layers[3]])
    top = train_generator(generator, prior, settings(steps=1), layers=TopKLayers(2))
    (chosen,) = [record.layers for record in top.history.records]
    assert len(chosen) == 2
    assert moved(generator, top.generator) == trained_names(generator, [layers[i] for i in chosen])
    with pytest.raises(ValueError, match="Cannot select 16 layers: this generator has 15"):
        train_generator(generator, prior, settings(), layers=TopKLayers(16))


def test_stylegan3_moves_to_the_priors_mean(prior):
    generator = small_stylegan3()

    def distance(g):
        images = g.synthesis(Draw(g.mapping(sample_z(g.z_dim, 16, seed=7))))
        pooled = torch.nn.functional.avg_pool2d(images.clamp(-1, 1), 2)
        return (prior.encode(pooled) - prior.mean).square().mean().item()

    with torch.no_grad():
        before = distance(generator)
        result = train_generator(generator, prior, settings(steps=60, batch_size=4, learning_rate=0.02))
        assert distance(result.generator) < 0.6 * before


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stylegan3_goes_towards_targets_with_a_discriminator(precision):
    generator = small_stylegan3()
    codes = sample_codes(generator, sample_z(generator.z_dim, 4, 1))
    targets = Targets(codes, to_bytes(-torch.cat([*draw_codes(generator, codes)])))
    changes = settings(steps=4, diversity_every=100, precision=precision)
    result = train_generator(
        generator, PicturesPrior(targets.side, torch.device("cpu")), changes, [TargetPictures(targets=targets)]
    )
    assert all(record.skipped is None and "discriminator" in record.losses for record in result.history.records)


def labelled_generator():
    torch.manual_seed(0)
    config = GeneratorConfig(
        resolution=32, z_dim=16, w_dim=16, c_dim=4, mapping_layers=2, channel_base=256, channel_max=16
    )
    return Generator(config).eval().requires_grad_(False)


def test_every_class_is_drawn_in_training_unless_one_is_chosen():
    rows = torch.cat([draw_labels(MicroStep(0, step), 8, 4, None) for step in range(40)])
    assert torch.equal(rows.sum(dim=1), torch.ones(320)) and rows.mean(dim=0).min() > 0.15
    assert torch.equal(draw_labels(MicroStep(0, 3), 8, 4, None), draw_labels(MicroStep(0, 3), 8, 4, None))
    assert torch.equal(draw_labels(MicroStep(0, 3), 8, 4, 2), torch.eye(4)[[2] * 8])
    assert draw_labels(MicroStep(0, 3), 8, 0, None) is None


def test_a_generator_with_classes_is_trained(prior):
    generator = labelled_generator()
    every = train_generator(generator, prior, settings()).generator
    one = train_generator(generator, prior, settings(class_index=1)).generator
    assert moved(generator, every) == moved(generator, one) == trained_names(generator, generator.synthesis.layers[1:])
    assert not torch.equal(every.synthesis.layers[3].weight, one.synthesis.layers[3].weight)


def test_the_prior_sees_only_the_crop(generator, prior):
    seen, encode = [], prior.encode
    prior.encode = lambda images, recompute=False: (
        seen.append(images.detach()) or encode(torch.nn.functional.interpolate(images, (16, 16)))
    )
    with_bars = copy.deepcopy(generator)
    with_bars.synthesis.layers[-1].noise_strength.data.fill_(1.0)
    with_bars.synthesis.layers[-1].noise_const.zero_()[:4] = 100.0  # rows that the crop takes away
    whole, cropped = (
        train_generator(with_bars, prior, settings(steps=1, crop=crop)) for crop in (None, Crop(width=32, height=24))
    )
    assert [images.shape[-2:] for images in seen] == [(16, 16), (12, 16)]
    assert seen[0][:, :, 0].abs().min() > 0.9 and seen[1].abs().mean() < 0.9
    assert moved(whole.generator, cropped.generator)
