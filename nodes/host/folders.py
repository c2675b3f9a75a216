"""Where generators live: models/stylegan for those that people bring, output/stylegan for those that they make; and
models/lpips, for the networks of the perceptual regularizer."""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

import folder_paths

from ...miniature import DIFFERENCES, WEIGHTS
from ...stylegan import SUFFIX
from ...training.files import write_atomically
from ..file_names import within
from ..outputs import MOMENTS, SUBFOLDER, UNFINISHED

LPIPS = "lpips"
"""Our folder in the host's folder of models for networks that compare images."""

DOMAINS = "stylegan_domains"
"""Our folder in the host's folder of models for domains."""

PORTRAIT = "stylegan_fusion_portrait.jpg"
"""The name of our portrait among the host's inputs."""

MINIATURE_PORTRAIT = WEIGHTS.parent / "portrait.jpg"

ENDINGS = (".safetensors", ".pt", ".pth", ".pkl", ".ckpt")
"""Of the files that are offered; what is in them is recognized by their content."""


def register_folders() -> None:
    """Make models/stylegan (other packs use the folder too), models/lpips and models/stylegan_domains known to the
    host."""
    for name in (SUBFOLDER, LPIPS, DOMAINS):
        folder = os.path.join(folder_paths.models_dir, name)
        with contextlib.suppress(OSError):  # a read-only models folder is no reason to go without our nodes
            os.makedirs(folder, exist_ok=True)
        folder_paths.add_model_folder_path(name, folder, is_default=True)


def offer_portrait() -> None:
    """Put the portrait that templates begin with into the host's folder of inputs, once: Load Image reads nothing from
    elsewhere."""
    path = Path(folder_paths.get_input_directory()) / PORTRAIT
    with contextlib.suppress(OSError):  # a read-only folder is no reason to go without our nodes
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, MINIATURE_PORTRAIT.read_bytes())


def output_folder() -> Path:
    """Return output/stylegan, which need not be there yet."""
    return Path(folder_paths.get_output_directory()) / SUBFOLDER


def moments_folder() -> Path:
    """Return output/stylegan/moments, where panels keep their trainings."""
    return output_folder() / MOMENTS


def generator_names() -> list[str]:
    """List the files that may be generators: paths within models/stylegan, and within output/stylegan behind
    "output/"."""
    return [name for name in _generator_files() if not name.endswith(SUFFIX)]


def difference_names() -> list[str]:
    """List the files that may be differences, in the same folders, and the names of those that come with the
    miniature."""
    return [*(name for name in _generator_files() if name.endswith(SUFFIX)), *DIFFERENCES]


def difference_path(name: str) -> Path:
    """Find the file of a name from `difference_names`. Raises ValueError as `generator_path`."""
    return DIFFERENCES.get(name) or generator_path(name)


def _generator_files() -> list[str]:
    return _brought(SUBFOLDER) + [f"output/{name}" for name in _names(output_folder(), but=(UNFINISHED, MOMENTS))]


def network_names() -> list[str]:
    """List the files that may be networks of the perceptual regularizer: paths within models/lpips."""
    return _brought(LPIPS)


def domains_folder() -> Path:
    """Return models/stylegan_domains, where domains are written."""
    return _roots(DOMAINS)[0]


def domain_names() -> list[str]:
    """List the files that may be domains: paths within models/stylegan_domains."""
    return [name for name in _brought(DOMAINS) if name.endswith(".safetensors")]


def domain_path(name: str) -> Path:
    """Find the file of a name from `domain_names`. Raises ValueError for names that leave the folder or do not exist."""
    path = _found(_roots(DOMAINS), name)
    if path is not None:
        return path
    raise ValueError(
        f"There is no domain {name!r} in models/{DOMAINS}; train one, or put it there, press R to refresh, and choose it "
        "again."
    )


def picture_folders() -> list[str]:
    """List the folders within the host's folder of inputs."""
    root = Path(folder_paths.get_input_directory())
    found = [Path(folder).relative_to(root).as_posix() for folder, _, _ in os.walk(root) if Path(folder) != root]
    return sorted(name for name in found if not name.startswith(".") and "/." not in name)


def pictures_folder(name: str) -> Path:
    """Find a folder of a name from `picture_folders`. Raises ValueError for one that leads elsewhere or does not exist."""
    path = within(Path(folder_paths.get_input_directory()), name)
    if path.is_dir():
        return path
    raise ValueError(f"There is no folder {name!r} in ComfyUI's input folder; put your pictures there, and press R.")


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


def _names(root: Path, but: Collection[str] = ()) -> list[str]:
    """List files as the host does: links to folders are followed, but not in circles. Without the folders `but` in
    root."""
    found = []
    for folder, below, names in os.walk(root, followlinks=True):
        here = Path(folder)
        leads_back = os.path.realpath(here) in map(os.path.realpath, here.parents)
        if leads_back or (here.parent == root and here.name in but):
            below.clear()
        else:
            found += [here / name for name in names if not name.startswith(".")]
    return sorted(
        path.relative_to(root).as_posix() for path in found if path.suffix.lower() in ENDINGS and path.is_file()
    )
