"""Cameras of 3D-aware generators: 25 numbers each, as EG3D has them (arXiv 2112.07945).

The first 16 are the matrix from the camera's coordinates to the world's, 4 x 4 row by row: the camera looks along its z,
its x points to the right and its y down. The last 9 are its intrinsics, 3 x 3 row by row, divided by the picture's size.
In the world y points up, and what is drawn looks along z.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .config import Config, EG3DConfig
from .synthesis import NO_CAMERA

LENGTH = 25


def look_at(origins: Tensor, pivot: Tensor) -> Tensor:
    """Return the matrices [B, 4, 4] of upright cameras at `origins` [B, 3] that look at `pivot` [3] or [B, 3]."""
    forward = F.normalize(pivot - origins, dim=1)
    up = torch.tensor([0.0, 1.0, 0.0]).to(origins).expand_as(origins)
    right = F.normalize(torch.linalg.cross(forward, up), dim=1)
    down = torch.linalg.cross(forward, right)
    matrices = torch.eye(4).to(origins).repeat(len(origins), 1, 1)
    matrices[:, :3] = torch.stack([right, down, forward, origins], dim=2)
    return matrices


def with_focal(matrices: Tensor, focal: float) -> Tensor:
    """Return cameras [B, 25] of matrices [B, 4, 4] with a focal length in widths of the picture, looking through its
    middle."""
    intrinsics = torch.tensor([focal, 0.0, 0.5, 0.0, focal, 0.5, 0.0, 0.0, 1.0]).to(matrices)
    return torch.cat([matrices.flatten(1), intrinsics.expand(len(matrices), -1)], dim=1)


def focal_length(field_of_view: float) -> float:
    """Return the focal length, in heights of the picture, of a vertical field of view in degrees. Raises ValueError when
    it is not between 0 and 180."""
    if not 0 < field_of_view < 180:
        raise ValueError(f"The field of view is {field_of_view:g} degrees; give a number between 0 and 180.")
    return 0.5 / math.tan(math.radians(field_of_view) / 2)


def field_of_view(focal: float) -> float:
    """Return the field of view in degrees of a focal length in heights of the picture."""
    return math.degrees(2 * math.atan(0.5 / focal))


def turned(
    config: EG3DConfig,
    yaw: float | Sequence[float] | Tensor = 0.0,
    pitch: float | Sequence[float] | Tensor = 0.0,
    radius: float | None = None,
    focal: float | None = None,
) -> Tensor:
    """Return cameras [B, 25] on the sphere around a generator's pivot: `yaw` degrees to the right of the front and `pitch`
    degrees above it; radius and focal length are the generator's own unless they are given.

    Raises ValueError for what is no number, a pitch of 90 degrees and more, or a radius that is not above 0."""
    sideways, upwards = (torch.as_tensor(angle, dtype=torch.float64).reshape(-1) for angle in (yaw, pitch))
    radius = config.camera_radius if radius is None else radius
    if not (torch.isfinite(sideways).all() and (upwards.abs() < 90).all()):
        raise ValueError("A camera's yaw must be a number of degrees, and its pitch one between -90 and 90.")
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"The camera's radius is {radius:g}; give a number above 0.")
    across, up = torch.broadcast_tensors(torch.deg2rad(sideways), torch.deg2rad(upwards))
    away = torch.stack([up.cos() * across.sin(), up.sin(), up.cos() * across.cos()], dim=1)
    return _around(config, away, radius, focal)


def on_sphere(config: EG3DConfig, horizontal: Tensor, vertical: Tensor) -> Tensor:
    """Return cameras [B, 25] at angles [B] in radians as EG3D's programs count them: 1.57 and 1.57 are the front, a larger
    `horizontal` is farther to the right, and a larger `vertical` lower, by the arc cosine of 1 - 2 vertical / pi."""
    down = torch.acos(1 - 2 * vertical.double() / math.pi)
    side = math.pi - horizontal.double()
    away = torch.stack([down.sin() * side.cos(), down.cos(), down.sin() * side.sin()], dim=1)
    return _around(config, away, config.camera_radius, None)


def _around(config: EG3DConfig, away: Tensor, radius: float, focal: float | None) -> Tensor:
    """Cameras in directions [B, 3] from the world's origin, as EG3D has it: they look at the pivot."""
    matrices = look_at(radius * away, torch.tensor(config.camera_pivot, dtype=torch.float64))
    return with_focal(matrices, config.focal if focal is None else focal).float()


