"""What the commands share: folders, devices, Ctrl-C, the progress bar, pictures."""

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended
MINIATURE = "miniature"

package = logging.getLogger(__name__.rpartition(".cli")[0])


class UsageError(Exception):
    """Something is wrong that the user can put right; the message says how."""


def load_generator(file: str, device):
    """Load the generator in a file, on the device; returns it, its metadata, and what counts of its pictures."""
    from ..miniature import generator_path
    from ..stylegan import crop_of, load_checkpoint, provenance

    checkpoint = load_checkpoint(generator_path(file))
    generator = checkpoint.generator.to(device)
    metadata = provenance(checkpoint, Path(file).name)
    return generator, metadata, crop_of(metadata)


def require_free(folder: Path, names: Sequence[str]) -> None:
    """Raise UsageError when one of these files exists."""
    taken = next((name for name in names if (folder / name).exists()), None)
    if taken:
        raise UsageError(f"{folder} already holds {taken}; give another folder as --output, so that nothing is lost.")


def make_folder(folder: Path, advice: str = "give another as --output") -> None:
    """Make the folder and see that it can be written, before hours go into what shall be there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"The folder {folder} cannot be written ({reason}); {advice}.") from None


def free_folder(folder: Path) -> Path:
    """Return the folder, or the first of folder-2, folder-3, ... that does not exist."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def device_named(name: str | None):
    """Return the torch device of this name; None: the fastest there is. Raises UsageError
    when there is no such device."""
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError):
        raise UsageError(f"There is no device {name!r} that torch can use here; try --device cpu.") from None
    return torch.device(name)


@contextmanager
def ctrl_c_ignored():
    """Let Ctrl-C wait in the body until what was trained is written."""
    with _on_ctrl_c(signal.SIG_IGN):
        yield


class CtrlC:
    """A CtrlC counts how often Ctrl-C was pressed: once to stop between two steps, twice to stop at once."""

    def __init__(self) -> None:
        self.pressed = 0

    @property
    def at_once(self) -> bool:
        return self.pressed > 1

    def note(self, number, frame) -> None:
        self.pressed += 1
        if self.at_once:
            raise KeyboardInterrupt
        with suppress(OSError):  # print() is not allowed here: the signal may have come in the middle of another
            os.write(2, b"\nStopping after this step. Ctrl-C once more stops at once.\n")

    def raise_if_pressed(self) -> None:
        if self.pressed:
            raise KeyboardInterrupt


@contextmanager
def ctrl_c_noted():
    """Give a CtrlC that notes instead of interrupting, once; ask it between two steps."""
    ctrl_c = CtrlC()
    with _on_ctrl_c(ctrl_c.note):
        yield ctrl_c


@contextmanager
def _on_ctrl_c(handler: Callable | int):
    # Only the main thread may say what happens, and a shell's background jobs ignore Ctrl-C on purpose.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bar(steps: int, done: int = 0):
    """Give a function that shows a Progress; what is logged meanwhile is shown above the bar."""
    from tqdm import tqdm

    from ..sds import Progress

    with tqdm(total=steps, initial=done, unit="step") as bar:

        def report(progress: Progress) -> None:
            bar.update(progress.step - bar.n)
            bar.set_postfix({name: f"{value:.3g}" for name, value in progress.losses.items()}, refresh=False)
            if progress.skipped:
                bar.write(f"step {progress.step} skipped: {progress.skipped} was not finite", file=sys.stderr)

        class Above(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                bar.write(record.getMessage(), file=sys.stderr)

        above = Above(logging.WARNING)
        package.addHandler(above)
        try:
            yield report
        finally:
            package.removeHandler(above)


def write_png(picture, path: Path) -> None:
    from ..training.files import write_atomically

    data = BytesIO()
    picture.save(data, "PNG")
    write_atomically(path, data.getvalue())


def quiet_libraries() -> None:
    """Let the libraries show warnings and errors only; their progress bars would cover ours."""
    try:
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging
    except ImportError:
        return
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
