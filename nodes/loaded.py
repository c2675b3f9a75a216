"""Generators in memory, shared by all nodes."""

import logging
from weakref import WeakValueDictionary

import torch

from ..stylegan import load_checkpoint, provenance
from . import files
from .adapter import torch_device
from .drawing import at
from .types import NamedGenerator

logger = logging.getLogger(__name__)

_in_memory: WeakValueDictionary[str, NamedGenerator] = WeakValueDictionary()


def load_named(file: str) -> NamedGenerator:
    """The generator of a name from `generator_names`: one copy for all nodes, as long as one of them holds it and the
    file stays as it is. Raises CheckpointError, and ValueError as `files.generator_path`."""
    state = files.state_of(file)
    named = _in_memory.get(state)
    if named is None:
        with torch.inference_mode(False):
            checkpoint = load_checkpoint(files.generator_path(file))
            generator = checkpoint.generator
            with at(torch_device(), generator):
                metadata = provenance(checkpoint, file)
        named = _in_memory[state] = NamedGenerator(generator, file, metadata)
        side = generator.resolution
        logger.info("StyleGAN Fusion read %s: %s, %d x %d pixels", file, checkpoint.format, side, side)
    return named