def yaws(cameras: Tensor) -> Tensor:
    """Return how far cameras [B, 25] stand to the right of the front, in degrees from -180 to 180, [B]: the yaw of
    `turned`."""
    return torch.rad2deg(torch.atan2(cameras[:, 3], cameras[:, 11]))


def pitches(cameras: Tensor) -> Tensor:
    """Return how far cameras [B, 25] stand above the front, in degrees, [B]: the pitch of `turned`."""
    return torch.rad2deg(torch.asin((cameras[:, 7] / radii(cameras)).clamp(-1, 1)))


def radii(cameras: Tensor) -> Tensor:
    """Return how far cameras [B, 25] stand from the world's origin, [B]."""
    return cameras[:, [3, 7, 11]].norm(dim=1)


def frontal(config: EG3DConfig, count: int = 1) -> Tensor:
    """Return the usual camera of a generator, from the front, [count, 25]."""
    return turned(config).expand(count, -1)


def orbit_angles(count: int, angle: float = 20.0, yaw: float = 0.0, pitch: float = 0.0) -> tuple[list, list]:
    """Return the yaws and pitches in degrees of `count` cameras for a film that loops: around an ellipse `angle` degrees to
    each side of a view and half as far up and down, or, at 180 degrees, once around.

    Raises ValueError for fewer than one camera, or an angle that is not above 0 and at most 180."""
    if count < 1:
        raise ValueError(f"An orbit of {count} pictures shows nothing; give 1 or more.")
    if not 0 < angle <= 180:
        raise ValueError(f"The angle of the orbit is {angle:g}; give degrees above 0 and at most 180.")
    turns = [2 * math.pi * index / count for index in range(count)]
    if angle == 180:
        return [yaw + math.degrees(turn) for turn in turns], [pitch] * count
    rising = [max(-89.0, min(89.0, pitch + angle / 2 * math.cos(turn))) for turn in turns]
    return [yaw + angle * math.sin(turn) for turn in turns], rising


def orbit(
    config: EG3DConfig,
    count: int,
    angle: float = 20.0,
    yaw: float = 0.0,
    pitch: float = 0.0,
    radius: float | None = None,
    focal: float | None = None,
) -> Tensor:
    """Return cameras [count, 25] at the angles of `orbit_angles`. Raises ValueError as that, or as `turned`."""
    return turned(config, *orbit_angles(count, angle, yaw, pitch), radius, focal)


@dataclass(frozen=True)
class Views:
    """Views say from where something is seen, whichever generator draws it: from each of some angles around its pivot, or
    from one place in the world."""

    yaw: tuple[float, ...] = (0.0,)  # degrees to the right of the front
    pitch: tuple[float, ...] = (0.0,)  # degrees above it, of each yaw
    radius: float | None = None  # None: the generator's own
    field_of_view: float | None = None  # vertical, in degrees; None: the generator's own
    place: tuple[float, float, float] | None = None  # of the camera, in place of the angles and the radius
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)  # what it looks at from there

    @classmethod
    def of(cls, cameras: Tensor) -> "Views":
        """Return the views of cameras [V, 25] that look at a generator's pivot, alike but for their angles."""
        exact = cameras.double()
        field = field_of_view(exact[0, 20].item())
        return cls(tuple(yaws(exact).tolist()), tuple(pitches(exact).tolist()), radii(exact)[0].item(), field)

    def __len__(self) -> int:
        return 1 if self.place is not None else len(self.yaw)

    def cameras(self, config: Config) -> Tensor:
        """Return the cameras [V, 25] for a generator. Raises ValueError for one that takes none, or as `turned`."""
        if not config.takes_cameras:
            raise ValueError(NO_CAMERA)
        focal = None if self.field_of_view is None else focal_length(self.field_of_view)
        if self.place is None:
            return turned(config, self.yaw, self.pitch, self.radius, focal)
        place, target = (torch.tensor(at, dtype=torch.float64) for at in (self.place, self.target))
        away = place - target
        if not (torch.isfinite(away).all() and away[[0, 2]].abs().max() > 1e-6):
            raise ValueError("A camera must stand beside what it looks at, not on, above or below it; move it.")
        return with_focal(look_at(place[None], target), config.focal if focal is None else focal).float()

    def orbit(self, count: int, angle: float) -> "Views":
        """Return views for a film that loops, around the first of these. Raises ValueError as `orbit_angles`, and for a
        camera at a place."""
        if self.place is not None:
            raise ValueError(
                "An orbit goes around a view by angles, not around a place; give it the node Camera's angles."
            )
        yaw, pitch = orbit_angles(count, angle, self.yaw[0], self.pitch[0])
        return replace(self, yaw=tuple(yaw), pitch=tuple(pitch))


