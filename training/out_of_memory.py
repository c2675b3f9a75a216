"""What to do when memory runs out, and how to tell that it did: every device has its own way of saying so."""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .endings import NoMemoryLeft, PeerOutOfMemory

T = TypeVar("T")

logger = logging.getLogger(__name__)

_ONEDNN = "could not create a primitive"  # convolutions on the CPU
_SAYINGS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "failed to allocate",
    "unable to allocate",
    "bad_alloc",
    "alloc_failed",  # cuBLAS and cuDNN
    "out_of_device_memory",  # oneAPI
    "out_of_host_memory",
    _ONEDNN,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    if "primitive descriptor" in text:  # what oneDNN does not know
        return False
    return isinstance(error, RuntimeError) and any(saying in text for saying in _SAYINGS)


def handle_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out; the process can go on then."""
    return switch_off_onednn(error) or is_out_of_memory(error)


def switch_off_onednn(error: BaseException) -> bool:
    """Switch oneDNN off if an error says that it ran out of memory: once more, the same work may fit. False when it was
    off already.

    oneDNN makes no convolution in a thread any more where it could not make one once, however much memory there is
    later, and whoever used it then (seen with torch 2.11 and 2.13): PyTorch's own ones, which are slower, take their
    place."""
    if not (_ONEDNN in str(error) and is_out_of_memory(error) and torch.backends.mkldnn.enabled):
        return False
    torch.backends.mkldnn.enabled = False
    logger.warning("Memory ran out in oneDNN: convolutions on the CPU are slower until the program is restarted.")
    return True


def no_memory_message(reason: str, advice: str, when: str = "") -> str:
    """Return what to say when memory ran out at last, with the first line of the error's reason."""
    said = next((line for line in reason.splitlines() if line.strip()), "no more could be had")
    return f"Out of memory{when} ({said}). {advice}"


def split_rows(count: int, micro_batch: int | None) -> list[slice]:
    """Split the rows of a batch into slices of at most `micro_batch`; None: into one."""
    size = micro_batch or count
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


@dataclass
class MemoryPolicy:
    """A MemoryPolicy says how a step is cut to fit into memory, and cuts it smaller when memory runs out.

    What it has found to fit is kept with the training, so that memory need not run out again."""

    micro_batch: int = 1  # samples that are computed together
    recompute: bool = True  # whether activations are computed again instead of kept
    advice: str = "Close other programs that use the device."  # what people can do when nothing is left
    release: Callable[[], None] = lambda: None  # gives back what is cached and unused
    may_recompute: bool = True  # whether what was found may also switch `recompute` on in a later run

    def attempt(self, body: Callable[[], T], step: int) -> T:
        """Call body(), again with less where memory runs out in it; `step` counts from 0, for messages. Raises
        NoMemoryLeft when it takes least already."""
        while True:
            try:
                return body()
            except Exception as error:
                again = switch_off_onednn(error)
                if not again and not is_out_of_memory(error):
                    raise
                reason, elsewhere = str(error), isinstance(error, PeerOutOfMemory)
            # Outside of the handler, whose error holds on to every tensor of the attempt.
            gc.collect()  # what the error's frames held in cycles
            self.release()
            if not again and not (elsewhere and self._is_least):
                self._use_less(reason, step)

    @property
    def _is_least(self) -> bool:
        return self.micro_batch == 1 and self.recompute

    def _use_less(self, reason: str, step: int) -> None:
        if self.micro_batch > 1:
            self.micro_batch = (self.micro_batch + 1) // 2
            logger.warning("Out of memory in step %d: going on with %d samples at a time.", step + 1, self.micro_batch)
        elif not self.recompute:
            self.recompute = True
            logger.warning("Out of memory in step %d: going on without keeping activations.", step + 1)
        else:
            raise NoMemoryLeft(no_memory_message(reason, self.advice, " with one image at a time"))

    def pack(self) -> tuple[dict[str, Tensor], dict]:
        """Return what a saved training keeps of the policy."""
        return {}, {"micro_batch": self.micro_batch, "recompute": self.recompute}

    def unpack(self, tensors: dict[str, Tensor], notes: dict) -> Callable[[], None]:
        """Return a function that takes over what was kept. Raises ValueError, LookupError or TypeError for nonsense."""
        micro_batch, recompute = max(1, int(notes["micro_batch"])), bool(notes["recompute"])

        def take_over() -> None:
            self.micro_batch = min(self.micro_batch, micro_batch)
            self.recompute = self.recompute or (recompute and self.may_recompute)

        return take_over
