"""Heads in three dimensions: the persons of the miniature world as signed distance functions, with known camera and depth.

Lengths are those of the drawn portraits: the origin between the eyes, x to the right and y down as the usual camera sees
them, z towards it, the face about one unit tall. HEAD is what a unit is in the generator's world, where y points up. The
background is a bowl behind the head, which every ray ends in.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..stylegan import EG3DConfig
from ..stylegan.cameras import rays
from .factors import ACCESSORIES, COLLARS, HAIR_SHAPES, HAIR_STYLES, HAT_SHAPES, Factors
from .renderer import DARK, WHITE

HEAD = 0.28
"""Length of a unit of the head in the world."""

BOWL = 0.5
"""Distance of the background from the world's origin, behind it."""

CONFIG = EG3DConfig(
    resolution=64,
    z_dim=128,
    w_dim=128,
    mapping_layers=4,
    channel_base=4096,
    channel_max=160,
    conv_clamp=256.0,
    plane_side=64,
    plane_channels=16,
    decoder_width=32,
    render_side=64,
    depth_samples=16,
    importance_samples=16,
    ray_start=2.4,
    ray_end=3.25,
    box_warp=1.1,
    label_scale=0.0,
)
"""Of the generator that is trained on them."""

YAW, PITCH = 35.0, 18.0
"""How far the cameras of the training turn to each side, up and down, in degrees."""

_STEPS, _NEAR = 32, 2e-3


@dataclass(frozen=True)
class Seen:
    """Seen is what M rays of each of B cameras meet."""

    colours: Tensor  # [B, M, 3] in [0, 1]
    depth: Tensor  # [B, M], distance from the camera
    head: Tensor  # [B, M], whether it is no background


