"""The beginning of the scripts that ComfyUI's own Python runs in ComfyUI's folder."""

import importlib.util
import sys
from pathlib import Path


def start(project: str, *options: str) -> None:
    """Make ComfyUI's modules importable, with these options of its command line beside --cpu, and the project in the
    folder `project` as the package `project`. To be called before anything of either is imported."""
    sys.argv = ["main.py", "--cpu", *options]
    sys.path.insert(0, str(Path.cwd()))  # before this folder: the names of ComfyUI's modules are its own
    import comfy.options

    comfy.options.enable_args_parsing()
    import utils.extra_config  # noqa: F401  (as main.py does: later, the folder comfy has another module of this name)

    spec = importlib.util.spec_from_file_location(
        "project", Path(project) / "__init__.py", submodule_search_locations=[project]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["project"] = package
    spec.loader.exec_module(package)
