"""What pictures and depths of a generator that draws in 3D are judged by: the same points from two sides, and where a head
looks, read from depth."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..stylegan.cameras import rays

SEEN = 0.02
"""Difference of depths up to which two cameras see the same point."""


def points_of(depth: Tensor, cameras: Tensor) -> Tensor:
    """Return the points [B, R^2, 3] of the world that cameras see at depths [B, 1, R, R]."""
    origins, directions = rays(cameras, depth.shape[-1])
    return origins + depth.flatten(1)[..., None] * directions


def seen_at(points: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
    """Return where in the picture [B, N, 2] points [B, N, 3] appear, (-1, -1) to (1, 1) from corner to corner, and how far
    they are from the camera [B, N]."""
    matrices, intrinsics = cameras[:, :16].view(-1, 4, 4), cameras[:, 16:].view(-1, 3, 3)
    away = points - matrices[:, None, :3, 3]
    inside = away @ matrices[:, :3, :3]
    places = inside @ intrinsics.mT
    return 2 * places[..., :2] / places[..., 2:].clamp(min=1e-6) - 1, away.norm(dim=2)


def read(maps: Tensor, places: Tensor, mode: str = "bilinear") -> Tensor:
    """Return what maps [B, C, R, R] have at places [B, N, 2]: [B, N, C]."""
    return F.grid_sample(maps, places[:, :, None], mode=mode, align_corners=False)[..., 0].mT


def inconsistency(
    images: Tensor, depth: Tensor, cameras: Tensor, others: Tensor, depth_there: Tensor, cameras_there: Tensor
) -> Tensor:
    """Return the mean absolute difference [B] of the colours of the same points in images [B, 3, R, R] of two cameras, over
    the points of the first that the second one sees, too."""
    points = points_of(depth, cameras)
    places, distance = seen_at(points, cameras_there)
    inside = (places.abs() < 1).all(2)
    visible = inside & ((distance - read(depth_there, places)[..., 0]).abs() < SEEN)
    difference = (read(others, places) - images.flatten(2).mT).abs().mean(2)
    return (difference * visible).sum(1) / visible.sum(1).clamp(min=1)


def is_head(points: Tensor) -> Tensor:
    """Tell which points [B, N, 3] of the world belong to what is above the shoulders, not to the background."""
    return (points.norm(dim=2) < 0.36) & (points[..., 1] > -0.2) & (points[..., 2] > -0.12)


def facing(depth: Tensor, cameras: Tensor, most: float = 16.0, step: float = 1.0) -> Tensor:
    """Return the yaw [B] in degrees of the upright plane in which heads are most nearly the same when they are mirrored: to
    which side they look. Points of the depths [B, 1, R, R] are mirrored, and compared with what the camera sees there."""
    points = points_of(depth, cameras)
    head = is_head(points)
    angles = torch.arange(-most, most + step / 2, step)
    misfits = []
    for angle in angles.tolist():
        turn = math.radians(angle)
        across = points.new_tensor([math.cos(turn), 0.0, -math.sin(turn)])  # at right angles to the plane
        mirrored = points - 2 * (points @ across)[..., None] * across
        places, distance = seen_at(mirrored, cameras)
        counts = head & (places.abs() < 1).all(2)
        off = (distance - read(depth, places, "nearest")[..., 0]).abs().clamp(max=0.05)
        misfits.append((off * counts).sum(1) / counts.sum(1).clamp(min=1))
    misfits = torch.stack(misfits, 1)
    best = misfits.argmin(1).clamp(1, len(angles) - 2)
    below, here, above = (misfits.gather(1, (best + shift)[:, None])[:, 0] for shift in (-1, 0, 1))
    bend = (below - 2 * here + above).clamp(min=1e-9)
    return angles[best] + step * ((below - above) / (2 * bend)).clamp(-1, 1)
