"""Where generators live: models/stylegan for those that people bring, output/stylegan for those that they make; and
models/lpips, for the networks of the perceptual regularizer."""

import contextlib
import os
from pathlib import Path

import folder_paths
from comfy_api.v0_0_2 import ui

SUBFOLDER = "stylegan"

LPIPS = "lpips"

UNFINISHED = "unfinished"
"""The folder in output/stylegan where trainings are kept that ended early."""

ENDINGS = (".safetensors", ".pt", ".pth", ".pkl", ".ckpt")
"""Of the files that are offered; what is in them is recognized by their content."""


def register_folders() -> None:
    """Make models/stylegan (other packs use the folder too) and models/lpips known to the host."""
    for name in (SUBFOLDER, LPIPS):
        folder = os.path.join(folder_paths.models_dir, name)
        with contextlib.suppress(OSError):  # a read-only models folder is no reason to go without our nodes
            os.makedirs(folder, exist_ok=True)
        folder_paths.add_model_folder_path(name, folder, is_default=True)


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory()) / SUBFOLDER


def generator_names() -> list[str]:
    """Names of the files that may be generators: paths within models/stylegan, and within output/stylegan behind "output/"."""
    return _brought(SUBFOLDER) + [f"output/{name}" for name in _names(output_folder())]


def network_names() -> list[str]:
    """Names of the files that may be networks of the perceptual regularizer: paths within models/lpips."""
    return _brought(LPIPS)


def generator_path(name: str) -> Path:
    """The file of a name from `generator_names`. Raises ValueError for names that leave the folders or do not exist."""
    made = name.startswith("output/")
    path = _found([output_folder()] if made else _roots(SUBFOLDER), name.removeprefix("output/"))
    if path is not None:
        return path
    raise ValueError(
        f"There is no generator file {name!r} in models/stylegan or output/stylegan; put it there, press R to refresh, "
        "and choose it again."
    )


def network_path(name: str) -> Path:
    """The file of a name from `network_names`. Raises ValueError for names that leave the folder or do not exist."""
    path = _found(_roots(LPIPS), name)
    if path is not None:
        return path
    raise ValueError(
        f"There is no file {name!r} in models/lpips; put it there, press R to refresh, and choose it again."
    )


def state_of(name: str) -> str:
    """Differs whenever the file of a name from `generator_names` is another one. Raises ValueError as `generator_path`."""
    return state_of_file(generator_path(name))


def state_of_file(path: Path) -> str:
    """Differs whenever the file at `path` is another one. Raises OSError."""
    status = path.stat()
    return f"{path} {status.st_mtime_ns} {status.st_size} {status.st_ino}"


def new_path(prefix: str, suffix: str = ".safetensors") -> Path:
    """A path in output/stylegan that is not taken: prefix_00001.safetensors, counting up."""
    folder = output_folder()
    stem = within(folder, prefix.strip() or "generator")
    if stem == folder or prefix.strip().endswith(("/", "\\")):
        raise ValueError(f"The file name {prefix!r} names a folder; give it a name such as fox or animals/fox.")
    number = 1
    while (path := stem.with_name(f"{stem.name}_{number:05}{suffix}")).exists():
        number += 1
    return path


def within(folder: Path, relative: str) -> Path:
    """folder/relative. Raises ValueError for a name that leads elsewhere; links that the user put there are followed."""
    parts = relative.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or any(":" in part or "\0" in part for part in parts):
        raise ValueError(f"The file name {relative!r} leads out of the folder {folder.name}; use a plain name.")
    return folder.joinpath(*parts)


def _roots(folder: str) -> list[Path]:
    return [Path(root) for root in folder_paths.get_folder_paths(folder)]


def _found(roots: list[Path], relative: str) -> Path | None:
    return next((path for root in roots if (path := within(root, relative)).is_file()), None)


def _brought(folder: str) -> list[str]:
    return sorted({name for root in _roots(folder) for name in _names(root)})


def _names(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in ENDINGS
        and path.is_file()
        and not path.name.startswith(".")
        and path.parent.name != UNFINISHED
    )


def saved_text(path: Path) -> ui.PreviewText:
    """What a node shows that wrote this file."""
    return ui.PreviewText(f"Saved as {path.relative_to(output_folder().parent).as_posix()}")
