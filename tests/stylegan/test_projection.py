"""Projection: known latents are found again and carry over, and what may go wrong gets a sentence."""

import copy
import dataclasses

import pytest
import torch
from comfyui_stylegan_fusion.metrics.colours import rgb
from comfyui_stylegan_fusion.miniature import GENERATOR, GENERATORS
from comfyui_stylegan_fusion.miniature.perceptual import load_features
from comfyui_stylegan_fusion.stylegan import (
    Crop,
    Draw,
    Generator,
    GeneratorConfig,
    Views,
    field_of_view,
    load_generator,
    sample_z,
    turned,
)
from comfyui_stylegan_fusion.stylegan.projection import (
    ProjectionOutOfMemory,
    ProjectionSettings,
    fitted,
    project,
    ramp,
)
from trainings import small_generator


@pytest.fixture(scope="module")
def features():
    return load_features("miniature")


@pytest.fixture
def generator():
    return small_generator()


@pytest.fixture
def target(generator):
    with torch.no_grad():
        return generator(sample_z(16, 1, 5))


def changed(generator):
    """As adaptation does: the same mapping, other convolutions."""
    other, random = copy.deepcopy(generator), torch.Generator().manual_seed(0)
    for layer in other.synthesis.layers[1:]:
        weight = layer.weight.data
        weight += 1.5 * weight.std() * torch.randn(weight.shape, generator=random)
    return other


def test_a_latent_of_the_miniature_is_found_again_and_carries_over(features):
    generator = load_generator(GENERATOR)
    adapted = changed(generator)
    with torch.no_grad():
        ws = generator.mapping(sample_z(generator.z_dim, 1, 11))
        mean = generator.mapping.w_avg.expand_as(ws)
        target = generator.synthesis(Draw(ws))
        found = project(generator, target, features)  # as it comes: 80 steps get stuck where hats and hair are sharp
        assert torch.equal(found.image, generator.synthesis(Draw(found.ws))), "the code alone holds the picture"

        def error(network, codes):
            return (network.synthesis(Draw(codes)) - network.synthesis(Draw(ws))).square().mean().item()

        assert found.pixel_error == pytest.approx(error(generator, found.ws), rel=1e-4)
        assert error(generator, found.ws) < 0.06 * error(generator, mean)
        assert (adapted.synthesis(Draw(ws)) - target).square().mean() > 0.1 * error(generator, mean), (
            "it draws something else"
        )
        assert error(adapted, found.ws) < 0.1 * error(adapted, mean)


def test_the_same_seed_gives_the_same_code_and_another_one_does_not(generator, target, features):
    before = copy.deepcopy(generator.state_dict())
    first, again, other = (
        project(generator, target, features, ProjectionSettings(steps=6, seed=seed)).ws for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    assert all(p.grad is None for p in generator.parameters())


def test_editability_leads_from_free_codes_to_one(generator, target, features):
    spreads = []
    for editability in (0.0, 0.9, 1.0):
        ws = project(generator, target, features, ProjectionSettings(steps=20, editability=editability)).ws
        spreads.append((ws - ws.mean(dim=1, keepdim=True)).square().mean().sqrt().item())
    assert spreads[0] > spreads[1] > spreads[2] == 0


def test_a_projection_works_within_inference_mode(generator, target, features):
    settings = ProjectionSettings(steps=4)
    with torch.inference_mode():
        found = project(generator, target * 1, features, settings)
    assert torch.equal(found.ws, project(generator, target, features, settings).ws)


def test_progress_tells_of_every_step_and_an_exception_in_it_ends_the_projection(generator, target, features):
    seen = []

    def watch(progress):
        seen.append(progress)
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project(generator, target, features, ProjectionSettings(steps=9), progress=watch)
    assert [(p.step, p.steps) for p in seen] == [(1, 9), (2, 9), (3, 9)]
    assert seen[0].image.shape == target.shape and not seen[0].image.requires_grad


def test_only_what_counts_of_a_picture_is_compared(generator, target, features):
    crop, settings = Crop(32, 24), ProjectionSettings(steps=20)
    inside = crop.apply(target)
    found = project(generator, inside, features, settings, crop)
    error = (crop.apply(found.image) - inside).square().mean().item()
    assert found.pixel_error == pytest.approx(error, rel=1e-4)
    assert found.image.shape == target.shape
    with pytest.raises(ValueError, match=r"has shape \[1, 3, 32, 32\]; give it \[1, 3, 24, 32\]"):
        project(generator, target, features, settings, crop)


def test_generators_with_classes_begin_from_the_mean_of_the_class(target, features):
    torch.manual_seed(0)
    config = GeneratorConfig(32, z_dim=16, w_dim=16, c_dim=3, mapping_layers=2, channel_base=256, channel_max=16)
    generator = Generator(config).eval().requires_grad_(False)
    found = project(generator, target, features, ProjectionSettings(steps=1, class_index=2))  # its learning rate is 0
    w = generator.mapping(sample_z(16, 20_000, 9), label=torch.eye(3)[[2] * 20_000])[:, 0]
    spread = w.std().item()
    torch.testing.assert_close(found.ws, w.mean(dim=0).expand(1, 8, 16), rtol=0, atol=0.1 * spread)
    with pytest.raises(ValueError, match="There is no class 7"):
        project(generator, target, features, ProjectionSettings(class_index=7))


def test_the_learning_rate_rises_and_falls_as_in_appendix_d():
    assert ramp(0) == 0 and ramp(0.025) == pytest.approx(0.5) and ramp(0.05) == ramp(0.5) == ramp(0.75) == 1
    assert ramp(0.875) == pytest.approx(0.5) and ramp(1) == pytest.approx(0)


def test_pictures_of_any_size_are_cut_in_the_middle_and_resized():
    wide = torch.zeros(2, 3, 20, 60)
    wide[..., 20:40] = torch.rand(2, 3, 20, 20)
    assert torch.equal(fitted(wide, 20, 20), wide[..., 20:40])
    assert torch.equal(fitted(wide.transpose(2, 3), 20, 20), wide[..., 20:40].transpose(2, 3))
    board = torch.zeros(1, 3, 64, 64)
    board[..., ::2, ::2] = board[..., 1::2, 1::2] = 1  # finer than the result can show
    torch.testing.assert_close(fitted(board, 16, 16)[..., 2:-2, 2:-2], torch.full((1, 3, 12, 12), 0.5))
    for high, wide, to in ((7, 900, (32, 24)), (1, 1, (32, 32)), (100, 30, (24, 32))):
        assert list(fitted(torch.rand(1, 3, high, wide), *to).shape) == [1, 3, to[1], to[0]]


@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_lack_of_memory_ends_with_a_sentence(generator, target, at):
    class Greedy(torch.nn.Module):
        image_size, calibration, calls = 64, None, 0

        def forward(self, images):
            self.calls += 1
            if self.calls > at:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return [images]

    with pytest.raises(ProjectionOutOfMemory, match=r"^Out of memory \(CUDA out of memory.*smaller pictures\.$"):
        project(generator, target, Greedy(), ProjectionSettings(steps=9))


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"editability": 1.5}, {"pixel_weight": -1}, {"noise": float("nan")}, {"learning_rate": -1}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be .*\.$"):
        ProjectionSettings(**wrong)


