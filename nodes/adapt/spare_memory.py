"""Giving memory back to the system."""

import contextlib
import ctypes
import gc
import sys
import time

PAUSE = 10.0
"""Seconds in which nothing is looked for again: what is unreachable is found among all that the host holds, which takes
half a second, as long as a short training. The host waits as long between its own searches."""

_given_back = float("-inf")


def give_back(at_once: bool = False) -> None:
    """Free what is unreachable, and let the C library return what it keeps of freed memory for itself: after a large
    training that is a quarter of a process's size. Only glibc keeps so much, and only it is asked. Soon after the last
    time nothing is done, unless it is to be `at_once`."""
    global _given_back
    if not at_once and time.monotonic() - _given_back < PAUSE:
        return
    gc.collect()
    _given_back = time.monotonic()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
