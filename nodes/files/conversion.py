"""The node that converts checkpoints."""

from comfy_api.v0_0_2 import io

from ...stylegan import SUFFIXES, WRITTEN, with_crop, write_generator
from .. import outputs
from ..host import folders
from ..host.server import answer
from ..inputs import complaint, first_complaint, known_choice
from ..types import CATEGORY, GeneratorType, NamedGenerator, aliases
from .loaded import load_named


class ConvertCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionConvertCheckpoint",
            display_name="Convert Checkpoint",
            category=CATEGORY,
            **aliases("stylegan", "gan", "export", "pkl", "pt", "safetensors", "rosinality", "nvlabs"),
            description="Writes a generator of any known format to output/stylegan as safetensors, or as a .pt in the layout "
            "of other programs.",
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
                    tooltip=".safetensors for this pack. .pt for other programs, in their layout.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="converted",
                    tooltip="Name of the file in output/stylegan; a number is added. A / makes a sub-folder, %date% is today, "
                    "%Train Generator.seed% what the node of that title has there.",
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
                    "for black bars, none takes all.",
                ),
                io.Combo.Input(
                    "layout",
                    optional=True,  # came later: graphs saved before it stay valid
                    options=list(WRITTEN),
                    default=next(iter(WRITTEN)),
                    tooltip="Of a .pt. rosinality: for StyleGAN-NADA, pixel2style2pixel and many others, unconditional "
                    "StyleGAN2 of the usual sizes only. nvlabs: a state dictionary for the classes of NVlabs' programs, "
                    "StyleGAN2 and 3.",
                ),
            ],
            outputs=[GeneratorType.Output(display_name="generator", tooltip="The generator as it was written.")],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, file, ending, filename_prefix, crop):
        return first_complaint(
            complaint(folders.generator_path, file),
            known_choice("ending", ending, SUFFIXES),
            complaint(outputs.new_path, folders.output_folder(), filename_prefix, ending),
            complaint(with_crop, {}, crop),
        )

    @classmethod
    def fingerprint_inputs(cls, file, **_):
        return file and folders.state_of(file)

    @classmethod
    def execute(cls, file, ending, filename_prefix, license_note, crop, layout="rosinality") -> io.NodeOutput:
        source = load_named(file)
        metadata = with_crop(source.metadata, crop)
        if license_note.strip():
            metadata["license"] = license_note.strip()
        with outputs.claimed(folders.output_folder(), filename_prefix, ending, cls.hidden.prompt) as path:
            write_generator(source.generator, path, metadata, layout if ending == ".pt" else None)
        written = NamedGenerator(source.generator, source.name, metadata)
        return io.NodeOutput(written, ui=answer(cls.hidden.unique_id, outputs.saved_as(folders.output_folder(), path)))
