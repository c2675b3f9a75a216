"""A complete toy world: portraits drawn by a renderer, and small models trained on them, for the demo and the tests."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""generator.safetensors, classifier.safetensors and diffusion/ (a Stable Diffusion in the folder layout of diffusers)."""

GENERATOR = WEIGHTS / "generator.safetensors"

GENERATORS = {
    "miniature": GENERATOR,
    "miniature-cat": WEIGHTS / "cat.safetensors",
    "miniature-3d": WEIGHTS / "head.safetensors",
}
"""The bundled generators by name: of persons, of cats, and of persons in three dimensions."""

DIFFERENCES = {
    f"miniature-{domain}": WEIGHTS / "differences" / f"{domain}.difference.safetensors" for domain in ("zombie", "doll")
}
"""What was learned of other domains by the generator of persons, as styles, by name."""


def load_generator(path):
    """Load a generator from a safetensors file, or a bundled one by its name in GENERATORS.

    Raises CheckpointError when the file cannot be used."""
    from ..stylegan import load_generator as load_file

    return load_file(generator_path(path))


def generator_path(path) -> Path:
    """Return the path of the file that `load_generator` reads."""
    return GENERATORS.get(str(path)) or Path(path)
