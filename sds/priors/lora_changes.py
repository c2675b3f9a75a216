"""What a LoRA file changes a weight by, in each of the forms that circulate: each a pure function of its tensors.

Sources: LoRA (arXiv 2106.09685), LoCon and LoHa (LyCORIS, arXiv 2309.14859; FedPara, 2108.06098), LoKr (2212.10650),
DoRA (2402.09353).
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
"""The tensors of one layer by their role."""

Change = tuple[Tensor, int | None]
"""A change of a weight, in some shape of as many numbers, and its rank; None: it is not divided by one."""


def _low_rank(parts: Parts) -> Change:
    up, down = parts["up"].flatten(1), parts["down"]
    if (core := parts.get("mid")) is not None:
        return torch.einsum("s r ..., o s, r i -> o i ...", core, up, down.flatten(1)), len(down)
    return up @ down.flatten(1), len(down)


def _hadamard(parts: Parts) -> Change:
    factors = []
    for number in ("1", "2"):
        left, right, core = parts[f"w{number}_a"], parts[f"w{number}_b"], parts.get(f"t{number}")
        factors.append(left @ right if core is None else _around_core(core, left, right))
    return factors[0] * factors[1], len(parts["w1_b"])


def _kronecker(parts: Parts) -> Change:
    rank, factors = None, []
    for number in ("1", "2"):
        whole = parts.get(f"w{number}")
        if whole is None:
            left, right, core = parts[f"w{number}_a"], parts[f"w{number}_b"], parts.get(f"t{number}")
            whole, rank = left @ right if core is None else _around_core(core, left, right), len(right)
        factors.append(whole)
    first, second = factors
    return torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - first.ndim)), second), rank


def _around_core(core: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return torch.einsum("r s ..., s i, r o -> o i ...", core, right, left)


def _whole(parts: Parts) -> Change:
    return parts["diff"], None


FORMS: dict[frozenset[str], Callable[[Parts], Change]] = {
    frozenset({"up", "down"}): _low_rank,
    frozenset({"w1_a", "w1_b", "w2_a", "w2_b"}): _hadamard,
    frozenset({"diff"}): _whole,
}
"""The forms by the roles that make one; LoKr, which has several sets of them, is told by its marks."""


def form_of(parts: Parts, kronecker: bool) -> Callable[[Parts], Change] | None:
    """Return the form of a layer's tensors; None: it is none that is known."""
    if kronecker:
        whole = all(f"w{n}" in parts or {f"w{n}_a", f"w{n}_b"} <= parts.keys() for n in (1, 2))
        return _kronecker if whole else None
    return next((form for roles, form in FORMS.items() if roles <= parts.keys()), None)


def changed(
    weight: Tensor, parts: Parts, form: Callable[[Parts], Change], alpha: float | None, strength: float
) -> Tensor:
    """Return the weight with its change, times strength. Raises RuntimeError or ValueError where the sizes do not go
    together."""
    delta, rank = form(parts)
    delta = delta.reshape(weight.shape) * (alpha / rank if alpha is not None and rank else 1.0)
    magnitude = parts.get("magnitude")
    if magnitude is None:
        return weight + strength * delta
    return weight + strength * (_with_magnitude(weight, delta, magnitude) - weight)


def _with_magnitude(weight: Tensor, delta: Tensor, magnitude: Tensor) -> Tensor:
    """DoRA: the direction of the changed weight, with a magnitude of its own for each output or input.

    Of an output's magnitude the norm is the unchanged weight's and of an input's the changed one's: so does ComfyUI."""
    moved, outputs = weight + delta, len(weight)
    if magnitude.numel() == outputs and (magnitude.ndim < 2 or len(magnitude) == outputs):
        norm, shape = weight.flatten(1).norm(dim=1), [outputs, *[1] * (weight.ndim - 1)]
    else:
        norm, shape = moved.transpose(0, 1).flatten(1).norm(dim=1), [1, -1, *[1] * (weight.ndim - 2)]
    norm = norm + torch.finfo(weight.dtype).eps
    return moved * (magnitude.reshape(shape) / norm.reshape(shape))


def rank_stabilized(alpha: float, rank: int) -> float:
    """Return the alpha that gives, over the rank, rsLoRA's alpha / sqrt(rank) (arXiv 2312.03732)."""
    return alpha * math.sqrt(rank)
