"""Adapting generators that draw in three dimensions."""

import dataclasses
import math

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    DirectionalRegularizer,
    ManualLayers,
    PerceptualRegularizer,
    PicturesPrior,
    ScoreDistillation,
    TargetPictures,
    Targets,
    TargetsError,
    TargetsFolder,
    TopKLayers,
    TrainSettings,
    train_generator,
)
from comfyui_stylegan_fusion.sds.draws import draw_cameras, draw_z
from comfyui_stylegan_fusion.sds.memory import training_memory
from comfyui_stylegan_fusion.sds.targets.making import samples_of, target_cameras
from comfyui_stylegan_fusion.sds.training import GeneratorTraining, gradient_scale
from comfyui_stylegan_fusion.stylegan import Draw, frontal, render_samples, sample_codes, sample_z, turned
from comfyui_stylegan_fusion.training.draws import MicroStep
from eg3d_files import CONFIG, head
from trainings import assert_same_weights, moved, settings, small_generator, trained_names


@pytest.fixture
def generator():
    return head()


def test_only_the_convolutions_of_the_planes_move(generator, prior):
    result = train_generator(generator, prior, settings())
    assert moved(generator, result.generator) == trained_names(generator, generator.synthesis.backbone.layers[1:])


def test_decoder_and_superresolution_are_trained_by_name(generator, prior):
    for group, module in (("decoder", "decoder"), ("superresolution", "superresolution")):
        result = train_generator(generator, prior, settings(also_train=(group,)))
        wanted = trained_names(generator, [*generator.synthesis.layers[1:], getattr(generator.synthesis, module)])
        wanted = {name for name in wanted if "superresolution" not in name or not name.endswith("noise_strength")}
        assert moved(generator, result.generator) == wanted
    noisy = head(superresolution_noise="random")
    result = train_generator(noisy, prior, settings(also_train=("superresolution",)))
    strength = "synthesis.superresolution.blocks.1.convs.0.noise_strength"
    assert strength in moved(noisy, result.generator), "there it counts"


def test_groups_that_a_generator_does_not_have_are_named(prior):
    with pytest.raises(ValueError, match="no group 'decoder' to train; it has constant, 4x4, to_rgb"):
        train_generator(small_generator(), prior, settings(also_train=("decoder",)))
    plain = head(superresolution="none", render_side=32)
    with pytest.raises(ValueError, match=r"no group 'superresolution' to train; it has .*decoder"):
        train_generator(plain, prior, settings(also_train=("superresolution",)))


def test_layers_are_selected(generator, prior):
    layers = generator.synthesis.layers
    manual = train_generator(generator, prior, settings(), layers=ManualLayers((0, 3)))
    assert moved(generator, manual.generator) == trained_names(generator, [layers[0], layers[3]])
    top = train_generator(generator, prior, settings(steps=1), layers=TopKLayers(2, steps=2))
    (chosen,) = [record.layers for record in top.history.records]
    assert len(chosen) == 2
    assert moved(generator, top.generator) == trained_names(generator, [layers[i] for i in chosen])


@pytest.fixture
def rendered(generator, prior, monkeypatch):
    """What is rendered in the first two steps of a training: by which generator, from what, and the picture."""
    run = GeneratorTraining(generator, prior, settings(), [DirectionalRegularizer(1.0)], ManualLayers((3,)))
    kind, found = type(generator.synthesis), []
    forward = kind.forward

    def noted(self, draw, noise="const", **others):
        image = forward(self, draw, noise, **others)
        found.append((self, draw, image.detach()))
        return image

    monkeypatch.setattr(kind, "forward", noted)
    for step in (0, 1):
        run.adaptation.compute([MicroStep(7, step)])
    names = {id(run.adaptation.frozen.synthesis): "frozen", id(run.adaptation.generator.synthesis): "trained"}
    return [(names[id(synthesis)], draw, image) for synthesis, draw, image in found]


def test_both_generators_see_by_the_same_cameras_and_points(rendered):
    """So that they draw the same until one of them changes, and the directional gradient is zero then."""
    assert [name for name, _, _ in rendered] == ["frozen", "trained"] * 2
    for (_, frozen, a), (_, trained, b) in zip(rendered[::2], rendered[1::2], strict=True):
        assert torch.equal(frozen.cameras, trained.cameras) and frozen.ray_seeds == trained.ray_seeds
        assert torch.equal(frozen.ws, trained.ws) and torch.equal(a, b)


def test_cameras_and_points_are_drawn_for_each_sample(rendered):
    draws = [draw for _, draw, _ in rendered[::2]]
    cameras = torch.cat([draw.cameras for draw in draws])
    assert len(cameras.unique(dim=0)) == 4 and len({seed for draw in draws for seed in draw.ray_seeds}) == 4


