"""Draws miniature portraits: soft-edged signed distance shapes, painted one over the other, batched in torch.

Coordinates are the head's own: the origin between the eyes, x to the right, y down, the face about one unit tall.
"""

import math

import torch

from .factors import ACCESSORIES, COLLARS, DOMAINS, HAIR_SHAPES, HAIR_STYLES, HAT_SHAPES, Factors

RESOLUTION = 64


def render(factors: Factors, resolution: int = RESOLUTION) -> torch.Tensor:
    """Render portraits [B, 3, R, R] in [-1, 1] of the factors."""
    images = torch.empty(len(factors), 3, resolution, resolution)
    for index, domain in enumerate(DOMAINS):
        here = factors.domain == index
        if here.any():
            canvas = _Canvas(factors[here], resolution)
            _DRAW[domain](canvas)
            images[here] = canvas.image
    return images.mul_(2).sub_(1).clamp_(-1, 1)


class _Canvas:
    """An image being painted in the coordinates of the head of each portrait."""

    def __init__(self, factors: Factors, resolution: int):
        f = self.factors = factors
        axis = (torch.arange(resolution) + 0.5) / resolution * 2 - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        vignette = 1.06 - 0.16 * (x.square() + y.square())
        self.image = f.background[:, :, None, None] * vignette
        size = _column(f.size) * 0.95
        dx, dy = (x - _column(f.x)) / size, (y - _column(f.y)) / size
        cos, sin = _column(f.tilt.cos()), _column(f.tilt.sin())
        self.x, self.y = dx * cos + dy * sin, dy * cos - dx * sin
        self.sharpness = size * resolution / 2  # pixels per unit of the head
        self.shading = 1 + 0.22 * _column(f.light) * self.x - 0.16 * self.y
        self.turn = 0.11 * _column(f.yaw)  # shift of what sits on the front of the face

    def paint(self, distance, colour, opacity=1.0, shaded=True):
        """Fill where `distance` [B, H, W] is negative with `colour` ([B, 3] or a triple); `opacity` a number or [B]."""
        cover = (0.5 - distance * self.sharpness).clamp(0, 1)
        cover = cover * (_column(opacity) if torch.is_tensor(opacity) else opacity)
        colour = torch.as_tensor(colour, dtype=torch.float32).reshape(-1, 3, 1, 1)
        if shaded:
            colour = (colour * self.shading[:, None]).clamp(0, 1)
        self.image = torch.lerp(self.image, colour.expand_as(self.image), cover[:, None])

    def ellipse(self, cx, cy, rx, ry):
        x, y = (self.x - _column(cx)) / _column(rx), (self.y - _column(cy)) / _column(ry)
        return ((x.square() + y.square() + 1e-8).sqrt() - 1) * torch.minimum(_column(rx), _column(ry))

    def box(self, cx, cy, rx, ry, corner=0.0):
        x, y = (self.x - _column(cx)).abs() - _column(rx) + corner, (self.y - _column(cy)).abs() - _column(ry) + corner
        outside = (x.clamp(min=0).square() + y.clamp(min=0).square() + 1e-12).sqrt()
        return outside + torch.maximum(x, y).clamp(max=0) - corner

    def line(self, ax, ay, bx, by, radius):
        ax, ay, bx, by = map(_column, (ax, ay, bx, by))
        px, py, ux, uy = self.x - ax, self.y - ay, bx - ax, by - ay
        along = ((px * ux + py * uy) / (ux.square() + uy.square() + 1e-8)).clamp(0, 1)
        return ((px - along * ux).square() + (py - along * uy).square() + 1e-12).sqrt() - _column(radius)

    def triangle(self, *corners):
        """Return the distances to a convex polygon through (x, y) corners in clockwise order (y down);
        outside they are approximate."""
        distance = None
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            ax, ay, bx, by = map(_column, (ax, ay, bx, by))
            ux, uy = bx - ax, by - ay
            edge = (uy * (self.x - ax) - ux * (self.y - ay)) / (ux.square() + uy.square()).sqrt()
            distance = edge if distance is None else torch.maximum(distance, edge)
        return distance

    def curve(self, cx, cy, half_width, bend, radius):
        """Return the distances to a parabolic stroke: `bend` is how far its middle lies below its ends."""
        x = self.x - _column(cx)
        t = (x / _column(half_width)).clamp(-1.2, 1.2)
        height = _column(cy) + _column(bend) * (1 - t.square())
        return torch.maximum((self.y - height).abs() - _column(radius), x.abs() - _column(half_width))


