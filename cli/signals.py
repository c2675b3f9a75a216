"""What asks a command to end: Ctrl-C, SIGTERM, a closed terminal. It ends between two steps, and what was made is kept."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended; of other signals 128 and their number

_KEYS = [getattr(signal, name) for name in ("SIGINT", "SIGBREAK") if hasattr(signal, name)]
"""Signals of a person at the keyboard, who may press twice because the first took too long."""

_OTHERS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals of other programs, which some send twice at once (timeout, systemd): from these once and twice are the same."""

CLOSE_PATIENCE = 60.0
"""Seconds for which the end of a Windows console, a session or the system is held up; the system itself waits 5 to 20."""


class StopRequest:
    """A StopRequest notes what asks the command to end: the first time to stop between two steps, and a key pressed
    twice to stop at once."""

    def __init__(self) -> None:
        self.keys_pressed = 0
        self.signal: int | None = None  # the first one

    @property
    def at_once(self) -> bool:
        return self.keys_pressed > 1

    @property
    def status(self) -> int:
        """Return the exit status of a command that this ended."""
        return INTERRUPTED if self.signal in (None, *_KEYS) else 128 + self.signal

    def note(self, number: int, frame: object = None) -> None:
        if self.signal is None:
            self.signal = number
        if number in _KEYS:
            self.keys_pressed += 1
        if self.at_once:
            raise KeyboardInterrupt
        text = b"\nStopping after this step.%s\n" % (b" Ctrl-C once more stops at once." if number in _KEYS else b"")
        with suppress(OSError):  # print() is not allowed here: the signal may have come in the middle of another
            os.write(2, text)

    def raise_if_asked(self) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt


@contextmanager
def stop_noted() -> Iterator[StopRequest]:
    """Give a StopRequest that notes instead of interrupting; ask it between two steps."""
    request = StopRequest()
    with _handled(request.note), _console_end_held_up(request):
        yield request


@contextmanager
def stop_ignored() -> Iterator[None]:
    """Let whatever asks for an end wait in the body until what was trained is written."""
    with _handled(signal.SIG_IGN):
        yield


@contextmanager
def stop_interrupts() -> Iterator[StopRequest]:
    """Let SIGTERM and a closed terminal interrupt the body as Ctrl-C does, so that nothing is left half written."""
    request = StopRequest()

    def interrupt(number: int, frame: object) -> None:
        request.signal = request.signal or number
        raise KeyboardInterrupt

    with _handled(interrupt):
        yield request


@contextmanager
def stopping(request: StopRequest, bar: AbstractContextManager[Callable[[Any], None]]):
    """Give the function of a bar, which raises KeyboardInterrupt once an end was asked for."""
    with bar as show:

        def report(progress) -> None:
            show(progress)
            request.raise_if_asked()

        yield report


@contextmanager
def _handled(handler: Callable | int) -> Iterator[None]:
    """Handle all signals so in the body, but those that are ignored on purpose: Ctrl-C by a shell's background jobs, a
    closed terminal by nohup. Only the main thread may say what happens."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (*_KEYS, *_OTHERS):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: of a program around Python
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def _console_end_held_up(request: StopRequest) -> Iterator[None]:
    """On Windows note that the console is closed, the user logs off or the system ends (CTRL_CLOSE_EVENT and the like),
    and hold that up until the body has ended: the process is gone as soon as the handler returns."""
    if os.name != "nt":
        yield
        return
    import ctypes

    ended = threading.Event()

    @ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)
    def handler(event: int) -> int:  # in a thread of its own
        if event not in (2, 5, 6):  # close, log off, shut down; the others come as signals
            return 0
        request.note(signal.SIGTERM)
        ended.wait(CLOSE_PATIENCE)
        return 1

    ctypes.windll.kernel32.SetConsoleCtrlHandler(handler, True)
    try:
        yield
    finally:
        ended.set()
        ctypes.windll.kernel32.SetConsoleCtrlHandler(handler, False)
