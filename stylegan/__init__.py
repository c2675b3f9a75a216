"""The generator: StyleGAN2 networks, latents, and reading and writing checkpoints. Knows torch only."""

from .checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_generator,
    read_metadata,
    save_generator,
    save_or_rescue,
    write_atomically,
)
from .config import GeneratorConfig, StyleGAN3Config
from .networks import Generator
from .sampling import render_samples, sample_z
from .synthesis import NOISE_MODES

__all__ = [
    "NOISE_MODES",
    "Checkpoint",
    "CheckpointError",
    "Generator",
    "GeneratorConfig",
    "StyleGAN3Config",
    "load_checkpoint",
    "load_generator",
    "read_metadata",
    "render_samples",
    "sample_z",
    "save_generator",
    "save_or_rescue",
    "write_atomically",
]
