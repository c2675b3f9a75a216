"""The shape that an EG3D generator draws: where its density is high, as a mesh (extra `headless`: scikit-image)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .networks import Generator
from .synthesis import NO_CAMERA, Draw

LEVEL = 10.0
"""Raw density at the surface of EG3D's published generators; 2 to 20 are useful."""

BORDER = 30 / 256
"""Share of the box on each side that is left out: what is there is no part of the head."""

_EMPTY = -1000.0
_POINTS = 2**17  # that are looked up together
_MISSING = (
    "Extracting a shape needs scikit-image, which is not there; install this package with its extra \"headless\", or "
    "scikit-image alone."
)  # fmt: skip


@dataclass(frozen=True)
class Mesh:
    """A Mesh is a surface of triangles in the generator's world: y up, the face towards z."""

    vertices: Tensor  # [V, 3]
    faces: Tensor  # [F, 3] int64, counterclockwise as seen from outside
    normals: Tensor  # [V, 3], outwards
    colours: Tensor  # [V, 3] sRGB in [0, 1]


@torch.no_grad()
def density_grid(generator: Generator, ws: Tensor, size: int = 256) -> Tensor:
    """Return raw densities [size, size, size] at the points of an even grid over the generator's box, by x, y and z, of
    codes ws [1, num_ws, w_dim]; on the CPU. Raises ValueError for a flat generator or a size out of range."""
    planes = _planes(generator, ws)
    if not 16 <= size <= 1024:
        raise ValueError(f"A grid of {size} points a side is out of range; give 16 to 1024.")
    half = generator.config.box_warp / 2
    axis = torch.linspace(-half, half, size, device=planes.device)
    slabs = []
    for x in axis.split(max(1, _POINTS // size**2)):
        points = torch.stack(torch.meshgrid(x, axis, axis, indexing="ij"), -1)
        found = [generator.synthesis.at(planes, some)[1] for some in points.view(1, -1, 3).split(_POINTS, 1)]
        slabs.append(torch.cat(found, 1).view(-1, size, size).cpu())
    return torch.cat(slabs)


@torch.no_grad()
def extract_shape(
    generator: Generator, ws: Tensor, size: int = 256, level: float = LEVEL, smooth: float = 0.0, whole: bool = False
) -> Mesh:
    """Return the surface of raw density `level`, found by marching cubes on a grid of `size` points a side, blurred by a
    Gaussian of `smooth` steps, with the generator's colours. Unless it is to be `whole`, only the part that is nearest to
    what the usual camera looks at.

    Raises ValueError where there is no such surface, or as `density_grid`; ImportError without scikit-image."""
    try:
        from skimage import measure
    except ImportError:
        raise ImportError(_MISSING) from None
    if not 0 <= smooth <= 16:
        raise ValueError(f"A blur of {smooth:g} steps is out of range; give 0 to 16.")
    grid = blurred(density_grid(generator, ws, size), smooth)
    border = max(1, int(BORDER * size))
    inside = torch.full_like(grid, _EMPTY)
    inner = slice(border, size - border)
    inside[inner, inner, inner] = grid[inner, inner, inner]
    numbers = inside.numpy()
    if not numbers.max() > level > _EMPTY:
        raise ValueError(
            f"There is no surface of density {level:g}: the highest is {numbers.max():.3g}. Give a lower level, or another seed."
        )
    half, step = generator.config.box_warp / 2, generator.config.box_warp / (size - 1)
    if not whole:
        middle = (np.array(generator.config.camera_pivot) + half) / step
        parts = measure.label(numbers > level)
        numbers = np.where((parts > 0) & ~_nearest_part(parts, middle), _EMPTY, numbers)
    # Beside the empty border, densities are cut at as much below the level as they are above it at most: steep steps
    # would draw the surface towards the points of the grid.
    numbers = np.clip(numbers, 2 * level - float(numbers.max()), None)
    places, faces, normals, _ = measure.marching_cubes(numbers, level, gradient_direction="ascent")
    vertices = torch.from_numpy(places.copy()).float() * step - half
    return Mesh(
        vertices,
        torch.from_numpy(faces.astype(np.int64)),
        F.normalize(
            _outwards(torch.from_numpy(normals.copy()).float(), vertices, torch.from_numpy(faces.astype(np.int64))),
            dim=1,
        ),
        surface_colours(generator, ws, vertices),
    )


@torch.no_grad()
def surface_colours(generator: Generator, ws: Tensor, points: Tensor) -> Tensor:
    """Return the colours [V, 3] in [0, 1] that a generator has at points [V, 3] of its world; on the CPU."""
    planes = _planes(generator, ws)
    parts = [
        generator.synthesis.at(planes, some.to(planes.device)[None])[0][0, :, :3] for some in points.split(_POINTS)
    ]
    return torch.cat(parts).clamp(0, 1).cpu()


def blurred(grid: Tensor, sigma: float) -> Tensor:
    """Return a grid [N, N, N] blurred by a Gaussian of sigma steps, its border as far out as it goes."""
    if sigma == 0:
        return grid
    reach = int(3 * sigma + 1)
    weights = torch.exp(-(torch.arange(-reach, reach + 1) / sigma).square() / 2)
    weights = (weights / weights.sum()).view(1, 1, -1)
    for axis in range(3):
        rows = grid.movedim(axis, -1)
        flat = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), mode="replicate")
        grid = F.conv1d(flat, weights).view(rows.shape).movedim(-1, axis)
    return grid


def _planes(generator: Generator, ws: Tensor) -> Tensor:
    if not generator.config.takes_cameras:
        raise ValueError(NO_CAMERA)
    return generator.synthesis.planes(Draw(ws.to(next(generator.parameters()).device)))


def _nearest_part(labels: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Where the connected part is that has the point nearest to a place of the grid."""
    places = np.argwhere(labels)
    nearest = places[np.square(places - middle).sum(1).argmin()]
    return labels == labels[tuple(nearest)]


def _outwards(normals: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """Normals turned to the side from which their triangles are counterclockwise."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    of_faces = torch.linalg.cross(b - a, c - a)
    return normals * (normals[faces[:, 0]] * of_faces).sum().sign()
