"""Cameras: where they are, where they look, and which rays they send."""

import math

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import (
    EG3DConfig,
    GeneratorConfig,
    Views,
    field_of_view,
    focal_length,
    frontal,
    on_sphere,
    orbit,
    require_cameras,
    turned,
)
from comfyui_stylegan_fusion.stylegan.cameras import look_at, normals, rays, with_focal

FACES = EG3DConfig(512, render_side=64, superresolution="8XDC", camera_pivot=(0.0, 0.0, 0.2))
ORIGIN = EG3DConfig(512, render_side=64, superresolution="8XDC")


def matrix(camera):
    return camera[:16].view(4, 4).double()


def test_the_frontal_camera_looks_back_along_z():
    """From the front x is to the right, y in the picture is down, and the camera looks along -z."""
    camera = frontal(FACES)[0]
    expected = torch.tensor([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.7], [0, 0, 0, 1]]).double()
    assert torch.allclose(matrix(camera), expected, atol=1e-6)
    assert camera[16:].tolist() == pytest.approx([4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1])


@pytest.mark.parametrize(
    "yaw, pitch, where", [(90, 0, (2.7, 0, 0)), (0, 30, (0, 1.35, 2.338269)), (-90, 0, (-2.7, 0, 0))]
)
def test_yaw_goes_to_the_right_and_pitch_up(yaw, pitch, where):
    camera = turned(ORIGIN, yaw, pitch)[0]
    assert matrix(camera)[:3, 3].tolist() == pytest.approx(where, abs=1e-5)
    looks = matrix(camera)[:3, 2]
    assert torch.allclose(looks, -torch.tensor(where).double() / 2.7, atol=1e-5)


def test_a_camera_looks_at_its_pivot_and_stands_upright():
    random = torch.Generator().manual_seed(0)
    origins, pivot = torch.randn(8, 3, generator=random, dtype=torch.float64), torch.tensor([0.1, -0.2, 0.3]).double()
    for found, origin in zip(look_at(origins, pivot), origins, strict=True):
        turn = found[:3, :3]
        assert torch.allclose(turn @ turn.T, torch.eye(3).double(), atol=1e-12) and torch.linalg.det(turn) > 0
        assert torch.allclose(turn[:, 2], (pivot - origin) / (pivot - origin).norm(), atol=1e-12)
        assert turn[1, 0].abs() < 1e-12, "its x is level"
        assert turn[1, 1] < 0, "its y points down"


def test_angles_as_eg3d_counts_them():
    """The front is at half pi twice; the vertical one goes through an arc cosine."""
    h, v = torch.tensor([math.pi / 2 + 0.3]), torch.tensor([math.pi / 2 - 0.2])
    place = matrix(on_sphere(ORIGIN, h, v)[0])[:3, 3]
    down = math.acos(1 - 2 * v.item() / math.pi)
    expected = [2.7 * math.sin(down) * math.sin(0.3), 2.7 * math.cos(down), 2.7 * math.sin(down) * math.cos(0.3)]
    assert place.tolist() == pytest.approx(expected, abs=1e-5)
    straight = torch.tensor([math.pi / 2])
    assert torch.allclose(on_sphere(FACES, straight, straight), frontal(FACES), atol=1e-6)


def test_fields_of_view_and_focal_lengths():
    assert focal_length(90) == pytest.approx(0.5)
    assert field_of_view(focal_length(18.8)) == pytest.approx(18.8)
    for wrong in (0, 180, -3, float("nan")):
        with pytest.raises(ValueError, match="field of view"):
            focal_length(wrong)


def test_rays_go_through_the_middles_of_pixels():
    """A point of the world that is seen at a pixel lies on that pixel's ray: projected independently."""
    cameras = turned(FACES, [-20.0, 35.0], [10.0, -15.0])
    cameras[:, 17 + 16 - 16] = cameras[:, 17]
    cameras[1, 16:] = torch.tensor([3.0, 0.2, 0.4, 0.0, 2.5, 0.6, 0.0, 0.0, 1.0])  # skewed, off the middle
    side = 4
    origins, directions = rays(cameras, side)
    for camera, origin, direction in zip(cameras, origins, directions, strict=True):
        points = (origin + 1.7 * direction).double()
        inside = torch.linalg.inv(matrix(camera)) @ torch.cat([points, torch.ones(len(points), 1)], 1).T
        seen = camera[16:].view(3, 3).double() @ inside[:3]
        u, v = seen[0] / seen[2], seen[1] / seen[2]
        grid = (torch.arange(side).double() + 0.5) / side
        assert torch.allclose(u.view(side, side), grid.expand(side, side), atol=1e-5)
        assert torch.allclose(v.view(side, side), grid[:, None].expand(side, side), atol=1e-5)
        assert torch.allclose(direction.norm(dim=1), torch.ones(side**2), atol=1e-6)


