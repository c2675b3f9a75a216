"""The generator: StyleGAN2 networks, latents, and reading and writing checkpoints. Knows torch only."""

from .checkpoint import CheckpointError, load_generator, read_metadata, save_generator, write_atomically
from .config import GeneratorConfig
from .networks import NOISE_MODES, Generator, sample_z

__all__ = [
    "NOISE_MODES",
    "CheckpointError",
    "Generator",
    "GeneratorConfig",
    "load_generator",
    "read_metadata",
    "sample_z",
    "save_generator",
    "write_atomically",
]
