"""Digests of weights."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn


def tensors_digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """Compute a digest of tensors and their names: whether two sets of them are the same."""
    digest = hashlib.sha256()
    for name, value in named:
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_digest(module: nn.Module) -> str:
    """Compute a digest of a module's weights and buffers."""
    return tensors_digest(module.state_dict().items())


def file_digest(path: Path) -> str:
    """Compute a digest of what a file holds. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