def require_cameras(cameras: Tensor, count: int) -> None:
    """Raise ValueError unless these are [count, 25], or one for all, and each has a rotation in its matrix."""
    if cameras.ndim != 2 or cameras.shape[1] != LENGTH or len(cameras) not in (1, count):
        raise ValueError(
            f"The cameras have shape {list(cameras.shape)}; give [{count}, {LENGTH}]: 16 numbers of a matrix from the camera "
            "to the world, and 9 of its intrinsics."
        )
    if cameras.is_meta:
        return
    numbers = cameras.detach().double().cpu()
    matrices, intrinsics = numbers[:, :16].view(-1, 4, 4), numbers[:, 16:].view(-1, 3, 3)
    turns = matrices[:, :3, :3]
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    straight = torch.allclose(turns @ turns.mT, torch.eye(3, dtype=torch.float64), atol=1e-3)
    if not (straight and (torch.linalg.det(turns) > 0).all() and torch.allclose(matrices[:, 3], last, atol=1e-4)):
        raise ValueError(
            "The first 16 numbers of a camera are no rotation and place; give the 4 x 4 matrix from the camera to the world, "
            "row by row."
        )
    if not (torch.isfinite(intrinsics).all() and (intrinsics[:, [0, 1], [0, 1]] > 0).all()):
        raise ValueError("A camera's focal lengths must be above 0; give intrinsics divided by the picture's size.")


def for_each(cameras: Tensor | None, count: int) -> Tensor | None:
    """Return `count` cameras of as many or of one; None of None. Raises ValueError for another number or shape."""
    if cameras is None:
        return None
    require_cameras(cameras, count)
    return cameras.expand(count, -1)


def normals(depth: Tensor, cameras: Tensor) -> Tensor:
    """Return unit normals [B, 3, R, R] in the cameras' coordinates, x to the right, y up and z towards the camera, of what
    is seen at depths [B, 1, R, R] along the rays of cameras [B, 25]."""
    side = depth.shape[-1]
    _, directions = rays(cameras, side)
    turns = cameras[:, :16].view(-1, 4, 4)[:, :3, :3]
    points = (directions @ turns) * depth.flatten(1)[..., None]
    points = (points * points.new_tensor([1, -1, -1])).mT.unflatten(2, (side, side))
    padded = F.pad(points, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    up = padded[:, :, :-2, 1:-1] - padded[:, :, 2:, 1:-1]
    return F.normalize(torch.linalg.cross(across, up, dim=1), dim=1)


def rays(cameras: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return origins and unit directions [B, side^2, 3] of the rays through the centres of a picture's pixels, row by
    row, of cameras [B, 25]."""
    matrices, intrinsics = cameras[:, :16].view(-1, 4, 4), cameras[:, 16:].view(-1, 3, 3)
    centres = (torch.arange(side, device=cameras.device, dtype=cameras.dtype) + 0.5) / side
    v, u = (axis.reshape(1, -1) for axis in torch.meshgrid(centres, centres, indexing="ij"))
    fx, skew, cx = (intrinsics[:, 0, i, None] for i in range(3))
    fy, cy = intrinsics[:, 1, 1, None], intrinsics[:, 1, 2, None]
    y = (v - cy) / fy
    x = (u - cx - skew * y) / fx
    across = torch.stack([x, y.expand_as(x), torch.ones_like(x)], dim=2)
    directions = F.normalize(across @ matrices[:, :3, :3].mT, dim=2)
    return matrices[:, None, :3, 3].expand_as(directions), directions