def _column(value):
    return value[:, None, None] if torch.is_tensor(value) and value.ndim == 1 else torch.as_tensor(value)


def _is(names: tuple[str, ...], values: torch.Tensor, *wanted: str) -> torch.Tensor:
    return sum((values == names.index(name)).float() for name in wanted)


DARK, WHITE = (0.08, 0.07, 0.08), (0.97, 0.97, 0.96)


def _body(c: _Canvas, colour, neck_width=0.17, boxy=False):
    f = c.factors
    if boxy:
        c.paint(c.box(0, 0.78, 0.11, 0.25), colour * 0.6)
        c.paint(c.box(0, 1.35, 0.62, 0.52, 0.1), colour * 0.9)
        c.paint(c.box(0, 1.18, 0.24, 0.14, 0.03), f.clothes)
    else:
        c.paint(c.box(0, 0.72, neck_width, 0.3), colour * 0.82)
        c.paint(c.ellipse(0, 1.42, 0.74, 0.58), f.clothes)
        c.paint(c.curve(0, 0.80, 0.22, 0.16, 0.03), f.clothes * 0.7)
    _collar(c)


def _collar(c: _Canvas):
    f = c.factors
    pointed, ruff = _is(COLLARS, f.collar, "pointed"), _is(COLLARS, f.collar, "ruff")
    pale = f.clothes * 0.4 + 0.58
    c.paint(c.triangle((-0.02, 0.80), (-0.24, 1.18), (-0.36, 0.70)), pale, pointed)
    c.paint(c.triangle((0.02, 0.80), (0.36, 0.70), (0.24, 1.18)), pale, pointed)
    for x, y in ((-0.40, 0.84), (-0.27, 0.93), (-0.09, 0.97), (0.09, 0.97), (0.27, 0.93), (0.40, 0.84)):
        c.paint(c.ellipse(x, y, 0.12, 0.12), pale * 0.8, ruff)
        c.paint(c.ellipse(x, y, 0.085, 0.085), pale, ruff)


def _scarf(c: _Canvas):
    wear = _is(ACCESSORIES, c.factors.accessory, "scarf")
    c.paint(c.box(0, 0.74, 0.36, 0.11, 0.1), (0.86, 0.16, 0.24), wear)
    c.paint(c.box(0.2, 0.98, 0.09, 0.22, 0.03), (0.74, 0.11, 0.20), wear)


def _glasses(c: _Canvas, y, spread, radius=0.16):
    wear = _is(ACCESSORIES, c.factors.accessory, "glasses")
    for side in (-1, 1):
        ring = c.ellipse(c.turn.flatten() + side * spread, y, radius, radius * 0.92).abs() - 0.022
        c.paint(ring, DARK, wear, shaded=False)
    c.paint(
        c.line(c.turn.flatten() - spread + radius, y, c.turn.flatten() + spread - radius, y, 0.02),
        DARK,
        wear,
        shaded=False,
    )


def _hat(c: _Canvas, y, width):
    wear = _is(ACCESSORIES, c.factors.accessory, "hat")
    top, pointed, crown = (wear * _is(HAT_SHAPES, c.factors.hat_shape, shape) for shape in HAT_SHAPES)
    dark, gold, brim = (0.20, 0.17, 0.30), (0.85, 0.70, 0.25), wear * (1 - crown)
    c.paint(c.box(0, y - 0.22, width * 0.66, 0.24, 0.06), dark, top)
    c.paint(c.triangle((0.0, y - 0.62), (width * 0.72, y + 0.02), (-width * 0.72, y + 0.02)), dark, pointed)
    c.paint(c.box(0, y - 0.06, width * 0.67, 0.05, 0.01), gold, brim)
    c.paint(c.box(0, y + 0.02, width, 0.045, 0.04), (0.16, 0.13, 0.25), brim)
    c.paint(c.box(0, y - 0.02, width * 0.72, 0.09, 0.01), gold, crown)
    for x, height in ((-0.54, 0.30), (0.0, 0.38), (0.54, 0.30)):
        left, right = width * (x - 0.20), width * (x + 0.20)
        c.paint(c.triangle((width * x * 1.15, y - height), (right, y - 0.06), (left, y - 0.06)), gold, crown)
        c.paint(c.ellipse(width * x, y - 0.03, 0.045, 0.045), (0.75, 0.14, 0.22), crown)


