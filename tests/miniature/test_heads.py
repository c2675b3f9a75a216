"""Heads in three dimensions, and what pictures of them are judged by."""

import pytest
import torch
from comfyui_stylegan_fusion.miniature.factors import PLAIN_COUNT, factors_from_uniform
from comfyui_stylegan_fusion.miniature.heads import BOWL, CONFIG, HEAD, Heads, cameras_of
from comfyui_stylegan_fusion.miniature.views import facing, inconsistency, points_of, seen_at
from comfyui_stylegan_fusion.stylegan import turned
from comfyui_stylegan_fusion.stylegan.cameras import rays


@pytest.fixture(scope="module")
def heads():
    uniform = torch.rand(4, PLAIN_COUNT, generator=torch.Generator().manual_seed(1))
    return Heads(factors_from_uniform(uniform, torch.zeros(4, dtype=torch.long)))


def seen(heads, yaw, pitch=0.0, side=48):
    cameras = turned(CONFIG, yaw, pitch).expand(len(heads), -1)
    found = heads.seen(cameras, side)
    maps = lambda x: x.unflatten(1, (side, side))[:, None]  # noqa: E731
    colours = found.colours.mT.unflatten(2, (side, side)) * 2 - 1
    return colours, maps(found.depth), maps(found.head), cameras


def test_depths_end_at_a_surface(heads):
    """Where a ray ends, the distance to what is there is about zero, and everything before it is free."""
    _, depth, head, cameras = seen(heads, 20.0, 5.0)
    points = points_of(depth, cameras)
    assert head.float().mean() > 0.2
    assert heads.distances(points)[head.flatten(1)].abs().max() < 5e-3
    background = points[~head.flatten(1)]
    assert torch.allclose(background.norm(dim=1), torch.tensor(BOWL), atol=1e-3) and (background[:, 2] < 0).all()
    origins, directions = rays(cameras, 48)
    for share in (0.3, 0.6, 0.9):
        between = CONFIG.ray_start + share * (depth.flatten(1) - 0.01 - CONFIG.ray_start)
        free = heads.distances(origins + between[..., None] * directions) > -1e-3
        assert free.float().mean() > 0.999, "but for edges that rays graze"


def test_rays_of_the_training_end_within_what_is_rendered(heads):
    cameras = cameras_of(4, torch.Generator().manual_seed(0))
    depth = heads.seen(cameras, 24).depth
    assert depth.min() > CONFIG.ray_start and depth.max() < CONFIG.ray_end


def test_the_tip_of_a_nose_is_where_it_was_put(heads):
    """0.49 + 0.09 of a head before the middle, 0.15 below the eyes."""
    camera = turned(CONFIG).expand(4, -1)
    nose = torch.tensor([0.0, -0.15 * HEAD, 0.58 * HEAD]).expand(4, 1, 3)
    assert heads.distances(nose).abs().max() < 2e-3
    places, distance = seen_at(nose, camera)
    expected = ((2.7 - 0.58 * HEAD) ** 2 + (0.15 * HEAD) ** 2) ** 0.5
    assert distance[0, 0].item() == pytest.approx(expected, abs=1e-5)
    assert places[0, 0].tolist() == pytest.approx([0, 2 * 4.2647 * 0.15 * HEAD / (2.7 - 0.58 * HEAD)], abs=1e-5)


def test_the_same_points_have_the_same_colours_from_both_sides(heads):
    """But for pixels at edges; colours of somebody else do not."""
    a, depth, _, camera = seen(heads, -15.0)
    b, depth_there, _, there = seen(heads, 15.0)
    found = inconsistency(a, depth, camera, b, depth_there, there)
    wrong = inconsistency(a, depth, camera, b.roll(1, 0), depth_there, there)
    assert found.max() < 0.08 and wrong.min() > 2.5 * found.max()


def test_where_a_head_looks_is_read_from_its_depth(heads):
    """Drawn from 8 degrees to the right and taken for the front, a head looks as far to the left."""
    _, depth, _, camera = seen(heads, 0.0)
    assert facing(depth, camera).abs().max() < 0.6
    _, turned_depth, _, _ = seen(heads, 8.0)
    assert (facing(turned_depth, camera) + 8).abs().max() < 1.5


def test_densities_are_those_of_heads_and_background(heads):
    """Within a head, in the air before it, within the background, and on the near side, where there is none."""
    points = torch.tensor([[0.0, 0.0, 0.05], [0.0, 0.0, 0.3], [0.0, 0.0, -0.6], [0.0, 0.1, 0.6]]).expand(4, 4, 3)
    signs = heads.densities(points).sign()
    assert (signs == torch.tensor([-1.0, 1.0, -1.0, 1.0])).all()
    assert torch.allclose(heads.colours(points)[:, 2], (heads.factors.background * 1.06).clamp(0, 1), atol=1e-5)


def test_the_bundled_generator_draws_these_heads():
    """The same persons as their latents spell, from sides that nobody has chosen for it: colours and depth are nearer to
    their own head's than to another one's."""
    from comfyui_stylegan_fusion.miniature import GENERATORS
    from comfyui_stylegan_fusion.miniature.train_generator import portraits_of
    from comfyui_stylegan_fusion.stylegan import Draw, load_generator, sample_z

    generator = load_generator(GENERATORS["miniature-3d"])
    assert generator.config == CONFIG and GENERATORS["miniature-3d"].stat().st_size < 6e6
    z = sample_z(128, 8, 11)
    truth = Heads(portraits_of(z))
    for yaw in (-20.0, 20.0):
        camera = turned(CONFIG, yaw).expand(8, -1)
        rendered = generator.synthesis.render(Draw(generator.mapping(z), cameras=camera))
        pictures = truth.pictures(camera, 64, finer=1)
        off = (rendered.images - pictures).abs().mean((1, 2, 3))
        assert off.mean() < 0.6 * (rendered.images - pictures.roll(1, 0)).abs().mean((1, 2, 3)).mean()
        depth = truth.seen(camera, 64).depth.view(8, 1, 64, 64)
        assert (rendered.depth - depth).abs().mean() < 0.05
        outline = (rendered.depth < 2.85) == (depth < 2.85)
        assert outline.float().mean() > 0.93
