"""Telling that memory ran out: every device has its own way of saying so."""

import torch

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
    "could not create a primitive",  # oneDNN, on the CPU
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
