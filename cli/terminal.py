"""What the commands share: folders, devices, the progress bar, pictures."""

import logging
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

MINIATURE, MINIATURE_CAT, MINIATURE_3D = "miniature", "miniature-cat", "miniature-3d"

BUNDLED = (MINIATURE, MINIATURE_CAT, MINIATURE_3D)
"""Generators that are named, not given as files."""

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


def require_free(folder: Path, names: Iterable[str]) -> None:
    """Raise UsageError when one of these files exists."""
    taken = next((name for name in names if (folder / name).exists()), None)
    if taken:
        raise UsageError(f"{folder} already holds {taken}; give another folder as --output, so that nothing is lost.")


def shell_word(path: Path) -> str:
    """Return a path as one word of a command; each system's shell has its own quotation marks."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


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
    """Return the torch device of this name; None: the fastest there is, of several processes that torchrun started each its
    own. Raises UsageError when there is no such device."""
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and (place := os.environ.get("LOCAL_RANK")):
        name = f"cuda:{place}"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError):
        raise UsageError(f"There is no device {name!r} that torch can use here; try --device cpu.") from None
    return torch.device(name)


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


@contextmanager
def targets_bar(doing: str = "making targets", leave: bool = True):
    """Give a function that shows how far the making of targets is. The bar may leave when it is done."""
    from tqdm import tqdm

    with tqdm(unit="target", desc=doing, leave=leave) as bar:

        def report(made) -> None:
            bar.total = made.count
            bar.update(made.done - bar.n)

        yield report


@contextmanager
def refreshing_bar():
    """Give a function that shows how far the refreshing of targets is, each time that they are."""
    with ExitStack() as shown:
        show = None

        def report(made) -> None:
            nonlocal show
            show = show or shown.enter_context(targets_bar("refreshing targets", leave=False))
            show(made)
            if made.done == made.count:
                shown.close()
                show = None

        yield report


@contextmanager
def counting_bar(total: int, unit: str, done: int = 0):
    """Give a function that is told how many more are done. Without tqdm, which only trainings need, it shows nothing."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda more: None
        return
    with tqdm(total=total, initial=done, unit=unit) as bar:
        yield bar.update


def write_png(picture, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write a Pillow picture, with notes as its text entries."""
    from PIL.PngImagePlugin import PngInfo

    from ..training.files import write_atomically

    data, entries = BytesIO(), PngInfo()
    for key, text in (notes or {}).items():
        entries.add_text(key, text)
    picture.save(data, "PNG", pnginfo=entries)
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
