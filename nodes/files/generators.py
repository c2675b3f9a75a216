"""Nodes that load and save generators."""

from comfy_api.v0_0_2 import io

from ...stylegan import save_generator
from .. import outputs
from ..host import folders
from ..host.server import answer
from ..inputs import complaint
from ..types import CATEGORY, GeneratorType, aliases
from .loaded import load_named


class LoadGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLoadGenerator",
            display_name="Load StyleGAN2",
            category=CATEGORY,
            **aliases(
                "stylegan", "stylegan3", "eg3d", "gan", "load generator", "checkpoint", "pkl", "pt", "safetensors"
            ),
            description="Loads a StyleGAN2, StyleGAN3 or EG3D generator from models/stylegan, or one that you adapted from "
            "output/stylegan: safetensors of this pack, and what the StyleGAN programs and encoders write (.pkl, .pt, "
            ".pth, .safetensors). Nothing in a file is ever executed.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folders.generator_names(),
                    tooltip="A file in models/stylegan or, behind output/, in output/stylegan. Press R for new files.",
                )
            ],
            outputs=[
                GeneratorType.Output(display_name="generator", tooltip="For Train Generator and Sample Generator.")
            ],
        )

    @classmethod
    def validate_inputs(cls, file):
        return complaint(folders.generator_path, file)

    @classmethod
    def fingerprint_inputs(cls, file):
        return file and folders.state_of(file)

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
                    tooltip="Name of the file in output/stylegan; a number is added. A / makes a sub-folder, %date% is today, "
                    "%Train Generator.seed% what the node of that title has there.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix):
        return complaint(outputs.new_path, folders.output_folder(), filename_prefix)

    @classmethod
    def execute(cls, generator, filename_prefix) -> io.NodeOutput:
        with outputs.claimed(folders.output_folder(), filename_prefix, graph=cls.hidden.prompt) as path:
            save_generator(generator.generator, path, generator.metadata)
        return io.NodeOutput(ui=answer(cls.hidden.unique_id, outputs.saved_as(folders.output_folder(), path)))
