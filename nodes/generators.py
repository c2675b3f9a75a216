"""Nodes that load, save, convert and sample generators."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from comfy_api.v0_0_2 import io, ui

from ..stylegan import (
    NOISE_MODES,
    SUFFIXES,
    Crop,
    Generator,
    crop_of,
    load_checkpoint,
    provenance,
    render_samples,
    sample_z,
    save_generator,
    with_crop,
    write_generator,
)
from . import files
from .adapter import torch_device
from .types import CATEGORY, GeneratorType, NamedGenerator

logger = logging.getLogger(__name__)


def to_image(images: torch.Tensor, crop: Crop | None = None) -> torch.Tensor:
    """What counts of images [B, 3, R, R] in [-1, 1], as the host's IMAGE [B, H, W, 3] in [0, 1]."""
    images = images if crop is None else crop.apply(images)
    return (images.clamp(-1, 1) + 1).div(2).movedim(1, -1).float().cpu()


def render_on(device, generator: Generator, z: torch.Tensor, *options) -> torch.Tensor:
    """`render_samples` on `device`; the generator goes back to where it was."""
    with at(device, generator):
        return render_samples(generator, z, *options)


@contextmanager
def at(device, generator: Generator) -> Iterator[None]:
    home = next(generator.parameters()).device
    generator.to(device)
    try:
        yield
    finally:
        generator.to(home)


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


def class_number(class_index: int) -> int | None:
    """The nodes' number of a class, -1 for none in particular."""
    return None if class_index < 0 else class_index


def class_input() -> io.Int.Input:
    return io.Int.Input(
        "class_index",
        optional=True,  # came later: graphs saved before it stay valid
        default=-1,
        min=-1,
        max=65535,
        tooltip="For generators with classes (CIFAR-10 has 0 to 9): the one to draw. -1 takes all classes. Others ignore -1.",
    )


class LoadGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLoadGenerator",
            display_name="Load StyleGAN2",
            category=CATEGORY,
            search_aliases=["stylegan3", "stylegan", "pkl"],
            description="Loads a StyleGAN2 or StyleGAN3 generator from models/stylegan, or one that you adapted from "
            "output/stylegan: safetensors of this pack, .pt in rosinality's layout, .pkl of NVlabs' programs. Nothing in "
            "a file is ever executed.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=files.generator_names(),
                    tooltip="A file in models/stylegan or, behind output/, in output/stylegan. Press R for new files.",
                )
            ],
            outputs=[
                GeneratorType.Output(display_name="generator", tooltip="For Train Generator and Sample Generator.")
            ],
        )

    @classmethod
    def validate_inputs(cls, file):
        try:
            files.generator_path(file)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file):
        return files.state_of(file)

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        return io.NodeOutput(load_named(file))


class ConvertCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionConvertCheckpoint",
            display_name="Convert Checkpoint",
            category=CATEGORY,
            description="Writes a generator of any known format to output/stylegan as safetensors, or as a .pt in "
            "rosinality's layout for other programs.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=files.generator_names(),
                    tooltip="A file in models/stylegan or, behind output/, in output/stylegan. Press R for new files.",
                ),
                io.Combo.Input(
                    "ending",
                    options=list(SUFFIXES),
                    default=SUFFIXES[0],
                    tooltip=".safetensors for this pack. .pt for programs that read rosinality's StyleGAN2 (StyleGAN-NADA, "
                    "pixel2style2pixel and others), for unconditional StyleGAN2 only.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="converted",
                    tooltip="Name of the file in output/stylegan; a number is added. A / makes a sub-folder.",
                ),
                io.String.Input(
                    "license_note",
                    default="",
                    tooltip="Stands in the file's metadata, and in those of generators adapted from it. Empty keeps what "
                    "the source says.",
                ),
                io.String.Input(
                    "crop",
                    default="auto",
                    tooltip="The part of the pictures that counts, in the middle, as 512x384 for LSUN cars. auto looks "
                    "for black bars, none takes the square.",
                ),
            ],
            outputs=[GeneratorType.Output(display_name="generator", tooltip="The generator as it was written.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, file, ending, filename_prefix, crop):
        try:
            files.generator_path(file)
            files.new_path(filename_prefix, ending)
            with_crop({}, crop)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file, **_):
        return files.state_of(file)

    @classmethod
    def execute(cls, file, ending, filename_prefix, license_note, crop) -> io.NodeOutput:
        source = load_named(file)
        metadata = with_crop(source.metadata, crop)
        if license_note.strip():
            metadata["license"] = license_note.strip()
        path = files.new_path(filename_prefix, ending)
        write_generator(source.generator, path, metadata)
        written = NamedGenerator(source.generator, source.name, metadata)
        return io.NodeOutput(written, ui=saved_text(path))


class SaveGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionSaveGenerator",
            display_name="Save Generator",
            category=CATEGORY,
            description="Saves a generator as safetensors in output/stylegan, with its history as metadata. "
            "Load StyleGAN2 loads it again.",
            inputs=[
                GeneratorType.Input("generator", tooltip="The generator to save."),
                io.String.Input(
                    "filename_prefix",
                    default="generator",
                    tooltip="Name of the file in output/stylegan; a number is added. A / makes a sub-folder.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix):
        try:
            files.new_path(filename_prefix)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, generator, filename_prefix) -> io.NodeOutput:
        path = files.new_path(filename_prefix)
        save_generator(generator.generator, path, generator.metadata)
        return io.NodeOutput(ui=saved_text(path))


def saved_text(path: Path) -> ui.PreviewText:
    return ui.PreviewText(f"Saved as {path.relative_to(files.output_folder().parent).as_posix()}")


class SampleGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionSampleGenerator",
            display_name="Sample Generator",
            category=CATEGORY,
            description="Draws images with a generator: milliseconds each on a GPU.",
            inputs=[
                GeneratorType.Input("generator", tooltip="A loaded or an adapted generator."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=True,
                    tooltip="The same seed gives the same latents, also with an adapted generator: compare before and after.",
                ),
                io.Int.Input("count", default=16, min=1, max=4096, tooltip="Number of images."),
                io.Float.Input(
                    "truncation_psi",
                    default=1.0,
                    min=-2.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Below 1 the images come nearer to the average: fewer oddities, less variety. 0.7 is common.",
                ),
                io.Int.Input(
                    "truncation_cutoff",
                    default=0,
                    min=0,
                    max=18,
                    tooltip="Truncate only this many layers, from the coarse end. 0 truncates all.",
                ),
                io.Combo.Input(
                    "noise",
                    options=list(NOISE_MODES),
                    default="const",
                    tooltip="Fine detail: const is the same for every image, random is new each time, none is smooth. "
                    "StyleGAN3 has no noise.",
                ),
                class_input(),
            ],
            outputs=[io.Image.Output(display_name="images")],
        )

    @classmethod
    def execute(cls, generator, seed, count, truncation_psi, truncation_cutoff, noise, class_index=-1) -> io.NodeOutput:
        z = sample_z(generator.generator.z_dim, count, seed)
        with torch.inference_mode(False):
            options = truncation_psi, truncation_cutoff or None, noise, class_number(class_index)
            images = render_on(torch_device(), generator.generator, z, *options)
        return io.NodeOutput(to_image(images, crop_of(generator.metadata)))
