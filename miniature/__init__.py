"""A complete toy world: portraits drawn by a renderer, and small models trained on them, for the demo and the tests."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""generator.safetensors, classifier.safetensors and diffusion/ (a Stable Diffusion in the folder layout of diffusers)."""


def load_generator(path):
    """Load a generator from a safetensors file, or the bundled person generator when `path` is "miniature".

    Raises CheckpointError when the file cannot be used."""
    from ..stylegan import load_generator as load_file

    return load_file(WEIGHTS / "generator.safetensors" if str(path) == "miniature" else path)
