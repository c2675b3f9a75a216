"""Volume rendering of feature planes (arXiv 2112.07945, sec. 4; the march is that of Mip-NeRF, arXiv 2103.13415).

M rays for each of B pictures, S points on a ray: depths and densities are [B, M, S], colours [B, M, S, C]."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 1e-5
"""Share of a bin below which the fine pass takes it to be empty."""

IN_CACHE = 2**20
"""Numbers of planes that a processor's cache holds; larger ones are gathered point by point."""


def sample_planes(planes: Tensor, places: Tensor) -> Tensor:
    """Return the mean [B, N, C] over P planes [B, P, C, H, W] of what lies, bilinearly, at places [B, P, N, 2] on them:
    (-1, -1) to (1, 1) from corner to corner, zero beyond."""
    kind = planes.device.type
    if kind == "meta" or (kind == "cpu" and planes.numel() > IN_CACHE):  # on meta, where sizes count, there is no other
        return _gathered(planes, places)
    b, p, c = planes.shape[:3]
    grid = places.reshape(b * p, 1, -1, 2)
    found = F.grid_sample(planes.flatten(0, 1), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.view(b, p, c, -1).mean(1).mT


def _gathered(planes: Tensor, places: Tensor) -> Tensor:
    """The same as sums of the features around each point: of one place they lie together then, and a processor need not
    fetch each from afar."""
    b, p, c, height, width = planes.shape
    table = planes.permute(0, 1, 3, 4, 2).reshape(-1, c)
    at = (places + 1) * (places.new_tensor([width, height]) / 2) - 0.5
    low = at.floor()
    share, low = at - low, low.long()
    first = (torch.arange(b * p, device=planes.device) * (height * width)).view(b, p, 1)
    indices, weights = [], []
    for up in (0, 1):
        for right in (0, 1):
            x, y = low[..., 0] + right, low[..., 1] + up
            across, down = (
                (part if one else 1 - part) for part, one in zip(share.unbind(-1), (right, up), strict=True)
            )
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            indices.append(first + y.clamp(0, height - 1) * width + x.clamp(0, width - 1))
            weights.append(across * down * inside / p)
    indices, weights = (torch.stack(each, -1).transpose(1, 2).reshape(-1, 4 * p) for each in (indices, weights))
    return F.embedding_bag(indices, table, mode="sum", per_sample_weights=weights).view(b, -1, c)


def coarse_depths(start: Tensor, end: Tensor, jitter: Tensor, disparity: bool = False) -> Tensor:
    """Return even depths from `start` to `end` [B, M, 1], each moved on by a share `jitter` [B, M, S] in [0, 1) of their
    distance; with `disparity` even in one over the depth."""
    count = jitter.shape[-1]
    shares = torch.linspace(0, 1, count, device=jitter.device, dtype=jitter.dtype) + jitter * (1 / (count - 1))
    if disparity:
        return 1 / ((1 / start) * (1 - shares) + (1 / end) * shares)
    return start + shares * (end - start)


@torch.no_grad()
def fine_depths(depths: Tensor, weights: Tensor, uniform: Tensor) -> Tensor:
    """Return depths [B, M, I] at numbers `uniform` [B, M, I] in [0, 1) of the distribution that the coarse pass's weights
    [B, M, S - 1], smoothed, describe between the middles of its depths [B, M, S]."""
    shape = uniform.shape
    depths, weights, uniform = (x.reshape(-1, x.shape[-1]) for x in (depths, weights, uniform))
    blurred = F.avg_pool1d(F.max_pool1d(weights[:, None].float(), 2, 1, padding=1), 2, 1)[:, 0] + 0.01
    bins, inner = (depths[:, 1:] + depths[:, :-1]) / 2, blurred[:, 1:-1] + SMALLEST
    below = F.pad((inner / inner.sum(1, keepdim=True)).cumsum(1), (1, 0))
    place = torch.searchsorted(below, uniform.contiguous(), right=True)
    low, high = (place - 1).clamp_min(0), place.clamp_max(inner.shape[1])
    from_, to = below.gather(1, low), below.gather(1, high)
    width = torch.where(to - from_ < SMALLEST, 1.0, to - from_)
    near, far = bins.gather(1, low), bins.gather(1, high)
    return (near + (uniform - from_) / width * (far - near)).view(shape)


def march(
    colours: Tensor, densities: Tensor, depths: Tensor, white_back: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the colour [B, M, C], in [-1, 1] where colours are in [0, 1], the mean depth [B, M], not a number where there
    is nothing, and the weights [B, M, S - 1] of what lies between two points of a ray.

    Raw densities become those of the middles by softplus(density - 1); w_i = T_i (1 - exp(-density_i delta_i)) with the
    transmittance T_i, the product of all exp(-density_j delta_j) before it."""
    middle = lambda x: (x[:, :, 1:] + x[:, :, :-1]) / 2  # noqa: E731
    opaque = 1 - torch.exp(-F.softplus(middle(densities) - 1) * depths.diff(dim=2))
    passing = torch.cumprod(F.pad(1 - opaque[:, :, :-1] + 1e-10, (1, 0), value=1.0), dim=2)
    weights = opaque * passing
    total = weights.sum(2)
    colour = (weights[:, :, None] @ middle(colours))[:, :, 0]
    if white_back:
        colour = colour + 1 - total[..., None]
    met = total > 0  # apart, so that no gradient of 0 / 0 is taken
    depth = (weights * middle(depths)).sum(2) / torch.where(met, total, 1.0)
    return 2 * colour - 1, torch.where(met, depth, torch.nan), weights


def box_limits(origins: Tensor, directions: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """Return the depths [B, M, 1] at which rays enter and leave the cube of this side around the origin. Rays that miss it
    go from the first to the last depth at which any ray of their picture enters."""
    inverse = 1 / directions
    low, high = (-side / 2 - origins) * inverse, (side / 2 - origins) * inverse
    start = torch.minimum(low, high).amax(2, keepdim=True)
    end = torch.maximum(low, high).amin(2, keepdim=True)
    hit = end > start
    first = torch.where(hit, start, math.inf).amin(1, keepdim=True)
    last = torch.where(hit, start, -math.inf).amax(1, keepdim=True)
    any_hit = hit.any(1, keepdim=True)
    # A picture none of whose rays meets the cube shows what lies beyond the planes, from anywhere.
    first, last = torch.where(any_hit, first, 0.0), torch.where(any_hit, last, side)
    return torch.where(hit, start, first), torch.where(hit, end, last)