class Heads:
    """Heads are B persons in space."""

    def __init__(self, factors: Factors):
        self.factors = factors
        column = lambda values: values[:, None].float()  # noqa: E731
        f = factors
        self.light, self.smile, self.open = column(f.light), column(f.smile), column(f.mouth_open)
        self.eyes, self.ears = column(f.eye_size), column(f.ear_size)
        haired = 1 - _is(HAIR_STYLES, f.hair, "bald")
        hat = _is(ACCESSORIES, f.accessory, "hat")
        free = haired * (1 - hat)
        self.worn = {
            "haired": haired,
            "hat": hat,
            "long": _is(HAIR_STYLES, f.hair, "long"),
            "curly": _is(HAIR_STYLES, f.hair, "curly"),
            "spiky": free * _is(HAIR_SHAPES, f.hair_shape, "spiky"),
            "buns": free * _is(HAIR_SHAPES, f.hair_shape, "buns"),
            "scarf": _is(ACCESSORIES, f.accessory, "scarf"),
            "glasses": _is(ACCESSORIES, f.accessory, "glasses"),
            "top": hat * _is(HAT_SHAPES, f.hat_shape, "top"),
            "pointed hat": hat * _is(HAT_SHAPES, f.hat_shape, "pointed"),
            "crown": hat * _is(HAT_SHAPES, f.hat_shape, "crown"),
            "brim": hat * (1 - _is(HAT_SHAPES, f.hat_shape, "crown")),
            "pointed": _is(COLLARS, f.collar, "pointed"),
            "ruff": _is(COLLARS, f.collar, "ruff"),
        }

    def __len__(self) -> int:
        return len(self.factors)

    def distances(self, points: Tensor) -> Tensor:
        """Return about how far points [B, N, 3] of the world are from the head, below zero within it, [B, N]."""
        return HEAD * self._parts(_in_head(points)).amin(0)

    def densities(self, points: Tensor) -> Tensor:
        """Return signed distances [B, N] of points of the world to whatever is there, the background included."""
        behind = torch.where(points[..., 2] < 0, BOWL - points.norm(dim=-1), 1.0)
        return torch.minimum(self.distances(points), behind)

    def colours(self, points: Tensor) -> Tensor:
        """Return the colours [B, N, 3], in [0, 1], of what is nearest to points of the world."""
        behind = (points[..., 2] < 0) & (BOWL - points.norm(dim=-1) < self.distances(points))
        return torch.where(behind[..., None], self._background(points), self._painted(_in_head(points)))

    def seen(self, cameras: Tensor, side: int, chosen: Tensor | None = None) -> Seen:
        """Return what the rays through a picture's side^2 pixels meet, or those `chosen` [B, M] of them."""
        origins, directions = rays(cameras, side)
        if chosen is not None:
            index = chosen[..., None].expand(-1, -1, 3)
            origins, directions = origins.gather(1, index), directions.gather(1, index)
        along = (origins * directions).sum(-1)
        bowl = -along + (along.square() - origins.square().sum(-1) + BOWL**2).clamp(min=0).sqrt()
        depth = torch.full_like(bowl, CONFIG.ray_start)
        for _ in range(_STEPS):
            depth = depth + 0.9 * self.distances(origins + depth[..., None] * directions)
        hit = (self.distances(origins + depth[..., None] * directions) < _NEAR) & (depth < bowl)
        depth = torch.where(hit, depth, bowl)
        points = origins + depth[..., None] * directions
        painted = self._painted(_in_head(points))
        return Seen(torch.where(hit[..., None], painted, self._background(points)), depth, hit)

    def pictures(self, cameras: Tensor, side: int = 64, finer: int = 2) -> Tensor:
        """Render pictures [B, 3, side, side] in [-1, 1], each pixel the mean of finer^2 rays."""
        colours = self.seen(cameras, side * finer).colours.mT.unflatten(2, (side * finer, side * finer))
        return torch.nn.functional.avg_pool2d(colours, finer) * 2 - 1

    def _parts(self, p: Tensor) -> Tensor:
        """Distances [K, B, N] of points of the head to its parts; of those that are not there, far."""
        x, y, z = p.unbind(-1)
        mirrored = torch.stack([x.abs(), y, z], -1)
        worn = self.worn
        far = lambda name: 9 * (1 - worn[name])  # noqa: E731
        cap = torch.maximum(_ellipsoid(p, (0, -0.02, -0.02), (0.48, 0.65, 0.53)), (y - 0.12 + 0.6 * z) / 1.17)
        cap = torch.maximum(cap, -_ellipsoid(p, (0, 0.18, 0.34), (0.43, 0.52, 0.5)))
        cap = torch.maximum(cap, -0.32 - y - 9 * (1 - worn["hat"]))  # none above a hat's brim
        curls = torch.stack(
            [
                _ball(mirrored, centre, 0.19)
                for centre in ((0.34, -0.42, 0.12), (0.12, -0.56, 0.14), (0.45, -0.15, -0.1), (0.2, -0.35, -0.42))
            ]
        ).amin(0)
        spikes = torch.stack(
            [
                _cone(mirrored, (0.0, -0.5, -0.05), (0.0, -0.92, -0.05), 0.13),
                _cone(mirrored, (0.18, -0.48, -0.05), (0.32, -0.82, -0.05), 0.13),
                _cone(mirrored, (0.32, -0.34, -0.05), (0.56, -0.56, -0.05), 0.13),
            ]
        ).amin(0)
        ring = _torus(mirrored - p.new_tensor([0.19, 0.0, 0.5]), 2, 0.16, 0.026)
        frame = torch.minimum(ring, _segment(mirrored, (0.34, 0.0, 0.45), (0.47, 0.0, -0.05), 0.022))
        ear = p.new_tensor([0.46, 0.06, -0.02])
        size = self.ears[..., None] * p.new_tensor([0.10, 0.15, 0.08])
        return torch.stack(
            [
                _ellipsoid(p, (0, 0, 0), (0.45, 0.6, 0.5)),
                _ellipsoid(mirrored - ear, (0, 0, 0), size),
                _ellipsoid(p, (0, 0.15, 0.49), (0.06, 0.11, 0.09)),
                _segment(p, (0, 0.5, -0.05), (0, 1.0, -0.05), 0.17),
                _ellipsoid(p, (0, 1.42, -0.05), (0.74, 0.58, 0.4)),
                cap + far("haired"),
                _ellipsoid(p, (0, 0.15, -0.24), (0.56, 0.78, 0.32)) + far("long"),
                curls + far("curly"),
                torch.minimum(spikes + far("spiky"), _ball(mirrored, (0.36, -0.62, -0.05), 0.17) + far("buns")),
                _torus(p - p.new_tensor([0, 0.78, -0.05]), 1, 0.26, 0.13) + far("scarf"),
                frame + far("glasses"),
                _cylinder(p, (0, -0.34, -0.02), 0.60, 0.045) + far("brim"),
                torch.minimum(
                    _cylinder(p, (0, -0.58, -0.02), 0.40, 0.24) + far("top"),
                    _cone(p, (0, -0.36, -0.02), (0, -0.98, -0.02), 0.42) + far("pointed hat"),
                ),
                _cylinder(p, (0, -0.42, -0.02), 0.50, 0.12) + far("crown"),
                _torus(p - p.new_tensor([0, 0.88, -0.05]), 1, 0.32, 0.09) + far("ruff"),
            ]
        )

    def _painted(self, p: Tensor) -> Tensor:
        """Colours [B, N, 3] of what is nearest to points of the head."""
        f, (x, y, z) = self.factors, p.unbind(-1)
        column = lambda colour: torch.as_tensor(colour, dtype=torch.float32).reshape(-1, 1, 3).expand(len(f), -1, -1)  # noqa: E731
        skin, hair, clothes = column(f.surface), column(f.hair_colour), column(f.clothes)
        pale, metal = clothes * 0.4 + 0.58, column((0.85, 0.70, 0.25))
        dark = column((0.20, 0.17, 0.30))
        palette = [skin, skin * 0.88, skin * 0.86, skin * 0.82, clothes, hair, hair * 0.75, hair * 0.95, hair * 0.9]
        palette += [column((0.86, 0.16, 0.24)), column(DARK), column((0.16, 0.13, 0.25)), dark, metal, pale]
        which = self._parts(p).argmin(0)
        found = torch.stack(palette, 1)[:, :, 0].gather(1, which[..., None].expand(-1, -1, 3))
        front = z > 0.1
        found = self._face(found, p, (which == 0) & front)
        collar = (which == 4) & front & ((x.abs() - 0.2).abs() + (y - 0.9).abs() < 0.2) & (self.worn["pointed"] > 0)
        found = torch.where(collar[..., None], pale, found)
        band = (which == 12) & ((y + 0.43).abs() < 0.05) & (self.worn["top"] > 0)
        found = torch.where(band[..., None], metal, found)
        flat = (which == 10)[..., None]
        light = 0.92 + 0.2 * self.light * x - 0.14 * y + 0.24 * z
        return torch.where(flat, found, (found * light[..., None]).clamp(0, 1))

    def _face(self, found: Tensor, p: Tensor, face: Tensor) -> Tensor:
        f, (x, y, _) = self.factors, p.unbind(-1)
        column = lambda colour: torch.as_tensor(colour, dtype=torch.float32).reshape(-1, 1, 3)  # noqa: E731

        def paint(found: Tensor, inside: Tensor, colour) -> Tensor:
            return torch.where((face & inside)[..., None], column(colour), found)

        across, wide, high = x.abs() - 0.19, 0.10 * self.eyes, 0.07 * self.eyes
        within = lambda a, b, rx, ry: (a / rx).square() + (b / ry).square() < 1  # noqa: E731
        found = paint(found, within(across, y, wide * 1.16, high * 1.2), DARK)
        eye = within(across, y, wide, high)
        found = paint(found, eye, WHITE)
        # Both eyes look straight ahead: their irises lie in the middle.
        found = paint(found, eye & within(across, y, high * 0.9, high * 0.9), f.eye_colour)
        found = paint(found, eye & within(across, y, high * 0.45, high * 0.45), DARK)
        brow = (y + 0.15 + 0.03 * (1 - (across / 0.11).square())).abs() < 0.024
        found = paint(found, brow & (across.abs() < 0.11), f.hair_colour * 0.8)
        bend, opening = 0.10 * self.smile, 0.02 + 0.085 * self.open
        mouth = within(x, y - 0.34 - bend * 0.5, torch.full_like(bend, 0.17 * 0.78), opening) & (self.open > 0.3)
        found = paint(found, mouth, (0.30, 0.05, 0.08))
        lips = (y - 0.34 - bend * (1 - (x / 0.17).square())).abs() < 0.028
        return paint(found, lips & (x.abs() < 0.17), (0.70, 0.24, 0.26))

    def _background(self, points: Tensor) -> Tensor:
        away = (points[..., :2].square().sum(-1, keepdim=True) / 0.3166**2).clamp(max=2)
        return (self.factors.background[:, None] * (1.06 - 0.16 * away)).clamp(0, 1)


