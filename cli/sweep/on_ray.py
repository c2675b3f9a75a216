"""Runs of a sweep on a Ray cluster (extra `scale`): one task a device, wherever there is one."""

import contextlib
import secrets
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..run_folder import RESULTS
from ..terminal import UsageError
from .crews import ATTEMPTS, LOST
from .jobs import Job
from .worker import FAILED, LOG, STOPPED, work

MARK = ".sweep"
"""A file in the sweep's folder by which a task sees whether it has the same folder."""


@dataclass
class RayCrew:
    """A RayCrew trains runs as tasks of a Ray cluster. Where its machines share the sweep's folder, a run goes on after its
    machine was lost; else its files come back when it has ended, and it begins anew."""

    address: str
    clip: str | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        try:
            import ray
        except ImportError:
            raise UsageError('--address needs Ray; install this package with its extra "scale".') from None
        try:
            ray.init(self.address, log_to_driver=False, logging_level="warning")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"There is no Ray cluster at {self.address} ({' '.join(str(error).split())[:200]})."
            ) from None
        resources = ray.cluster_resources()
        needs = {"num_gpus": 1} if resources.get("GPU") else {"num_cpus": 1}
        # Lost tasks are begun again here, where it is known how often.
        self._task = ray.remote(max_retries=0, **needs)(_trained)

    def train(self, jobs: Sequence[Job], root: Path) -> Iterator[tuple[Job, dict]]:
        """Train jobs, each by one task at a time; yield each with what became of it, as soon as that is known."""
        import ray

        mark = secrets.token_hex(8)
        (root / MARK).write_text(mark)
        attempts, running = dict.fromkeys((job.name for job in jobs), 0), {}

        def begin(job: Job) -> dict | None:
            attempts[job.name] += 1
            try:
                command = job.command(root, None)
            except Exception as error:
                return {"state": FAILED, "said": str(error), "seconds": 0.0}
            given = command, list(job.arguments), str(job.folder(root).absolute()), str((root / MARK).absolute()), mark
            running[self._task.remote(*given, self.clip)] = job
            return None

        told = False
        try:
            for job in jobs:
                if refused := begin(job):
                    yield job, refused
            while running:
                done, _ = ray.wait(list(running), timeout=0.5)
                if self.stopping.is_set() and not told:  # once: as with Ctrl-C a second time would stop at once
                    told = True
                    for task in running:
                        ray.cancel(task)
                for task in done:
                    job = running.pop(task)
                    try:
                        result, files = ray.get(task)
                    except ray.exceptions.TaskCancelledError:
                        yield job, {"state": STOPPED, "said": "Not begun, or stopped.", "seconds": 0.0}
                        continue
                    except ray.exceptions.RayError as error:
                        lost = _is_lost(error) and not self.stopping.is_set()
                        if lost and attempts[job.name] < ATTEMPTS:
                            if refused := begin(job):
                                yield job, refused
                            continue
                        said = LOST.format(attempts=attempts[job.name]) if lost else str(error).splitlines()[-1]
                        yield job, {"state": FAILED, "said": said, "seconds": 0.0}
                        continue
                    _put(files, job.folder(root))
                    yield job, result
        finally:
            with contextlib.suppress(OSError):
                (root / MARK).unlink()
            ray.shutdown()

    def stop(self) -> None:
        """Let the runs that are under way keep what they have, and begin no others."""
        self.stopping.set()


def _is_lost(error: Exception) -> bool:
    import ray

    kinds = ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError", "LocalRayletDiedError")
    return isinstance(error, tuple(getattr(ray.exceptions, kind) for kind in kinds if hasattr(ray.exceptions, kind)))


def _trained(command: list[str], arguments: list[str], folder: str, mark_file: str, mark: str, clip: str | None):
    """Train on a machine of the cluster: what became of it, and its files where the folder is not the sweep's own."""
    with contextlib.suppress(OSError):
        if Path(mark_file).read_text() == mark:
            return work(command, Path(folder), clip), {}
    with tempfile.TemporaryDirectory(prefix="stylegan-fusion-") as scratch:
        place = Path(scratch) / "run"
        result = work([*arguments, "--output", str(place)], place, clip)
        names = [name for name in (*RESULTS, LOG) if (place / name).is_file()]
        return result, {name: (place / name).read_bytes() for name in names}


def _put(files: dict[str, bytes], folder: Path) -> None:
    """Write what came back from a machine that has not the sweep's folder."""
    from ...training.files import write_atomically

    for name, content in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, content)
