"""Walks through latent space: frames between keyframes."""

import torch
from torch import Tensor

from .codes import sample_codes
from .networks import Generator

PATHS = ("straight", "curve", "sphere")
"""Straight lines, one smooth curve, or arcs on the sphere around the origin (for z, which is spread over one)."""


def walk(keys: Tensor, frames_per_key: int, path: str = "straight", closed: bool = False, ease: bool = False) -> Tensor:
    """Return frames [F, ..] along keyframes [K, ..], `frames_per_key` from one key to the next.

    An open walk ends with the last key, F = (K - 1) frames_per_key + 1; a closed one goes back to the first, whose
    repetition it leaves out, F = K frames_per_key. With `ease` it slows down at every key, by 3 t^2 - 2 t^3.
    Raises ValueError for fewer than two keys or one frame, or for an unknown path."""
    if len(keys) < 2:
        raise ValueError("A walk needs two keyframes at least; give more seeds or latents.")
    if frames_per_key < 1:
        raise ValueError(f"There are {frames_per_key} frames from key to key; at least 1 is needed.")
    if path not in PATHS:
        raise ValueError(f"There is no path {path!r}; choose from {', '.join(PATHS)}.")
    count, legs = len(keys), len(keys) if closed else len(keys) - 1
    steps = torch.arange(legs * frames_per_key + (0 if closed else 1))
    legs_done = torch.div(steps, frames_per_key, rounding_mode="floor").clamp(max=legs - 1)
    t = ((steps - legs_done * frames_per_key) / frames_per_key).to(keys)
    t = t * t * (3 - 2 * t) if ease else t
    t = t.view(-1, *[1] * (keys.ndim - 1))

    def key(offset: int) -> Tensor:
        index = legs_done + offset
        return keys[index % count if closed else index.clamp(0, count - 1)]

    if path == "curve":
        return _catmull_rom(key(-1), key(0), key(1), key(2), t)
    return torch.lerp(key(0), key(1), t) if path == "straight" else slerp(key(0), key(1), t)


def walk_codes(
    generator: Generator,
    frames_per_key: int,
    path: str = "straight",
    closed: bool = False,
    ease: bool = False,
    *,
    z: Tensor | None = None,
    ws: Tensor | None = None,
    truncation_psi: float = 1.0,
    class_index: int | None = None,
) -> Tensor:
    """Return the codes [F, num_ws, w_dim] of the frames of a `walk` between latents z [K, z_dim], or between codes ws
    [K, num_ws, w_dim]. The path "sphere" goes through Z, the others through W+. Raises ValueError where the path is not
    to be had, or the walk makes no sense."""
    if path != "sphere":
        keys = sample_codes(generator, z, truncation_psi, None, class_index) if ws is None else ws
        return walk(keys, frames_per_key, path, closed, ease)
    if ws is not None:
        raise ValueError("The path sphere goes through Z, which given latents do not have; choose curve or straight.")
    if generator.c_dim and class_index is None:
        raise ValueError("The path sphere stays in one class: give its class_index, or choose curve or straight.")
    return sample_codes(generator, walk(z, frames_per_key, path, closed, ease), truncation_psi, None, class_index)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Interpolate spherically (Shoemake 1985) over the last axis, for t from 0 to 1: sin((1 - t) o) / sin o a +
    sin(t o) / sin o b, with o the angle between a and b; straight where they are parallel or opposite."""
    cosine = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=-1, eps=1e-12).unsqueeze(-1)
    angle = cosine.clamp(-1, 1).acos()
    sine = angle.sin()
    parallel = sine < 1e-6
    sine = sine.masked_fill(parallel, 1)
    share_a = torch.where(parallel, 1 - t, ((1 - t) * angle).sin() / sine)
    share_b = torch.where(parallel, t, (t * angle).sin() / sine)
    return (share_a * a + share_b * b).to(a.dtype)


def _catmull_rom(before: Tensor, a: Tensor, b: Tensor, after: Tensor, t: Tensor) -> Tensor:
    """From a (t = 0) to b (t = 1), smooth at both: the cubic with slopes (b - before) / 2 and (after - a) / 2."""
    slope_a, slope_b = (b - before) / 2, (after - a) / 2
    cubic, square = 2 * (a - b) + slope_a + slope_b, 3 * (b - a) - 2 * slope_a - slope_b
    return ((cubic * t + square) * t + slope_a) * t + a
