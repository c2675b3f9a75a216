"""Networks on a device for a while. Knows nothing of ComfyUI."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def on_device(device: torch.device | str, module: torch.nn.Module) -> Iterator[None]:
    """Put a generator or another network on a device, and back where it was at the end."""
    before = next(module.parameters()).device
    try:  # moving may end halfway, when memory runs out
        _move(module, device)
        yield
    finally:
        _move(module, before)


def _move(module: torch.nn.Module, device: torch.device | str) -> None:
    with torch.inference_mode(False):  # or its parameters could never be trained again
        module.to(device)
