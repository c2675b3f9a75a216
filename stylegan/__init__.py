"""The generator: StyleGAN2, StyleGAN3 and EG3D networks, latents, and reading and writing checkpoints."""

from .architectures import ARCHITECTURES, Architecture
from .blending import blend_generators, blend_metadata, blended, swap_amounts, swap_amounts_at
from .cameras import Views, field_of_view, focal_length, frontal, on_sphere, orbit, require_cameras, turned, yaws
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
from .config import CHANNELS, Config, EG3DConfig, GeneratorConfig, StyleGAN3Config
from .convert import SUFFIXES, WRITTEN, crop_of, provenance, require_layout, with_crop, write_generator
from .crop import Crop, find_crop, picture_size
from .directions import edit_codes, move_codes, sefa_directions
from .networks import Generator, class_labels
from .sampling import LatentStream, check_seed, noise_seeds, parse_seeds, render_samples, sample_z
from .synthesis import NOISE_MODES, Draw
from .walks import PATHS, walk, walk_codes

__all__ = [
    "ARCHITECTURES",
    "CHANNELS",
    "LAYER_RANGES",
    "NOISE_MODES",
    "PATHS",
    "SUFFIXES",
    "WRITTEN",
    "Architecture",
    "Checkpoint",
    "CheckpointError",
    "Config",
    "Crop",
    "Draw",
    "EG3DConfig",
    "Generator",
    "GeneratorConfig",
    "LatentStream",
    "StyleGAN3Config",
    "Views",
    "blend_generators",
    "blend_metadata",
    "blended",
    "check_seed",
    "class_labels",
    "codes_of",
    "crop_of",
    "draw_codes",
    "edit_codes",
    "field_of_view",
    "find_crop",
    "focal_length",
    "frontal",
    "load_checkpoint",
    "load_generator",
    "mapping_digest",
    "mix_styles",
    "move_codes",
    "noise_seeds",
    "on_sphere",
    "orbit",
    "parse_codes",
    "parse_seeds",
    "picture_size",
    "provenance",
    "read_metadata",
    "render_samples",
    "require_cameras",
    "require_fitting",
    "require_layout",
    "sample_codes",
    "sample_z",
    "save_generator",
    "save_or_rescue",
    "sefa_directions",
    "swap_amounts",
    "swap_amounts_at",
    "turned",
    "w_statistics",
    "walk",
    "walk_codes",
    "with_crop",
    "write_generator",
    "yaws",
]