@pytest.mark.parametrize(
    "shape", [{"const_size": (4, 2), "img_channels": 4}, {"const_size": (3, 6), "img_channels": 1}]
)
def test_pictures_of_any_shape_are_compared_by_their_colours(features, shape):
    torch.manual_seed(0)
    config = GeneratorConfig(32, 16, 16, 0, 2, channel_base=512, channel_max=16, **shape)
    generator = Generator(config).eval().requires_grad_(False)
    drawn = generator(sample_z(16, 1, 5))
    target = rgb(drawn).clamp(-1, 1)
    crop = Crop(generator.width, generator.height - 8)
    found = project(generator, target, features, ProjectionSettings(steps=40, editability=1))
    assert found.image.shape == drawn.shape
    mean = generator.synthesis(Draw(generator.mapping.centre().expand(1, generator.num_ws, -1)))
    assert found.pixel_error < (rgb(mean) - target).square().mean()
    cropped = project(generator, crop.apply(target), features, ProjectionSettings(steps=2), crop)
    assert cropped.image.shape == drawn.shape
    with pytest.raises(ValueError, match=rf"give it \[1, 3, {generator.height}, {generator.width}\]"):
        project(generator, target.transpose(2, 3), features)


def heads_in_little():
    """The miniature's heads in 32 pixels, with fewer points on rays."""
    heads = load_generator(GENERATORS["miniature-3d"])
    sizes = {"resolution": 32, "render_side": 32, "depth_samples": 12, "importance_samples": 8}
    little = Generator(dataclasses.replace(heads.config, **sizes)).eval().requires_grad_(False)
    little.load_state_dict(heads.state_dict())
    return little


def test_the_camera_of_a_head_is_found_with_its_code(features):
    heads = heads_in_little()
    with torch.no_grad():
        ws = heads.mapping(sample_z(heads.z_dim, 1, 12))
        target = heads.synthesis(Draw(ws, cameras=turned(heads.config, 38.0, 6.0)))
    steps = []
    settings = ProjectionSettings(steps=24, find_camera=True)
    found = project(heads, target, features, settings, progress=lambda progress: steps.append(progress.step))
    assert steps == list(range(1, settings.all_steps + 1)) and settings.all_steps == 24 + 5 * 2
    (yaw,), (pitch,) = Views.of(found.camera).yaw, Views.of(found.camera).pitch
    assert abs(yaw - 38) < 4 and abs(pitch - 6) < 4
    with torch.no_grad():
        assert torch.equal(found.image, heads.synthesis(Draw(found.ws, cameras=found.camera)))
    straight = project(heads, target, features, ProjectionSettings(steps=24))
    assert straight.camera is None and found.distance < 0.7 * straight.distance


def test_a_search_for_the_camera_begins_at_the_one_that_is_given(features):
    heads = heads_in_little()
    target = torch.zeros(1, 3, 32, 32)
    given = turned(heads.config, 100.0, 20.0, focal=3.0)
    still = ProjectionSettings(steps=1, find_camera=True, learning_rate=0.0)
    found = Views.of(project(heads, target, features, still, camera=given).camera)
    assert round(found.yaw[0] - 100.0) in (-50, -25, 0, 25, 50) and found.pitch[0] == pytest.approx(20.0, abs=1e-3)
    assert found.radius == pytest.approx(heads.config.camera_radius, abs=1e-4)
    assert found.field_of_view == pytest.approx(field_of_view(3.0), abs=1e-3)


def test_flat_generators_have_no_camera_to_find(generator, target, features):
    with pytest.raises(ValueError, match="draws flat pictures"):
        project(generator, target, features, ProjectionSettings(steps=2, find_camera=True))