def test_the_mapping_is_told_of_the_camera_that_looks(generator, rendered):
    draw = rendered[0][1]
    z = draw_z(MicroStep(7, 0), 2, generator.z_dim)
    assert torch.allclose(draw.ws, generator.mapping(z, label=draw.cameras), atol=1e-6)
    assert not torch.allclose(draw.ws, generator.mapping(z), atol=1e-3)


def test_cameras_lie_on_the_ellipse_of_the_official_code():
    """yaw = pi / 2 + a sin(u), pitch = 1.52 + b cos(u): read back from where the cameras are."""
    wanted = TrainSettings(camera_yaw=20, camera_pitch=14)
    cameras = torch.cat([draw_cameras(MicroStep(0, step), 4, CONFIG, wanted) for step in range(50)])
    x, y, z = cameras[:, [3, 7, 11]].double().unbind(1)
    assert torch.allclose((x**2 + y**2 + z**2).sqrt(), torch.tensor(2.7).double(), atol=1e-5)
    across = torch.atan2(x, z)
    vertical = (1 - y / 2.7) * math.pi / 2
    a, b = math.radians(20), math.radians(14)
    on_it = (across / a).square() + ((vertical - 1.52) / b).square()
    assert torch.allclose(on_it, torch.ones(200).double(), atol=1e-4)
    assert across.max() > 0.9 * a and across.min() < -0.9 * a, "all around the ellipse"
    around = torch.cat([draw_cameras(MicroStep(0, s), 4, CONFIG, TrainSettings(camera_yaw=180)) for s in range(50)])
    assert torch.atan2(around[:, 3], around[:, 11]).std() > 1.5, "as uniform angles have it, pi / sqrt(3)"


def test_flat_generators_draw_no_cameras():
    assert draw_cameras(MicroStep(0, 0), 4, small_generator().config, settings()) is None


def test_gradients_are_scaled_before_they_are_clamped(generator, prior):
    """By a hundredth for generators in 3D, as the official code has it: what would be clamped at 1 reaches 100 first."""
    assert gradient_scale(generator, settings()) == 0.01 and gradient_scale(small_generator(), settings()) == 1
    assert gradient_scale(generator, settings(gradient_scale=0.5)) == 0.5
    run = GeneratorTraining(generator, prior, settings(), [ScoreDistillation()], ManualLayers((3,)))
    objective = run.adaptation.objective
    z = 40 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    eps = torch.zeros_like(z)
    view = objective.view(z, None, 0.5, eps)
    found, _ = objective.latent_gradient(view)
    difference = view.weight * (view.eps_hat - eps)
    assert difference.abs().max() > 10
    assert torch.allclose(found, (0.01 * difference).clamp(-1, 1)) and found.abs().max() > 0.1


def test_the_pull_of_images_is_scaled_as_well(generator, prior):
    """So that weights keep their meaning beside each other."""
    found = []
    for scale in (1.0, 0.01):
        run = GeneratorTraining(
            generator,
            PicturesPrior(16, torch.device("cpu")),
            settings(gradient_scale=scale),
            [TargetPictures(targets=made(generator))],
            ManualLayers((3,)),
        )
        found.append(run.adaptation.compute([MicroStep(0, 0)]))
    for a, b in zip(*(outcome.gradients.values() for outcome in found), strict=True):
        assert torch.allclose(0.01 * a, b, rtol=1e-4, atol=1e-9) and a.abs().sum() > 0


def test_it_moves_to_the_priors_mean(generator, prior):
    """From cameras that it was not trained with, too."""
    seen = turned(CONFIG, [-12.0, 0.0, 12.0, 5.0], [4.0, 0.0, -4.0, 9.0])

    def distance(g):
        images = render_samples(g, sample_z(g.z_dim, 4, 7), cameras=seen)
        pooled = torch.nn.functional.avg_pool2d(images.clamp(-1, 1), 2)
        return (prior.encode(pooled) - prior.mean).square().mean().item()

    result = train_generator(generator, prior, settings(steps=30, learning_rate=0.01, diversity_every=100))
    assert distance(result.generator) < 0.8 * distance(generator)


def test_a_training_goes_on_as_it_would_have(generator, prior, saved):
    whole = train_generator(generator, prior, settings(steps=6))

    class Enough(Exception):
        pass

    def stop(progress):
        if progress.step == 3:
            raise Enough

    with pytest.raises(Exception, match="ended after 3"):
        train_generator(generator, prior, settings(steps=6), progress=stop, saved=saved)
    assert_same_weights(train_generator(generator, prior, settings(steps=6), saved=saved).generator, whole.generator)


