"""What users hang on MODEL and CONDITIONING, or put in their place, built with ComfyUI's own nodes.

Imported inside ComfyUI's Python, as the package `project`'s neighbour."""

from . import conditionings, guiders, models  # noqa: F401  (each fills VARIANTS)
from .files import save_files
from .graph import VARIANTS, Graph

__all__ = ["VARIANTS", "Graph", "save_files"]