def cameras_of(count: int, random: torch.Generator) -> Tensor:
    """Draw cameras [count, 25] of a training."""
    from ..stylegan import turned

    yaw, pitch = (torch.rand(2, count, generator=random) * 2 - 1).mul(torch.tensor([[YAW], [PITCH]])).unbind(0)
    return turned(CONFIG, yaw.tolist(), pitch.tolist())


def _in_head(points: Tensor) -> Tensor:
    return points * points.new_tensor([1 / HEAD, -1 / HEAD, 1 / HEAD])


def _is(names: tuple[str, ...], values: Tensor, wanted: str) -> Tensor:
    return (values == names.index(wanted)).float()[:, None]


def _ellipsoid(p: Tensor, centre, radii) -> Tensor:
    """A lower bound that is exact at the surface (Quilez, iquilezles.org/articles/ellipsoids)."""
    q = p - p.new_tensor(centre)
    radii = torch.as_tensor(radii, dtype=p.dtype)
    near, slope = (q / radii).norm(dim=-1), (q / radii.square()).norm(dim=-1)
    return near * (near - 1) / slope.clamp(min=1e-6)


def _ball(p: Tensor, centre, radius: float) -> Tensor:
    return (p - p.new_tensor(centre)).norm(dim=-1) - radius


def _segment(p: Tensor, start, end, radius: float) -> Tensor:
    return _to_segment(p, start, end)[0] - radius


