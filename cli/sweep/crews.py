"""Who trains the runs of a sweep: processes of this machine, one for each device."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue

from .jobs import Job
from .worker import FAILED, STOPPED

ATTEMPTS = 10
"""Times that a run is begun again after the process that trained it was lost."""

LOST = "Its process was lost {attempts} times; see whether there is enough memory, and start the sweep again."


@dataclass
class LocalCrew:
    """A LocalCrew is a process for each device, which is begun anew where it is lost."""

    devices: Sequence[str | None]
    clip: str | None = None  # what scores what was made
    stopping: threading.Event = field(default_factory=threading.Event)
    _running: dict[int, subprocess.Popen] = field(default_factory=dict)

    def train(self, jobs: Sequence[Job], root: Path) -> Iterator[tuple[Job, dict]]:
        """Train jobs, each by one process at a time; yield each with what became of it, as soon as that is known."""
        waiting: Queue[Job] = Queue()
        for job in jobs:
            waiting.put(job)
        found: Queue[tuple[Job, dict]] = Queue()
        threads = [
            threading.Thread(target=self._work, args=(place, device, waiting, found, root), daemon=True)
            for place, device in enumerate(self.devices)
        ]
        for thread in threads:
            thread.start()
        for _ in jobs:
            while True:
                with contextlib.suppress(Empty):
                    yield found.get(timeout=0.5)
                    break
                if not any(thread.is_alive() for thread in threads):
                    with contextlib.suppress(Empty):
                        yield found.get_nowait()
                        break
                    return
        for thread in threads:
            thread.join()

    def stop(self) -> None:
        """Let the runs that are under way keep what they have, and begin no others."""
        self.stopping.set()
        if os.name == "nt":  # where Ctrl-C reaches them by themselves, and SIGTERM would end them at once
            return
        for process in list(self._running.values()):
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGTERM)

    def _work(self, place: int, device: str | None, waiting: Queue, found: Queue, root: Path) -> None:
        """Train what waits, until nothing does."""
        process = None
        try:
            while not self.stopping.is_set():
                try:
                    job = waiting.get_nowait()
                except Empty:
                    return
                result, process = self._attempts(job, place, device, process, root)
                found.put((job, result))
        finally:
            self._running.pop(place, None)
            if process is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
                process.wait()

    def _attempts(self, job: Job, place: int, device, process, root: Path) -> tuple[dict, subprocess.Popen | None]:
        for _ in range(ATTEMPTS):
            if self.stopping.is_set():
                return {"state": STOPPED, "said": "Not begun.", "seconds": 0.0}, process
            try:
                command = job.command(root, device)
            except Exception as error:
                return {"state": FAILED, "said": str(error), "seconds": 0.0}, process
            if process is None:
                process = self._running[place] = _started()
            try:
                process.stdin.write(
                    json.dumps({"arguments": command, "folder": str(job.folder(root)), "clip": self.clip}) + "\n"
                )
                process.stdin.flush()
                if answer := process.stdout.readline():
                    return json.loads(answer), process
            except (OSError, ValueError):
                pass
            process.kill()
            process.wait()
            process = None
        return {"state": FAILED, "said": LOST.format(attempts=ATTEMPTS), "seconds": 0.0}, None


def _started() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_paths())},
        start_new_session=True,  # Ctrl-C reaches the sweep alone, which then tells its processes
    )


def _paths() -> list[str]:
    """Where this very package is found, by whatever way it was."""
    return [path for path in (os.environ.get("PYTHONPATH", ""), *sys.path) if path]


def devices_of(asked: Sequence[str] | None, workers: int | None) -> list[str | None]:
    """Return a device for each process: those that were asked for, or each GPU there is, else the processor once; with
    `workers`, so many on each."""
    import torch

    found: list[str | None] = list(asked or ())
    if not found:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        found = [f"cuda:{place}" for place in range(count)] or [None]
    return found * (workers or 1)
