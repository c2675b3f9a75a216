"""Volume rendering against closed forms."""

import math

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import volume
from comfyui_stylegan_fusion.stylegan.volume import box_limits, coarse_depths, fine_depths, march, sample_planes
from torch.nn import functional as F


def raw(density):
    """The raw density whose softplus, less one, is this."""
    return math.log(math.expm1(density)) + 1


def test_a_constant_density_lets_through_what_beer_and_lambert_say():
    """Light falls as exp(-density length): what is left shows the white background, or the black one."""
    depths = torch.linspace(2, 3, 33).expand(1, 1, -1)
    density, colour = 1.7, torch.tensor([0.2, 0.5, 0.9])
    colours, densities = colour.expand(1, 1, 33, 3), torch.full([1, 1, 33], raw(density))
    left = math.exp(-density)
    for white in (False, True):
        found, _, weights = march(colours, densities, depths, white)
        expected = (1 - left) * colour + white * left
        assert torch.allclose(found[0, 0], 2 * expected - 1, atol=1e-5)
        assert weights.sum().item() == pytest.approx(1 - left, abs=1e-5)


def test_the_mean_depth_in_a_constant_density():
    """It is the integral of s density exp(-density s) over that of density exp(-density s)."""
    depths = torch.linspace(0, 2, 2001).expand(1, 1, -1)
    density = 3.0
    _, depth, _ = march(torch.zeros(1, 1, 2001, 1), torch.full([1, 1, 2001], raw(density)), depths)
    end = math.exp(-density * 2)
    expected = (1 / density - end * (2 + 1 / density)) / (1 - end)
    assert depth.item() == pytest.approx(expected, abs=1e-4)


def test_an_opaque_ball_is_seen_at_its_surface():
    """Both passes together find it where a ray meets a sphere, nearer than the coarse pass's distance of two points."""
    radius, random = 0.3, torch.Generator().manual_seed(0)
    x = torch.linspace(-0.2, 0.2, 9)
    origins = torch.stack([x, torch.zeros(9), torch.full([9], 2.7)], 1)[None]
    directions = torch.tensor([0.0, 0.0, -1.0]).expand(1, 9, 3)

    def density(depths):
        return 600 * ((origins[:, :, None] + depths[..., None] * directions[:, :, None]).norm(dim=-1) < radius)

    start = torch.full([1, 9, 1], 2.25)
    depths = coarse_depths(start, start + 1.05, torch.rand(1, 9, 48, generator=random))
    weights = march(torch.zeros(1, 9, 48, 1), density(depths).float(), depths)[2]
    fine = fine_depths(depths, weights, torch.rand(1, 9, 48, generator=random))
    both = torch.cat([depths, fine], 2).sort(2).values
    _, found, weights = march(torch.zeros(1, 9, 96, 1), density(both).float(), both)
    expected = 2.7 - (radius**2 - x.square()).sqrt()
    assert (found[0] - expected).abs().max() < 0.012 < 1.05 / 47
    assert torch.allclose(weights.sum(2), torch.ones(1, 9), atol=1e-3)


def test_nothing_has_no_depth():
    depths = torch.linspace(2, 3, 9).expand(1, 1, -1)
    colour, depth, weights = march(torch.ones(1, 1, 9, 3), torch.full([1, 1, 9], -200.0), depths)
    assert weights.sum() == 0 and depth.isnan().all()
    assert torch.equal(colour, torch.full([1, 1, 3], -1.0))


def test_fine_points_follow_the_weights():
    """Weight of one interval is spread as 1/2, 1, 1/2, each of 30 intervals has 0.01 more, and they lie between the middles
    of the coarse depths."""
    depths = torch.linspace(0, 1, 33).expand(1, 1, -1)
    weights = torch.zeros(1, 1, 32)
    weights[..., 20] = 1
    uniform = (torch.arange(1000) + 0.5).div(1000).expand(1, 1, -1)
    found = fine_depths(depths, weights, uniform)
    inside = ((found > 18.5 / 32) & (found < 21.5 / 32)).float().mean()
    assert inside.item() == pytest.approx((2 + 3 * 0.01) / (2 + 30 * 0.01), abs=2e-3)
    assert (found.diff() >= 0).all() and found.min() >= 0 and found.max() <= 1
    even = fine_depths(depths, torch.zeros(1, 1, 32), uniform)
    assert torch.allclose(even[0, 0].diff(), even[0, 0].diff().mean(), rtol=1e-3), "without weight they are even"


