"""Nodes that load, save and sample generators."""

from comfy_api.v0_0_2 import io

from ..stylegan import save_generator
from . import files
from .adapter import answer
from .drawing import draw
from .exploring import sampled
from .inputs import class_input, complaint, cutoff_input, noise_input, psi_input, seed_input
from .loaded import load_named
from .types import CATEGORY, GeneratorType, aliases


class LoadGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLoadGenerator",
            display_name="Load StyleGAN2",
            category=CATEGORY,
            **aliases("stylegan", "stylegan3", "gan", "load generator", "checkpoint", "pkl", "pt", "safetensors"),
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
        return complaint(files.generator_path, file)

    @classmethod
    def fingerprint_inputs(cls, file):
        return file and files.state_of(file)

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
            **aliases("stylegan", "gan", "export", "safetensors", "write"),
            description="Saves a generator as safetensors in output/stylegan, with its history as metadata. "
            "Load StyleGAN2 loads it again.",
            inputs=[
                GeneratorType.Input(
                    "generator", tooltip="The generator to save, from Train Generator or any other node that gives one."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="generator",
                    tooltip="Name of the file in output/stylegan; a number is added. A / makes a sub-folder.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix):
        return complaint(files.new_path, filename_prefix)

    @classmethod
    def execute(cls, generator, filename_prefix) -> io.NodeOutput:
        with files.claimed(filename_prefix) as path:
            save_generator(generator.generator, path, generator.metadata)
        return io.NodeOutput(ui=answer(cls.hidden.unique_id, files.saved_as(path)))


class SampleGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionSampleGenerator",
            display_name="Sample Generator",
            category=CATEGORY,
            **aliases("stylegan", "gan", "generate", "seed", "truncation", "psi"),
            description="Draws images with a generator: milliseconds each on a GPU.",
            inputs=[
                GeneratorType.Input("generator", tooltip="A loaded or an adapted generator."),
                seed_input(
                    "seed",
                    0,
                    "The same seed gives the same latents, also with an adapted generator: compare before and after.",
                ),
                io.Int.Input("count", default=16, min=1, max=4096, tooltip="Number of images, 1 to 4096."),
                psi_input(1.0),
                cutoff_input(),
                noise_input(),
                class_input(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="As large as the generator draws them; the same latents in the same order.",
                )
            ],
        )

    @classmethod
    def execute(cls, generator, seed, count, truncation_psi, truncation_cutoff, noise, class_index=-1) -> io.NodeOutput:
        latents = sampled(generator, seed, count, truncation_psi, truncation_cutoff, class_index)
        return io.NodeOutput(draw(generator, latents.ws, noise))
