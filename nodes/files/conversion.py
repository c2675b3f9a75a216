"""The node that converts checkpoints."""

from comfy_api.v0_0_2 import io

from ...stylegan import SUFFIXES, with_crop, write_generator
from .. import outputs
from ..host import folders
from ..host.server import answer
from ..inputs import complaint
from ..types import CATEGORY, GeneratorType, NamedGenerator, aliases
from .loaded import load_named


class ConvertCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionConvertCheckpoint",
            display_name="Convert Checkpoint",
            category=CATEGORY,
            **aliases("stylegan", "gan", "export", "pkl", "pt", "safetensors", "rosinality"),
            description="Writes a generator of any known format to output/stylegan as safetensors, or as a .pt in "
            "rosinality's layout for other programs.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folders.generator_names(),
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
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, file, ending, filename_prefix, crop):
        answers = (
            complaint(folders.generator_path, file),
            complaint(outputs.new_path, folders.output_folder(), filename_prefix, ending),
            complaint(with_crop, {}, crop),
        )
        return next((answer for answer in answers if answer is not True), True)

    @classmethod
    def fingerprint_inputs(cls, file, **_):
        return file and folders.state_of(file)

    @classmethod
    def execute(cls, file, ending, filename_prefix, license_note, crop) -> io.NodeOutput:
        source = load_named(file)
        metadata = with_crop(source.metadata, crop)
        if license_note.strip():
            metadata["license"] = license_note.strip()
        with outputs.claimed(folders.output_folder(), filename_prefix, ending) as path:
            write_generator(source.generator, path, metadata)
        written = NamedGenerator(source.generator, source.name, metadata)
        return io.NodeOutput(written, ui=answer(cls.hidden.unique_id, outputs.saved_as(folders.output_folder(), path)))
