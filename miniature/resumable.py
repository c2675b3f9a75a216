"""One training that can be stopped at any moment and goes on where it was saved."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

log = logging.getLogger(__name__)


def seeded(*numbers: int) -> torch.Generator:
    """A CPU random generator that is a function of the numbers (a stage's seed and a step)."""
    generator = torch.Generator()
    value = 0
    for number in numbers:
        value = (value * 1_000_003 + number + 1) % (2**63)
    return generator.manual_seed(value)


def train(
    folder: Path,
    parts: dict[str, torch.nn.Module | torch.optim.Optimizer],
    step: Callable[[int], dict[str, float]],
    steps: int,
    save_every: float = 60.0,
    log_every: int = 50,
) -> None:
    """Call step(i) for i up to `steps`, saving the state of `parts` in folder/state.pt every `save_every` seconds.

    A state that is already there is loaded first. `step` returns the numbers to log, and takes its randomness from i."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "state.pt"
    start = 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        start = state.pop("step")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        log.info("%s: going on at step %d of %d", folder.name, start, steps)

    def save(done):
        torch.save(
            {"step": done, **{name: part.state_dict() for name, part in parts.items()}}, path.with_suffix(".tmp")
        )
        os.replace(path.with_suffix(".tmp"), path)

    saved = began = time.monotonic()
    sums: dict[str, float] = {}
    for i in range(start, steps):
        for name, value in step(i).items():
            sums[name] = sums.get(name, 0.0) + float(value) / log_every
        if (i + 1) % log_every == 0:
            pace = (time.monotonic() - began) / (i + 1 - start)
            log.info(
                "%s %d/%d (%.2f s a step) %s",
                folder.name,
                i + 1,
                steps,
                pace,
                {k: round(v, 4) for k, v in sums.items()},
            )
            sums.clear()
        if time.monotonic() - saved > save_every:
            save(i + 1)
            saved = time.monotonic()
    if start < steps:
        save(steps)


def exponential_average(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    """average = decay * average + (1 - decay) * model, in place, buffers copied."""
    with torch.no_grad():
        for a, b in zip(average.parameters(), model.parameters(), strict=True):
            a.lerp_(b, 1 - decay)
        for a, b in zip(average.buffers(), model.buffers(), strict=True):
            a.copy_(b)


def edge_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of horizontal and vertical differences of images, at full, half and quarter size."""
    loss = a.new_zeros(())
    for _ in range(3):
        loss = loss + F.l1_loss(a.diff(dim=-1), b.diff(dim=-1)) + F.l1_loss(a.diff(dim=-2), b.diff(dim=-2))
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return loss


def save_weights(module: torch.nn.Module, path: Path, config: dict | None = None) -> None:
    """Write the parameters and buffers in half precision as safetensors, `config` as JSON metadata."""
    import json

    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    save_file(state, path, {"config": json.dumps(config), "format": "pt"} if config else {"format": "pt"})