def _cone(p: Tensor, start, end, radius: float) -> Tensor:
    """A bound for a rod that narrows to a tip."""
    away, share = _to_segment(p, start, end)
    return 0.8 * (away - radius * (1 - 0.95 * share))


def _to_segment(p: Tensor, start, end) -> tuple[Tensor, Tensor]:
    a, b = p.new_tensor(start), p.new_tensor(end)
    along = b - a
    share = (((p - a) * along).sum(-1) / along.square().sum()).clamp(0, 1)
    return (p - a - share[..., None] * along).norm(dim=-1), share


def _torus(p: Tensor, axis: int, radius: float, tube: float) -> Tensor:
    """A ring around an axis: 1 for y, 2 for z."""
    height = p[..., axis]
    other = p[..., [0, 3 - axis]]
    return ((other.norm(dim=-1) - radius).square() + height.square() + 1e-12).sqrt() - tube


def _cylinder(p: Tensor, centre, radius: float, half: float) -> Tensor:
    q = p - p.new_tensor(centre)
    around, up = q[..., [0, 2]].norm(dim=-1) - radius, q[..., 1].abs() - half
    outside = (around.clamp(min=0).square() + up.clamp(min=0).square() + 1e-12).sqrt()
    return outside + torch.maximum(around, up).clamp(max=0)