def _eye(c: _Canvas, x, y, rx, ry, iris=0.6, pupil=0.5, slit=False, white=WHITE):
    f = c.factors
    rx, ry = rx * f.eye_size, ry * f.eye_size
    c.paint(c.ellipse(x, y, rx * 1.16, ry * 1.2), DARK, shaded=False)
    c.paint(c.ellipse(x, y, rx, ry), white, shaded=False)
    radius = torch.minimum(rx, ry) * iris * 1.5
    gaze = x + 0.03 * f.yaw
    inside = c.ellipse(x, y, rx, ry)
    c.paint(torch.maximum(c.ellipse(gaze, y, radius, radius), inside), f.eye_colour, shaded=False)
    narrow = 0.35 if slit else 1.0
    c.paint(
        torch.maximum(c.ellipse(gaze, y, radius * pupil * narrow, radius * pupil * (1.5 if slit else 1)), inside),
        DARK,
        shaded=False,
    )
    c.paint(c.ellipse(gaze - 0.03, y - 0.035, 0.022, 0.022), WHITE, shaded=False)


def _mouth(c: _Canvas, y, width, colour, lip=0.028):
    f = c.factors
    x = c.turn.flatten()
    bend = 0.10 * f.smile
    opening = 0.02 + 0.085 * f.mouth_open
    c.paint(c.ellipse(x, y + bend * 0.5, width * 0.78, opening), (0.30, 0.05, 0.08), (f.mouth_open > 0.3).float())
    c.paint(c.curve(x, y, width, bend, lip), colour)


def _hair_back(c: _Canvas):
    f = c.factors
    c.paint(c.ellipse(0, 0.10, 0.58, 0.80), f.hair_colour * 0.75, _is(HAIR_STYLES, f.hair, "long"))
    curly = _is(HAIR_STYLES, f.hair, "curly")
    for cx, cy in ((-0.45, -0.2), (0.45, -0.2), (-0.42, 0.08), (0.42, 0.08)):
        c.paint(c.ellipse(cx, cy, 0.2, 0.2), f.hair_colour * 0.8, curly)


def _hair_front(c: _Canvas, width=0.46, height=0.6):
    f = c.factors
    x = 0.6 * c.turn.flatten()
    cap = c.ellipse(0, -0.02, width * 1.07, height * 1.08)
    fringe = -c.ellipse(x, 0.16, width * 0.95, height * 0.86)
    haired = 1 - _is(HAIR_STYLES, f.hair, "bald")
    c.paint(torch.maximum(torch.maximum(cap, fringe), c.y - 0.12), f.hair_colour, haired)
    curly = _is(HAIR_STYLES, f.hair, "curly")
    for cx, cy in ((-0.34, -0.42), (-0.12, -0.56), (0.12, -0.56), (0.34, -0.42)):
        c.paint(c.ellipse(cx, cy, 0.17, 0.15), f.hair_colour, curly)
        c.paint(c.curve(cx, cy - 0.03, 0.09, -0.05, 0.016), f.hair_colour * 0.7, curly)
    shown = haired * (1 - _is(ACCESSORIES, f.accessory, "hat"))
    spiky, buns = shown * _is(HAIR_SHAPES, f.hair_shape, "spiky"), shown * _is(HAIR_SHAPES, f.hair_shape, "buns")
    for lean in (-0.9, -0.45, 0.0, 0.45, 0.9):
        foot_x, foot_y = 0.9 * width * math.sin(lean), -0.02 - 0.9 * height * math.cos(lean)
        tip = (1.55 * width * math.sin(lean), -0.02 - 1.42 * height * math.cos(lean))
        across_x, across_y = 0.11 * math.cos(lean), 0.11 * math.sin(lean)
        feet = (foot_x + across_x, foot_y + across_y), (foot_x - across_x, foot_y - across_y)
        c.paint(c.triangle(tip, *feet), f.hair_colour * 0.9, spiky)
    for side in (-1, 1):
        c.paint(c.ellipse(side * 0.36, -0.62, 0.17, 0.17), f.hair_colour * 0.9, buns)


