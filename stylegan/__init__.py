"""The generator: StyleGAN2 and StyleGAN3 networks, latents, and reading and writing checkpoints. Knows torch only."""

from .checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_generator,
    read_metadata,
    save_generator,
    save_or_rescue,
)
from .config import GeneratorConfig, StyleGAN3Config
from .convert import SUFFIXES, crop_of, provenance, with_crop, write_generator
from .crop import Crop, find_crop
from .files import replacing, write_atomically
from .networks import Generator, class_labels
from .sampling import render_samples, sample_z
from .synthesis import NOISE_MODES

__all__ = [
    "NOISE_MODES",
    "SUFFIXES",
    "Checkpoint",
    "CheckpointError",
    "Crop",
    "Generator",
    "GeneratorConfig",
    "StyleGAN3Config",
    "class_labels",
    "crop_of",
    "find_crop",
    "load_checkpoint",
    "load_generator",
    "provenance",
    "read_metadata",
    "render_samples",
    "replacing",
    "sample_z",
    "save_generator",
    "save_or_rescue",
    "with_crop",
    "write_atomically",
    "write_generator",
]
