"""Digests of weights."""

import hashlib

import torch
from torch import nn


def weights_digest(module: nn.Module) -> str:
    """Return a digest of a module's weights and buffers: whether two are the same."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