def _person(c: _Canvas):
    f = c.factors
    skin, x = f.surface, c.turn.flatten()
    _hair_back(c)
    _body(c, skin)
    for side in (-1, 1):
        c.paint(c.ellipse(side * 0.46 - 0.4 * x, 0.06, 0.10 * f.ear_size, 0.15 * f.ear_size), skin * 0.88)
    c.paint(c.ellipse(0, 0, 0.45, 0.6), skin)
    _hair_front(c)
    for side in (-1, 1):
        _eye(c, x + side * 0.19, 0.0, 0.10, 0.07)
        c.paint(c.curve(x + side * 0.19, -0.15, 0.11, -0.03, 0.024), f.hair_colour * 0.8)
    c.paint(c.line(x, 0.03, x + 0.05 * f.yaw, 0.18, 0.022), skin * 0.76)
    c.paint(c.ellipse(x + 0.05 * f.yaw, 0.19, 0.055, 0.034), skin * 0.76)
    _mouth(c, 0.34, 0.17, (0.70, 0.24, 0.26))
    _glasses(c, 0.0, 0.19)
    _hat(c, -0.36, 0.60)
    _scarf(c)


def _cat(c: _Canvas):
    f = c.factors
    fur, x = f.surface, c.turn.flatten()
    _body(c, fur, 0.3)
    for side in (-1, 1):
        tip = (side * 0.46, -0.42 - 0.32 * f.ear_size)
        inner = (side * 0.42, -0.36 - 0.24 * f.ear_size)
        outer, near = (side * 0.54, -0.08), (side * 0.12, -0.38)
        outer2, near2 = (side * 0.44, -0.2), (side * 0.22, -0.36)
        order = (tip, outer, near) if side > 0 else (tip, near, outer)
        order2 = (inner, outer2, near2) if side > 0 else (inner, near2, outer2)
        c.paint(c.triangle(*order), fur * 0.9)
        c.paint(c.triangle(*order2), (0.93, 0.62, 0.62))
    c.paint(c.ellipse(0, 0.04, 0.58, 0.5), fur)
    for offset in (-0.14, 0.0, 0.14):
        c.paint(c.line(x + offset, -0.4, x + offset * 0.7, -0.22, 0.028), fur * 0.6)
    for side in (-1, 1):
        c.paint(c.ellipse(x + side * 0.11, 0.28, 0.15, 0.12), fur * 0.45 + 0.55)
        _eye(c, x + side * 0.24, -0.02, 0.12, 0.11, iris=0.64, pupil=0.8, slit=True, white=(0.86, 0.90, 0.62))
    c.paint(c.triangle((x - 0.07, 0.15), (x + 0.07, 0.15), (x, 0.23)), (0.90, 0.45, 0.50))
    _mouth(c, 0.34, 0.13, (0.30, 0.14, 0.16), 0.02)
    for side in (-1, 1):
        for rise in (-0.07, 0.0, 0.07):
            c.paint(c.line(x + side * 0.2, 0.27 + rise * 0.4, x + side * 0.66, 0.24 + rise, 0.011), WHITE, shaded=False)
    _glasses(c, -0.02, 0.24, 0.18)
    _hat(c, -0.36, 0.60)
    _scarf(c)