@pytest.mark.parametrize("angle", [20, 180])
def test_an_orbit_loops(angle):
    """The step from the last picture to the first is as long as the others next to it."""
    places = orbit(ORIGIN, 24, angle)[:, :16].view(-1, 4, 4)[:, :3, 3]
    steps = (places - places.roll(1, 0)).norm(dim=1)
    assert steps[0] == pytest.approx(steps[1].item(), rel=0.05)
    assert places.norm(dim=1).tolist() == pytest.approx([2.7] * 24, abs=1e-5)
    once_around = orbit(ORIGIN, 4, 180)[:, :16].view(-1, 4, 4)[:, :3, 3]
    expected = [[0, 0, 2.7], [2.7, 0, 0], [0, 0, -2.7], [-2.7, 0, 0]]
    assert torch.allclose(once_around, torch.tensor(expected), atol=1e-5)


def test_wrong_cameras_are_named():
    good = turned(FACES, [0.0, 10.0])
    require_cameras(good, 2)
    require_cameras(good[:1], 5)
    stretched, mirrored, blind = good.clone(), good.clone(), good.clone()
    stretched[0, 0] = 2
    mirrored[:, 0:12:4] *= -1
    blind[1, 16] = 0
    for wrong, message in (
        (good[0], "shape"),
        (good[:, :24], "shape"),
        (good, "shape"),
        (stretched, "no rotation"),
        (mirrored, "no rotation"),
        (good * float("nan"), "no rotation"),
    ):
        with pytest.raises(ValueError, match=message):
            require_cameras(wrong, 5 if wrong is good else 2)
    with pytest.raises(ValueError, match="focal lengths"):
        require_cameras(blind, 2)
    for yaw, pitch in ((float("inf"), 0), (0, 90)):
        with pytest.raises(ValueError, match="yaw"):
            turned(FACES, yaw, pitch)
    with pytest.raises(ValueError, match="radius"):
        turned(FACES, radius=0.0)
    with pytest.raises(ValueError, match="orbit"):
        orbit(FACES, 0)
    with pytest.raises(ValueError, match="angle"):
        orbit(FACES, 8, 200)


def test_intrinsics_of_a_focal_length():
    camera = with_focal(torch.eye(4)[None], 2.0)[0]
    assert camera[16:].tolist() == [2, 0, 0.5, 0, 2, 0.5, 0, 0, 1]


def test_views_are_seen_by_any_generator_of_their_kind():
    seen = Views((10.0, 20.0), (0.0, 5.0), 3.0, 30.0)
    assert len(seen) == 2
    assert torch.equal(seen.cameras(FACES), turned(FACES, [10.0, 20.0], [0.0, 5.0], 3.0, focal_length(30.0)))
    assert torch.equal(Views().orbit(6, 25).cameras(FACES), orbit(FACES, 6, 25))
    with pytest.raises(ValueError, match="flat pictures"):
        seen.cameras(GeneratorConfig(32))


def test_a_camera_at_a_place_looks_at_its_target():
    there = Views(place=(0.0, 0.0, 2.7), field_of_view=field_of_view(4.2647))
    assert torch.allclose(there.cameras(FACES), frontal(ORIGIN), atol=1e-5)
    assert len(there) == 1
    for place in ((0.0, 3.0, 0.0), (0.0, 0.0, 0.0), (float("nan"), 0.0, 1.0)):
        with pytest.raises(ValueError, match="must stand beside what it looks at"):
            Views(place=place).cameras(FACES)
    with pytest.raises(ValueError, match="not around a place"):
        there.orbit(8, 20)


def test_normals_of_a_plane_and_of_a_ball():
    """Of a wall that faces the camera they point to it, and those of a ball are its points over its radius."""
    camera = turned(ORIGIN, 20.0, 10.0)
    origins, directions = rays(camera, 32)
    looks = matrix(camera[0])[:3, 2].float()
    wall = (2.7 / (directions @ looks)).view(1, 1, 32, 32)
    assert torch.allclose(normals(wall, camera), torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1), atol=1e-3)
    along = (origins * directions).sum(2)
    to_ball = along.square() - origins.square().sum(2) + 0.4**2  # a ball that fills the picture
    assert (to_ball > 0).float().mean() > 0.9
    depth = -along - to_ball.clamp(min=0).sqrt()
    points = origins + depth[..., None] * directions
    turn = matrix(camera[0])[:3, :3].float() * torch.tensor([1.0, -1.0, -1.0])
    expected = (points / 0.4 @ turn).mT.view(1, 3, 32, 32)
    found = normals(depth.view(1, 1, 32, 32), camera)
    inner = slice(8, 24)
    assert (found - expected)[..., inner, inner].abs().max() < 0.03
