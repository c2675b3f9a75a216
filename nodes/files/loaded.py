"""Generators in memory, shared by all nodes."""

import logging
from weakref import WeakValueDictionary

import torch

from ...stylegan import load_checkpoint, provenance
from ..host import folders
from ..host.device import torch_device
from ..on_device import on_device
from ..types import NamedGenerator

logger = logging.getLogger(__name__)

_in_memory: WeakValueDictionary[str, NamedGenerator] = WeakValueDictionary()


def load_named(file: str) -> NamedGenerator:
    """Load the generator of a name from `generator_names`: one copy for all nodes, as long as one of them holds it and
    the file stays as it is. Raises CheckpointError, and ValueError as `folders.generator_path`."""
    state = folders.state_of(file)
    named = _in_memory.get(state)
    if named is None:
        with torch.inference_mode(False):
            checkpoint = load_checkpoint(folders.generator_path(file))
            generator = checkpoint.generator
            with on_device(torch_device(), generator):
                metadata = provenance(checkpoint, file)
        named = _in_memory[state] = NamedGenerator(generator, file, metadata)
        sides = generator.width, generator.height
        logger.info("StyleGAN Fusion read %s: %s, %d x %d pixels", file, checkpoint.format, *sides)
    return named
