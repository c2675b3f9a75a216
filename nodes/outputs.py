"""New files in output/stylegan, the folder of what people make; each function is given where it is. Knows nothing of
ComfyUI."""

import contextlib
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from ..training.files import locked
from .file_names import new_within
from .prefixes import filled

SUBFOLDER = "stylegan"
"""Our folder in the host's folder of outputs, and in that of models."""

UNFINISHED = "unfinished"
"""The folder in output/stylegan where trainings are kept that ended early."""

MOMENTS = "moments"
"""The folder in output/stylegan where panels keep the moments of trainings."""

TARGETS = "targets"
"""The folder in output/stylegan where targets are kept, each set in a folder of its own."""


def new_path(folder: Path, prefix: str, suffix: str = ".safetensors") -> Path:
    """Find a path in the folder that is not taken: prefix_00001.safetensors, counting up. Raises ValueError for names
    that lead elsewhere, or that not every system can store. Placeholders in the prefix are taken as filled in."""
    prefix = filled(prefix, None)
    return next(path for path in _numbered(folder, prefix, suffix) if not path.exists())


@contextlib.contextmanager
def claimed(folder: Path, prefix: str, suffix: str = ".safetensors", graph: Mapping | None = None) -> Iterator[Path]:
    """Find a `new_path`, which no other ComfyUI on the same folder takes in the body; placeholders in the prefix are
    filled from the graph in API form."""
    for path in _numbered(folder, filled(prefix, graph), suffix):
        with contextlib.suppress(OSError):  # said by what is to be written there
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with locked(path.with_name(f".{path.name}.lock")) as free:
                if free and not path.exists():
                    yield path
                    return


def saved_as(folder: Path, path: Path) -> str:
    """Say that a file in the folder was written, as the node does that wrote it."""
    return f"Saved as {path.relative_to(folder.parent).as_posix()}"


def _numbered(folder: Path, prefix: str, suffix: str) -> Iterator[Path]:
    stem = new_within(folder, prefix.strip() or "generator")
    first, *below = stem.relative_to(folder).parts
    kept = {UNFINISHED: "unfinished trainings", MOMENTS: "the moments of trainings"}
    if below and (what := kept.get(first.casefold())):  # one folder with it on Windows and macOS
        raise ValueError(f"The folder {first!r} is where {what} are kept for a while; use another name.")
    return (stem.with_name(f"{stem.name}_{number:05}{suffix}") for number in count(1))
