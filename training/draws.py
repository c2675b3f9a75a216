"""Random numbers as a function of (seed, step, micro step, purpose): a training that goes on draws what it would have
drawn without the break, and nothing of a random generator needs saving."""

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

_PURPOSES = {"timestep": 0, "latents": 1, "noise": 2, "classes": 3}
"""The first purposes have small numbers; every other one has the checksum of its name."""


@dataclass(frozen=True)
class MicroStep:
    """A MicroStep is one of the batches that a step accumulates, or of the repeats of a phase within it."""

    seed: int  # of the training, from 0 to 2^64 - 1
    step: int  # counted from 0
    index: int = 0  # among the batches of the step
    repeat: int = 0  # among the updates of a phase in the step
    shared: dict[str, Any] = field(
        default_factory=dict, compare=False
    )  # what one phase leaves for the next ones in the step

    def rng(self, purpose: str) -> torch.Generator:
        """Make a generator on the CPU, whatever the device, so that every device draws the same numbers; each purpose
        has one of its own, so that more of one leaves the others as they are."""
        number = _PURPOSES.get(purpose, zlib.crc32(purpose.encode()) | 2**32)
        key = (self.step, number)
        if self.repeat:
            key += (self.index, self.repeat)
        elif self.index:
            key += (self.index,)
        mixed = np.random.SeedSequence(self.seed, spawn_key=key).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(mixed[0]))