def _fox(c: _Canvas):
    f = c.factors
    fur, x = f.surface, c.turn.flatten()
    pale = fur * 0.15 + 0.83
    _body(c, fur, 0.26)
    c.paint(c.ellipse(0, 1.15, 0.3, 0.36), pale)
    for side in (-1, 1):
        height = -0.46 - 0.42 * f.ear_size
        tip, outer, near = (side * 0.40, height), (side * 0.52, -0.12), (side * 0.08, -0.32)
        middle = 0.62 * height - 0.38 * 0.2
        high = (tip, (side * 0.46, middle), (side * 0.26, middle))
        inner = ((side * 0.38, height * 0.8), (side * 0.43, -0.24), (side * 0.2, -0.34))
        order = (tip, outer, near) if side > 0 else (tip, near, outer)
        c.paint(c.triangle(*order), fur * 0.92)
        c.paint(c.triangle(*(inner if side > 0 else (inner[0], inner[2], inner[1]))), pale * 0.8)
        c.paint(c.triangle(*(high if side > 0 else (high[0], high[2], high[1]))), (0.16, 0.11, 0.11))
    head = torch.maximum(
        c.ellipse(0, -0.04, 0.58, 0.56),
        c.triangle((-0.62, -0.7), (0.62, -0.7), (0.62, -0.02), (x + 0.1, 0.66), (x - 0.1, 0.66), (-0.62, -0.02)),
    )
    c.paint(head, fur)
    for side in (-1, 1):
        cheek = torch.maximum(head + 0.02, c.ellipse(x + side * 0.34, 0.36, 0.32, 0.34))
        c.paint(cheek, pale)
    c.paint(c.line(x, 0.0, x + 0.04 * f.yaw, 0.42, 0.09), fur)
    for side in (-1, 1):
        _eye(c, x + side * 0.23, -0.02, 0.095, 0.07, iris=0.7, pupil=0.7, slit=True, white=(0.95, 0.85, 0.60))
        c.paint(c.line(x + side * 0.12, 0.04, x + side * 0.34, -0.12, 0.02), (0.16, 0.10, 0.10))
    c.paint(c.ellipse(x + 0.04 * f.yaw, 0.47, 0.085, 0.065), DARK)
    _mouth(c, 0.60, 0.10, (0.22, 0.10, 0.10), 0.02)
    _glasses(c, -0.02, 0.23)
    _hat(c, -0.34, 0.58)
    _scarf(c)


def _robot(c: _Canvas):
    f = c.factors
    metal, x = f.surface, c.turn.flatten()
    _body(c, metal, boxy=True)
    c.paint(c.line(0, -0.5, 0, -0.62 - 0.16 * f.ear_size, 0.028), metal * 0.55)
    c.paint(c.ellipse(0, -0.66 - 0.16 * f.ear_size, 0.075, 0.075), f.clothes * 0.4 + torch.tensor([0.6, 0.1, 0.1]))
    for side in (-1, 1):
        c.paint(c.box(side * 0.55, 0.02, 0.09, 0.17 * f.ear_size, 0.03), metal * 0.6)
    c.paint(c.box(0, 0.02, 0.51, 0.54, 0.08), metal * 0.7)
    c.paint(c.box(0, 0.02, 0.48, 0.51, 0.07), metal)
    c.paint(c.box(x, 0.0, 0.40, 0.17, 0.05), metal * 0.28)
    for side in (-1, 1):
        half = 0.095 * f.eye_size
        c.paint(c.box(x + side * 0.2, 0.0, half, half, 0.02), f.eye_colour * 0.5 + 0.48, shaded=False)
        c.paint(c.box(x + side * 0.2 + 0.03 * f.yaw, 0.0, half * 0.45, half * 0.45, 0.01), WHITE, shaded=False)
    lips = 0.05 + 0.06 * f.mouth_open
    c.paint(c.box(x, 0.36, 0.27, lips, 0.03), DARK)
    for offset in (-0.18, -0.06, 0.06, 0.18):
        c.paint(c.box(x + offset, 0.36 + 0.05 * f.smile * (abs(offset) * -8 + 1), 0.022, lips * 0.8), metal * 0.9 + 0.1)
    for sx in (-0.41, 0.41):
        for sy in (-0.42, 0.46):
            c.paint(c.ellipse(sx, sy, 0.04, 0.04), metal * 0.5)
    _glasses(c, 0.0, 0.2)
    _hat(c, -0.42, 0.62)
    _scarf(c)


