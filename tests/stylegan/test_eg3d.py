"""EG3D generators: what they draw, and how."""

import dataclasses

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import Draw, draw_codes, frontal, render_samples, sample_codes, sample_z, turned
from comfyui_stylegan_fusion.stylegan import eg3d as network
from comfyui_stylegan_fusion.stylegan.config import SUPERRESOLUTIONS
from comfyui_stylegan_fusion.stylegan.memory import drawing_memory
from eg3d_files import CONFIG, head
from foreign_files import small
from torch.nn import functional as F


@pytest.fixture
def generator():
    return head()


def codes(generator, count=2):
    return sample_codes(generator, sample_z(generator.z_dim, count, 0))


def test_a_camera_changes_the_picture_and_nothing_else_does(generator):
    ws = codes(generator)
    front, turned_away = frontal(generator.config), turned(generator.config, 30, 10)
    a, again, b = (torch.cat([*draw_codes(generator, ws, cameras=camera)]) for camera in (front, front, turned_away))
    assert torch.equal(a, again) and torch.equal(a, torch.cat([*draw_codes(generator, ws)]))
    assert (a - b).abs().mean() > 0.01
    each = torch.cat([front, turned_away])
    both = torch.cat([*draw_codes(generator, ws, cameras=each)])
    assert torch.allclose(both, torch.stack([a[0], b[1]]), atol=1e-5)
    assert torch.equal(render_samples(generator, sample_z(generator.z_dim, 2, 0), cameras=each), both)


def test_codes_are_made_for_the_frontal_camera(generator):
    """The mapping looks at a camera; every side of a person is drawn from one code."""
    z = sample_z(generator.z_dim, 2, 0)
    usual = generator.mapping(z)
    assert torch.equal(usual, generator.mapping(z, label=frontal(generator.config, 2)))
    assert not torch.allclose(usual, generator.mapping(z, label=turned(generator.config, 40).expand(2, -1)))
    blind = head(label_scale=0.0)
    blind.load_state_dict(generator.state_dict())
    a, b = (blind.mapping(z, label=turned(CONFIG, yaw).expand(2, -1)) for yaw in (0, 40))
    assert torch.equal(a, b)
    assert generator.c_dim == 0, "cameras are no classes"


@pytest.mark.parametrize("points", [1, 100, 333])
def test_chunks_of_rays_change_nothing(generator, monkeypatch, points):
    draw = Draw(codes(generator), cameras=turned(CONFIG, [10.0, -20.0]))
    whole = generator.synthesis.render(draw)
    monkeypatch.setattr(network, "POINTS", points)
    parts = generator.synthesis.render(draw)
    for field in dataclasses.fields(whole):
        assert torch.allclose(getattr(whole, field.name), getattr(parts, field.name), atol=1e-5), field.name


