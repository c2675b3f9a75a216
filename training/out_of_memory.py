"""Telling that memory ran out: every device has its own way of saying so."""

import logging

import torch

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


class NoMemoryLeft(Exception):
    """A step does not fit into memory, even in the smallest pieces; the message says what to change."""


def no_memory_message(reason: str, when: str = "") -> str:
    """What to say when memory ran out at last, with the first line of the error's reason."""
    said = next((line for line in reason.splitlines() if line.strip()), "no more could be had")
    return (
        f"Out of memory{when} ({said}). Choose a smaller image size for the diffusion model, leave out the directional "
        "regularizer, or close other programs that use the device."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    if "primitive descriptor" in text:  # what oneDNN does not know
        return False
    return isinstance(error, RuntimeError) and any(saying in text for saying in _SAYINGS)


def handle_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; the process can go on then."""
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