def made(generator, count=4):
    """Targets: the generator's own pictures, inverted."""
    codes = sample_codes(generator, sample_z(generator.z_dim, count, 3))
    cameras = target_cameras(generator, count, 3)
    images = render_samples(generator, sample_z(generator.z_dim, count, 3), cameras=cameras)
    pixels = (-images.clamp(-1, 1) + 1).mul(127.5).byte()
    return Targets(codes, torch.nn.functional.avg_pool2d(pixels.float(), 2).byte(), cameras=cameras)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("last", [{}, {"superresolution": "none", "render_side": 32}], ids=["enlarged", "rendered"])
def test_a_discriminator_learns_beside_targets_of_heads(last, precision):
    generator = head(**last)
    targets, prior = made(generator), PicturesPrior(16, torch.device("cpu"))
    changes = settings(steps=4, diversity_every=100, precision=precision)
    result = train_generator(generator, prior, changes, [TargetPictures(targets=targets)])
    assert all(record.skipped is None and "discriminator" in record.losses for record in result.history.records)


def test_targets_are_aimed_for_by_their_own_cameras(generator, monkeypatch):
    targets, prior = made(generator), PicturesPrior(16, torch.device("cpu"))
    kind, draws = type(generator.synthesis), []
    forward = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, draw, *a, **k: draws.append(draw) or forward(self, draw, *a, **k))
    result = train_generator(
        generator, prior, settings(steps=20, diversity_every=100, optimizer="adam"), [TargetPictures(targets=targets)]
    )
    losses = [record.losses["targets"] for record in result.history.records]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    of_steps = [draw for draw in draws if draw.ray_seeds is not None]
    assert len(of_steps) == 20
    for draw in of_steps:
        for code, camera in zip(draw.ws, draw.cameras, strict=True):
            row = (targets.codes - code).abs().sum((1, 2)).argmin()
            assert torch.equal(camera, targets.cameras[row])


def test_targets_keep_their_cameras_in_a_folder(generator, tmp_path):
    targets = made(generator)
    folder = TargetsFolder(tmp_path / "targets")
    assert folder.begin(targets.codes, generator, (16, 16), targets.cameras) == {}
    folder.write(range(4), targets.images)
    folder.finish()
    (tmp_path / "targets" / "00001.png").unlink()
    read = TargetsFolder(tmp_path / "targets").read(generator)
    kept = [0, 2, 3]
    assert torch.equal(read.cameras, targets.cameras[kept]) and torch.equal(read.codes, targets.codes[kept])
    assert read.name != dataclasses.replace(read, cameras=frontal(CONFIG, 3)).name
    other = targets.cameras.roll(1, 0)
    with pytest.raises(TargetsError, match="holds other targets"):
        TargetsFolder(tmp_path / "targets").begin(targets.codes, generator, (16, 16), other)


def test_targets_of_a_flat_generator_are_refused(generator, tmp_path):
    targets = made(generator)
    folder = TargetsFolder(tmp_path / "targets")
    folder.begin(targets.codes, generator, (16, 16))  # without cameras, as a flat generator's
    folder.write(range(4), targets.images)
    with pytest.raises(TargetsError, match="a generator of another kind"):
        TargetsFolder(tmp_path / "targets").read(generator)


def test_samples_for_editing_are_seen_by_their_cameras(generator, prior):
    codes = sample_codes(generator, sample_z(generator.z_dim, 3, 3))
    cameras = target_cameras(generator, 3, 3)
    assert len(cameras.unique(dim=0)) == 3 and torch.equal(cameras, target_cameras(generator, 5, 3)[:3])
    found = samples_of(generator, codes, prior, cameras=cameras)
    expected = generator.synthesis(Draw(codes, cameras=cameras))
    assert torch.allclose(
        found, torch.nn.functional.interpolate(expected, (16, 16), mode="bilinear").clamp(-1, 1), atol=1e-5
    )


def test_lpips_holds_it(generator, prior):
    """With the miniature's features: the stronger, the nearer the pictures stay."""
    from comfyui_stylegan_fusion.miniature.perceptual import load_features

    features, kept = load_features("miniature"), []
    seen = turned(CONFIG, 10, 5)
    before = render_samples(generator, sample_z(generator.z_dim, 4, 1), cameras=seen)
    for weight in (0.0, 1000.0):
        terms = [PerceptualRegularizer(weight, features=features)]
        result = train_generator(generator, prior, settings(steps=12, learning_rate=0.01, diversity_every=100), terms)
        after = render_samples(result.generator, sample_z(generator.z_dim, 4, 1), cameras=seen)
        kept.append((after - before).abs().mean().item())
    assert kept[1] < 0.7 * kept[0]


def test_memory_is_told_of_it(generator):
    generator.requires_grad_(False)
    for layer in generator.synthesis.layers[1:]:
        layer.weight.requires_grad_(True)
    (kept, peak), (kept_again, peak_again) = (training_memory(generator, 2, recompute=again) for again in (False, True))
    assert 0 < kept_again < kept and peak > 0 and peak_again > 0
