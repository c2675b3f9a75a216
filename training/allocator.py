"""Memory that is freed and taken again, on the CPU: glibc gives large blocks back to the system at once, which then clears
every page of the next one. Of a large generator's step that is two fifths of the time."""

import contextlib
import ctypes
import os
import platform
import threading
from collections.abc import Iterator

import torch

AMPLE = 8_000_000_000
"""Bytes that must be free: what is kept lies in pieces that do not always fit, and takes a third more at its peak."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt, in malloc.h
_USUAL = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}
_LARGEST = 2**31 - 1

_lock = threading.Lock()
_users = 0


@contextlib.contextmanager
def keeping_freed_memory(device: torch.device) -> Iterator[None]:
    """Let the process keep memory that is freed in the body, for what is computed next, and give it back at the end: on
    the CPU of a system with glibc, where there is plenty."""
    libc = _glibc() if device.type == "cpu" and free_bytes(device) >= AMPLE else None
    if libc is None:
        yield
        return
    _entered(libc)
    try:
        yield
    finally:
        _left(libc)


def _entered(libc: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            libc.mallopt(_MMAP_MAX, 0)  # no block is a mapping of its own
            libc.mallopt(_TRIM_THRESHOLD, _LARGEST)  # what is free at the end of the heap stays


def _left(libc: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            for option, value in _USUAL.items():
                libc.mallopt(option, value)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    chosen = any(name.startswith(("MALLOC_MMAP_", "MALLOC_TRIM_")) for name in os.environ)
    if chosen or platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def free_bytes(device: torch.device) -> int:
    """Return the bytes of memory that a device has to spare; 0 where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return 0
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo") as file:
        return next((1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable")), 0)
    return 0