def test_computing_again_gives_the_same_gradients(generator, monkeypatch):
    monkeypatch.setattr(network, "POINTS", 200)
    generator.requires_grad_(True)
    parameters = [p for p in generator.synthesis.parameters()]
    draw = Draw(codes(generator), cameras=turned(CONFIG, [10.0, -20.0]), ray_seeds=(1, 2))
    found = []
    for recompute in (False, True):
        image = generator.synthesis(draw, recompute=recompute)
        found.append(torch.autograd.grad(image.square().mean(), parameters, allow_unused=True))
    moved = 0
    for a, b in zip(*found, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert torch.allclose(a, b, atol=1e-6)
            moved += bool(a.abs().sum() > 0)
    assert moved > len(parameters) / 2


def test_a_picture_does_not_depend_on_its_neighbours(generator):
    draw = Draw(codes(generator, 3), cameras=turned(CONFIG, [0.0, 30.0, -30.0]), ray_seeds=(5, 6, 7))
    together = generator.synthesis(draw)
    for row in range(3):
        assert torch.allclose(generator.synthesis(draw[row : row + 1])[0], together[row], atol=1e-5)


def test_the_seeds_of_rays(generator):
    ws, seen = codes(generator, 1), frontal(CONFIG)
    draw = lambda *seeds, noise="const": generator.synthesis(Draw(ws, (3,), seen, seeds or None), noise=noise)  # noqa: E731
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert torch.equal(draw(noise="none"), draw(noise="none"))
    assert torch.equal(draw(noise="random"), draw(noise="random")), "the seed of noise is that of the rays, too"
    coarse, fine = generator.synthesis.places(Draw(ws, None, seen), "none")
    assert torch.equal(coarse, torch.full([1, 64, 6], 0.5))
    assert fine[0, 0].tolist() == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


def test_a_ball_of_density_is_seen_as_one(generator, monkeypatch):
    """With a field of our own in place of planes and decoder, depth and cover are those of a sphere."""
    config = dataclasses.replace(
        CONFIG, render_side=16, depth_samples=48, importance_samples=48, camera_pivot=(0.0, 0.0, 0.0)
    )
    big = head(**{f.name: getattr(config, f.name) for f in dataclasses.fields(config)})

    def ball(planes, points):
        density = torch.where(points.norm(dim=-1) < 0.2, 800.0, -800.0)
        return torch.full((*points.shape[:2], 4), 0.75), density

    monkeypatch.setattr(big.synthesis, "at", ball)
    seen = big.synthesis.render(Draw(codes(big, 1), cameras=turned(config, 25, -10)), "none")
    middles = (torch.arange(16) + 0.5) / 16 - 0.5
    off = (middles.square() + middles[:, None].square()).sqrt() / config.focal  # tangent of the angle to the middle ray
    cos = 1 / (1 + off.square()).sqrt()
    nearest = 2.7 * (1 - cos.square()).sqrt()  # of the ray to the ball's middle
    meets = nearest < 0.19
    expected = 2.7 * cos - (0.04 - nearest.square()).clamp(min=0).sqrt()
    assert 20 < meets.sum() < 200
    assert (seen.depth[0, 0] - expected)[meets].abs().max() < 0.015
    assert (seen.cover[0, 0][meets] > 0.999).all() and (seen.cover[0, 0][nearest > 0.22] < 1e-3).all()
    assert torch.allclose(seen.raw[0, 0][meets], torch.tensor(0.5), atol=1e-3)
    assert (seen.raw[0, 0][nearest > 0.22] < -0.99).all()


def test_planes_are_those_of_the_axes(generator):
    """A point is looked up at its own shares of each plane's axes: against a sum over planes that are read one by one."""
    points = torch.rand(1, 30, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    planes = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    for name, places in (("fixed", ("xy", "xz", "zy")), ("published", ("xy", "xz", "zx"))):
        if name == "published":
            from eg3d_files import PUBLISHED_PLANES

            generator = head(plane_axes=PUBLISHED_PLANES)
        total = 0
        for plane, axes in zip(planes[0], places, strict=True):
            at = torch.stack([points[0, :, "xyz".index(axis)] for axis in axes], 1) * 2
            total = total + F.grid_sample(plane[None], at[None, None], align_corners=False)[0, :, 0].T
        colours, density = generator.synthesis.at(planes, points)
        decoder = generator.synthesis.decoder
        hidden = F.softplus((total / 3) @ (decoder.hidden.weight / 2).T + decoder.hidden.bias)
        out = hidden @ (decoder.out.weight / 8**0.5).T + decoder.out.bias
        assert torch.allclose(density[0], out[:, 0], atol=1e-4)
        assert torch.allclose(colours[0], torch.sigmoid(out[:, 1:]) * 1.002 - 0.001, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in SUPERRESOLUTIONS if kind != "none"])
def test_superresolutions_begin_with_the_size_that_they_ask_for(kind):
    """Against the two blocks, written out: what is put in is resized, and enlarged once or twice."""
    config = dataclasses.replace(CONFIG, superresolution=kind, resolution=64)
    generator = head(superresolution=kind, resolution=64)
    rendering = generator.synthesis.render(Draw(codes(generator, 1)))
    assert rendering.images.shape == (1, 3, 64, 64) and rendering.raw.shape == (1, 3, 8, 8)
    side = 16 if kind.startswith("8X") else 32
    blocks = generator.synthesis.superresolution.blocks
    assert generator.synthesis.superresolution.side == side
    assert [block.convs[0].up for block in blocks] == [kind.startswith("8X"), True]
    assert config.render_side < side
    w = codes(generator, 1)[:, -1]
    raw = F.interpolate(rendering.raw, (side, side), mode="bilinear", antialias=kind != "Deepfp32")
    module = generator.synthesis.superresolution
    features = torch.rand(1, 4, side, side)
    without = module(raw, features, w, lambda number, conv: None)
    brighter = module(raw + 0.25, features, w, lambda number, conv: None)
    inner = (brighter - without)[..., 8:-8, 8:-8]  # upsampling darkens the border
    assert torch.allclose(inner, torch.tensor(0.25), atol=1e-4), "the rendering goes straight through"


def test_larger_renderings_stay_as_they_are_where_the_kind_says_so():
    for kind, stays in (("4X", True), ("Deepfp32", True), ("2X", False)):
        module = head(superresolution=kind).synthesis.superresolution
        fitted = module._fitted(torch.rand(1, 3, 24, 24))
        assert (fitted.shape[-1] == 24) is stays


def test_what_cannot_be_drawn_is_said(generator):
    flat, seen = small(), frontal(CONFIG)
    with pytest.raises(ValueError, match=r"flat pictures.*leave the camera out"):
        flat.synthesis(Draw(torch.zeros(1, flat.num_ws, flat.w_dim), cameras=seen))
    with pytest.raises(ValueError, match="cameras have shape"):
        generator.synthesis(Draw(codes(generator), cameras=seen[:, :9]))
    with pytest.raises(ValueError, match="no rotation"):
        render_samples(generator, sample_z(generator.z_dim, 1, 0), cameras=2 * seen)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"superresolution": "16X"}, "superresolution is '16X'; it must be one of none, 8XDC"),
        ({"superresolution": "none"}, "render_side is 8; without a superresolution"),
        ({"c_dim": 3}, "a camera has 25 numbers"),
        ({"ray_start": 3.0, "ray_end": 2.0}, "Rays go from 3.0 to 2.0"),
        ({"ray_start": None}, "ray_start and ray_end must both"),
        ({"box_warp": 0}, "box_warp is 0"),
        ({"plane_axes": ()}, "plane_axes must be"),
        ({"plane_axes": (((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0)),)}, "do not lie in one plane"),
        ({"depth_samples": 2}, "depth_samples is 2"),
        ({"camera_pivot": (0.0, 1.0)}, "camera_pivot"),
        ({"label_scale": float("nan")}, "label_scale"),
    ],
)
def test_sizes_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **wrong)


