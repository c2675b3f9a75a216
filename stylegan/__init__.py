"""The generator: StyleGAN2 and StyleGAN3 networks, latents, and reading and writing checkpoints."""

from .architectures import ARCHITECTURES, Architecture
from .blending import blend_generators, blend_metadata, swap_amounts, swap_amounts_at
from .checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_generator,
    read_metadata,
    save_generator,
    save_or_rescue,
)
from .codes import (
    LAYER_RANGES,
    codes_of,
    draw_codes,
    mapping_digest,
    mix_styles,
    parse_codes,
    require_fitting,
    sample_codes,
    w_statistics,
)
from .config import Config, GeneratorConfig, StyleGAN3Config
from .convert import SUFFIXES, crop_of, provenance, with_crop, write_generator
from .crop import Crop, find_crop
from .directions import move_codes, sefa_directions
from .networks import Generator, class_labels
from .sampling import render_samples, sample_z
from .synthesis import NOISE_MODES, Draw
from .walks import PATHS, walk

__all__ = [
    "ARCHITECTURES",
    "LAYER_RANGES",
    "NOISE_MODES",
    "PATHS",
    "SUFFIXES",
    "Architecture",
    "Checkpoint",
    "CheckpointError",
    "Config",
    "Crop",
    "Draw",
    "Generator",
    "GeneratorConfig",
    "StyleGAN3Config",
    "blend_generators",
    "blend_metadata",
    "class_labels",
    "codes_of",
    "crop_of",
    "draw_codes",
    "find_crop",
    "load_checkpoint",
    "load_generator",
    "mapping_digest",
    "mix_styles",
    "move_codes",
    "parse_codes",
    "provenance",
    "read_metadata",
    "render_samples",
    "require_fitting",
    "sample_codes",
    "sample_z",
    "save_generator",
    "save_or_rescue",
    "sefa_directions",
    "swap_amounts",
    "swap_amounts_at",
    "w_statistics",
    "walk",
    "with_crop",
    "write_generator",
]