def _zombie(c: _Canvas):
    f = c.factors
    skin, x = f.surface, c.turn.flatten()
    _hair_back(c)
    _body(c, skin, 0.14)
    for side in (-1, 1):
        c.paint(c.ellipse(side * 0.44 - 0.4 * x, 0.06, 0.09 * f.ear_size, 0.14 * f.ear_size), skin * 0.8)
    c.paint(c.ellipse(0, -0.08, 0.46, 0.5), skin)
    c.paint(c.ellipse(0, 0.26, 0.34, 0.36), skin * 0.94)
    _hair_front(c, 0.45, 0.56)
    for side, scale in ((-1, 1.25), (1, 0.85)):
        c.paint(c.ellipse(x + side * 0.19, 0.0, 0.17, 0.14), skin * 0.42)
        _eye(c, x + side * 0.19, 0.0, 0.10 * scale, 0.09 * scale, iris=0.34, pupil=0.6, white=(0.95, 0.93, 0.70))
    c.paint(c.triangle((x - 0.05, 0.22), (x, 0.1), (x + 0.05, 0.22)), skin * 0.35)
    c.paint(c.box(x, 0.40 + 0.02 * f.smile, 0.19, 0.05 + 0.045 * f.mouth_open, 0.03), (0.22, 0.04, 0.06))
    for offset in (-0.13, -0.04, 0.07, 0.14):
        c.paint(c.box(x + offset, 0.375 + 0.02 * f.smile, 0.026, 0.03), (0.90, 0.88, 0.62))
    c.paint(c.line(x + 0.1, -0.42, x + 0.32, -0.2, 0.02), (0.46, 0.10, 0.12))
    for step in (0.0, 0.5, 1.0):
        px, py = 0.12 + 0.18 * step, -0.40 + 0.18 * step
        c.paint(c.line(x + px + 0.05, py - 0.05, x + px - 0.05, py + 0.05, 0.014), (0.18, 0.08, 0.08))
    _glasses(c, 0.0, 0.19)
    _hat(c, -0.36, 0.60)
    _scarf(c)


def _doll(c: _Canvas):
    f = c.factors
    skin, x = f.surface, c.turn.flatten()
    haired = 1 - _is(HAIR_STYLES, f.hair, "bald")
    for side in (-1, 1):
        c.paint(c.ellipse(side * 0.64, 0.02 + 0.1 * f.ear_size, 0.19, 0.24 * f.ear_size), f.hair_colour * 0.85, haired)
        c.paint(c.ellipse(side * 0.52, -0.16, 0.085, 0.085), (0.90, 0.20, 0.42), haired)
    c.paint(c.ellipse(0, 0.12, 0.57, 0.72), f.hair_colour * 0.75, _is(HAIR_STYLES, f.hair, "long"))
    _body(c, skin, 0.12)
    c.paint(c.ellipse(0, 0.02, 0.50, 0.54), skin)
    _hair_front(c, 0.50, 0.56)
    for side in (-1, 1):
        c.paint(c.ellipse(x + side * 0.31, 0.24, 0.10, 0.08), (0.97, 0.42, 0.46), 0.8)
        _eye(c, x + side * 0.21, 0.04, 0.13, 0.15, iris=0.62, pupil=0.55)
        for lash in (-0.08, 0.0, 0.08):
            c.paint(c.line(x + side * 0.21 + lash, -0.12, x + side * 0.21 + lash * 1.6, -0.20, 0.013), DARK)
    c.paint(c.ellipse(x, 0.23, 0.025, 0.02), skin * 0.75)
    _mouth(c, 0.36, 0.09, (0.86, 0.12, 0.26), 0.04)
    _glasses(c, 0.04, 0.21, 0.19)
    _hat(c, -0.34, 0.60)
    _scarf(c)


_DRAW = {"person": _person, "cat": _cat, "fox": _fox, "robot": _robot, "zombie": _zombie, "doll": _doll}