def test_limits_found_in_the_box(generator):
    """Pictures change little where the rays begin at the box in place of before it: there is nothing before it."""
    automatic = head(ray_start=None, ray_end=None)
    automatic.load_state_dict(generator.state_dict())
    seen = automatic.synthesis.render(Draw(codes(automatic), cameras=turned(CONFIG, [0.0, 20.0])))
    assert torch.isfinite(seen.images).all()
    middle = seen.depth[:, 0, 3:5, 3:5]
    assert (middle > 2.1).all() and (middle < 3.3).all()


def test_what_a_generator_of_512_pixels_takes():
    """Told from its sizes alone: the weights of about 31 million numbers, and less than a gigabyte to draw."""
    from comfyui_stylegan_fusion.stylegan import EG3DConfig

    sizes = EG3DConfig(512, render_side=128, superresolution="8XDC", superresolution_channels=(256, 128))
    assert 3e8 < drawing_memory(sizes) < 1.5e9


def test_a_picture_is_projected_as_its_camera_saw_it(generator):
    """What is found is drawn by that camera; another one would have found something else."""
    from comfyui_stylegan_fusion.miniature.perceptual import load_features
    from comfyui_stylegan_fusion.stylegan.projection import ProjectionSettings, project

    side = turned(CONFIG, 35, 10)
    target = render_samples(generator, sample_z(generator.z_dim, 1, 5), cameras=side).clamp(-1, 1)
    found = project(generator, target, load_features("miniature"), ProjectionSettings(steps=25), camera=side)
    assert torch.allclose(found.image, generator.synthesis(Draw(found.ws, cameras=side)), atol=1e-5)
    before = render_samples(generator, sample_z(generator.z_dim, 1, 5), truncation_psi=0.0, cameras=side)
    assert found.pixel_error < 0.8 * (before - target).square().mean()
