"""Where generators live: models/stylegan for those that people bring, output/stylegan for those that they make."""

import contextlib
import os
from pathlib import Path

import folder_paths
from comfy_api.v0_0_2 import ui

SUBFOLDER = "stylegan"

ENDINGS = (".safetensors", ".pt", ".pth", ".pkl", ".ckpt")
"""Of the files that are offered; what is in them is recognized by their content."""


def register_folders() -> None:
    """Make models/stylegan known to the host (other packs use the folder too)."""
    folder = os.path.join(folder_paths.models_dir, SUBFOLDER)
    with contextlib.suppress(OSError):  # a read-only models folder is no reason to go without our nodes
        os.makedirs(folder, exist_ok=True)
    folder_paths.add_model_folder_path(SUBFOLDER, folder, is_default=True)


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory()) / SUBFOLDER


def generator_names() -> list[str]:
    """Names of the files that may be generators: paths within models/stylegan, and within output/stylegan behind "output/"."""
    brought = [name for root in _roots() for name in _names(root)]
    made = [f"output/{name}" for name in _names(output_folder())]
    return sorted(dict.fromkeys(brought)) + made


def generator_path(name: str) -> Path:
    """The file of a name from `generator_names`. Raises ValueError for names that leave the folders or do not exist."""
    made = name.startswith("output/")
    roots = [output_folder()] if made else _roots()
    relative = name.removeprefix("output/")
    for root in roots:
        path = within(root, relative)
        if path.is_file():
            return path
    raise ValueError(
        f"There is no generator file {name!r} in models/stylegan or output/stylegan; put it there, press R to refresh, "
        "and choose it again."
    )


def state_of(name: str) -> str:
    """Differs whenever the file of a name from `generator_names` is another one. Raises ValueError as `generator_path`."""
    path = generator_path(name)
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


def _roots() -> list[Path]:
    return [Path(root) for root in folder_paths.get_folder_paths(SUBFOLDER)]


def _names(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in ENDINGS and path.is_file() and not path.name.startswith(".")
    )


def saved_text(path: Path) -> ui.PreviewText:
    """What a node shows that wrote this file."""
    return ui.PreviewText(f"Saved as {path.relative_to(output_folder().parent).as_posix()}")
