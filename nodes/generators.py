"""Nodes that load, save and sample generators."""

import torch
from comfy_api.v0_0_2 import io

from ..stylegan import NOISE_MODES, crop_of, sample_z, save_generator
from . import files
from .adapter import torch_device
from .drawing import class_input, class_number, render_on, to_image
from .loaded import load_named
from .types import CATEGORY, GeneratorType


class LoadGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLoadGenerator",
            display_name="Load StyleGAN2",
            category=CATEGORY,
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
        return io.NodeOutput(ui=files.saved_text(path))


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