def test_points_of_the_coarse_pass():
    start, end = torch.full([1, 1, 1], 2.0), torch.full([1, 1, 1], 4.0)
    even = coarse_depths(start, end, torch.zeros(1, 1, 5))
    assert even.flatten().tolist() == [2, 2.5, 3, 3.5, 4]
    assert coarse_depths(start, end, torch.full([1, 1, 5], 0.5))[0, 0, 0] == 2.25
    inverse = 1 / coarse_depths(start, end, torch.zeros(1, 1, 5), disparity=True)
    assert inverse.flatten().tolist() == pytest.approx([0.5, 0.4375, 0.375, 0.3125, 0.25])


def test_rays_enter_and_leave_the_box():
    """Against walking along each ray in small steps."""
    random = torch.Generator().manual_seed(1)
    origins = 2 * F.normalize(torch.randn(2, 64, 3, generator=random), dim=2)
    directions = F.normalize(0.5 * torch.randn(2, 64, 3, generator=random) - origins, dim=2)
    start, end = box_limits(origins, directions, 1.2)
    depths = torch.linspace(0, 5, 5001)
    inside = ((origins[:, :, None] + depths[:, None] * directions[:, :, None]).abs() <= 0.6).all(-1)
    hit = inside.any(2)
    assert 5 < hit.sum() < 123
    first = torch.where(inside, depths, math.inf).amin(2)
    last = torch.where(inside, depths, -math.inf).amax(2)
    assert torch.allclose(start[..., 0][hit], first[hit], atol=2e-3)
    assert torch.allclose(end[..., 0][hit], last[hit], atol=2e-3)
    for picture in range(2):
        missed, met = ~hit[picture], hit[picture]
        assert torch.allclose(start[picture, missed], start[picture, met].min())
        assert torch.allclose(end[picture, missed], start[picture, met].max())


def test_planes_are_read_bilinearly(monkeypatch):
    """Against a plane on which the features are the places themselves, and zero outside of it."""
    side = 8
    middles = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    planes = torch.stack([torch.stack([x, y]), torch.stack([2 * x, y + 1])])[None]
    places = (torch.rand(1, 2, 50, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1) * (1 - 1 / side)
    first, second = places[0]
    expected = torch.stack([first[:, 0] + 2 * second[:, 0], first[:, 1] + second[:, 1] + 1], 1) / 2
    for limit in (2**30, 0):  # both ways to read them
        monkeypatch.setattr(volume, "IN_CACHE", limit)
        assert torch.allclose(sample_planes(planes, places)[0], expected, atol=1e-5)
        outside = torch.full([1, 2, 1, 2], 1.5)
        assert torch.equal(sample_planes(planes, outside), torch.zeros(1, 1, 2))


def test_both_ways_to_read_planes_agree(monkeypatch):
    random = torch.Generator().manual_seed(3)
    planes = torch.randn(2, 3, 5, 16, 12, generator=random).requires_grad_()
    places = (2.4 * torch.rand(2, 3, 200, 2, generator=random) - 1.2).requires_grad_()
    weights = torch.randn(2, 200, 5, generator=random)
    results = []
    for limit in (2**30, 0):
        monkeypatch.setattr(volume, "IN_CACHE", limit)
        found = sample_planes(planes, places)
        results.append((found.detach(), *torch.autograd.grad((found * weights).sum(), [planes, places])))
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_rays_that_meet_nothing_send_no_nonsense_back():
    """Of a mean depth without weight there is no gradient, and none that is no number."""
    densities = torch.tensor([[[-200.0] * 9], [[5.0] * 9]]).requires_grad_()
    depths = torch.linspace(2, 3, 9).expand(2, 1, -1)
    colour, depth, _ = march(torch.rand(2, 1, 9, 3), densities, depths)
    loss = colour.sum() + depth.nan_to_num(0.0).sum()
    (gradient,) = torch.autograd.grad(loss, densities)
    assert torch.isfinite(gradient).all() and gradient[0].abs().max() == 0 < gradient[1].abs().max()
