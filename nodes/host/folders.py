"""Where generators live: models/stylegan for those that people bring, output/stylegan for those that they make; and
models/lpips, for the networks of the perceptual regularizer."""

import contextlib
import os
from pathlib import Path

import folder_paths

from ...miniature import WEIGHTS
from ..file_names import within
from ..outputs import SUBFOLDER, UNFINISHED

LPIPS = "lpips"
"""Our folder in the host's folder of models for networks that compare images."""

ENDINGS = (".safetensors", ".pt", ".pth", ".pkl", ".ckpt")
"""Of the files that are offered; what is in them is recognized by their content."""


def register_folders() -> None:
    """Make models/stylegan (other packs use the folder too) and models/lpips known to the host, and the miniature's
    LoRA."""
    for name in (SUBFOLDER, LPIPS):
        folder = os.path.join(folder_paths.models_dir, name)
        with contextlib.suppress(OSError):  # a read-only models folder is no reason to go without our nodes
            os.makedirs(folder, exist_ok=True)
        folder_paths.add_model_folder_path(name, folder, is_default=True)
    folder_paths.add_model_folder_path("loras", str(WEIGHTS / "loras"))  # last: of one name, the user's own file counts


def output_folder() -> Path:
    """Return output/stylegan, which need not be there yet."""
    return Path(folder_paths.get_output_directory()) / SUBFOLDER


def temporary_folder() -> Path:
    """Return temp/stylegan, which the host empties when it starts."""
    return Path(folder_paths.get_temp_directory()) / SUBFOLDER


def generator_names() -> list[str]:
    """List the files that may be generators: paths within models/stylegan, and within output/stylegan behind
    "output/"."""
    return _brought(SUBFOLDER) + [f"output/{name}" for name in _names(output_folder(), but=UNFINISHED)]


def network_names() -> list[str]:
    """List the files that may be networks of the perceptual regularizer: paths within models/lpips."""
    return _brought(LPIPS)


def generator_path(name: str) -> Path:
    """Find the file of a name from `generator_names`. Raises ValueError for names that leave the folders or do not
    exist."""
    folder, _, rest = name.replace("\\", "/").partition("/")
    made = folder == "output"
    path = _found([output_folder()], rest) if made else None
    path = path or _found(_roots(SUBFOLDER), name)  # which may have a folder of that name
    if path is not None:
        return path
    raise ValueError(
        f"There is no generator file {name!r} in models/stylegan or output/stylegan; put it there, press R to refresh, "
        "and choose it again."
    )


def network_path(name: str) -> Path:
    """Find the file of a name from `network_names`. Raises ValueError for names that leave the folder or do not
    exist."""
    path = _found(_roots(LPIPS), name)
    if path is not None:
        return path
    raise ValueError(
        f"There is no file {name!r} in models/lpips; put it there, press R to refresh, and choose it again."
    )


def state_of(name: str) -> str:
    """Describe the file of a name from `generator_names`, differently for each other file. Raises ValueError as
    `generator_path`."""
    return state_of_file(generator_path(name))


def state_of_file(path: Path) -> str:
    """Describe the file at `path`, differently for each other one. Raises OSError."""
    status = path.stat()
    return f"{path} {status.st_mtime_ns} {status.st_size} {status.st_ino}"


def _roots(folder: str) -> list[Path]:
    return [Path(root) for root in folder_paths.get_folder_paths(folder)]


def _found(roots: list[Path], relative: str) -> Path | None:
    try:
        return next((path for root in roots if (path := within(root, relative)).is_file()), None)
    except OSError:  # longer than names can be
        return None


def _brought(folder: str) -> list[str]:
    return sorted({name for root in _roots(folder) for name in _names(root)})


def _names(root: Path, but: str | None = None) -> list[str]:
    """List files as the host does: links to folders are followed, but not in circles. Without the folder `but` in
    root."""
    found = []
    for folder, below, names in os.walk(root, followlinks=True):
        here = Path(folder)
        leads_back = os.path.realpath(here) in map(os.path.realpath, here.parents)
        if leads_back or (but is not None and here == root / but):
            below.clear()
        else:
            found += [here / name for name in names if not name.startswith(".")]
    return sorted(
        path.relative_to(root).as_posix() for path in found if path.suffix.lower() in ENDINGS and path.is_file()
    )
