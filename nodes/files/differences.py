"""Nodes that keep what was trained of a generator by itself, and add it again."""

from comfy_api.v0_0_2 import io

from ...stylegan import SUFFIX, difference, difference_metadata, load_difference, save_difference, with_differences
from .. import outputs
from ..host import folders
from ..host.server import answer
from ..inputs import complaint
from ..types import CATEGORY, GeneratorType, NamedGenerator, aliases


class SaveDifference(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionSaveDifference",
            display_name="Save Difference",
            category=CATEGORY,
            **aliases("stylegan", "delta", "style vector", "lora", "export", "safetensors"),
            description="Saves only what an adapted generator has that its source has not, in output/stylegan: 40 kB of a "
            "training of styles, 5 MB for a layer of a large generator. Apply Difference adds it to the source again.",
            inputs=[
                GeneratorType.Input("generator", tooltip="The adapted generator, from Train Generator."),
                GeneratorType.Input("source", tooltip="The generator that the training began with."),
                io.String.Input(
                    "filename_prefix",
                    default="domain",
                    tooltip=f"Name of the file in output/stylegan; a number and {SUFFIX} are added. A / makes a sub-folder, "
                    "%date% is today.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix):
        return complaint(outputs.new_path, folders.output_folder(), filename_prefix, SUFFIX)

    @classmethod
    def execute(cls, generator, source, filename_prefix) -> io.NodeOutput:
        metadata = {**generator.metadata, "source": source.name}
        found = difference(source.generator, generator.generator, metadata)
        with outputs.claimed(folders.output_folder(), filename_prefix, SUFFIX, graph=cls.hidden.prompt) as path:
            save_difference(found, path)
        return io.NodeOutput(ui=answer(cls.hidden.unique_id, outputs.saved_as(folders.output_folder(), path)))


class ApplyDifference(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionApplyDifference",
            display_name="Apply Difference",
            category=CATEGORY,
            **aliases("stylegan", "delta", "style vector", "lora", "load difference", "domain slider"),
            description="Adds what Save Difference kept to a generator: at once, and in the memory of what was changed. Put "
            "several in a row to mix them.",
            inputs=[
                GeneratorType.Input(
                    "generator",
                    tooltip="The generator that the difference was made from, or a sibling of the same sizes.",
                ),
                io.Combo.Input(
                    "file",
                    options=folders.difference_names(),
                    tooltip="A file in models/stylegan or, behind output/, in output/stylegan; press R for new files. Those of the "
                    "miniature come with this pack.",
                ),
                io.Float.Input(
                    "amount",
                    default=1.0,
                    min=-2.0,
                    max=3.0,
                    step=0.05,
                    tooltip="1 is the domain as it was trained, 0 the generator as it is, 0.5 half the way, above 1 exaggerates.",
                ),
            ],
            outputs=[
                GeneratorType.Output(
                    display_name="generator",
                    tooltip="For Sample Generator, Mix Domains, another Apply Difference and others.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, file):
        return complaint(folders.difference_path, file)

    @classmethod
    def fingerprint_inputs(cls, file, amount=1.0):
        return file and f"{folders.state_of_file(folders.difference_path(file))} {amount}"

    @classmethod
    def execute(cls, generator, file, amount) -> io.NodeOutput:
        one = load_difference(folders.difference_path(file))
        result = with_differences(generator.generator, [(one, amount)])
        metadata = difference_metadata((generator.name, generator.metadata), [(file, one.metadata, amount)])
        return io.NodeOutput(NamedGenerator(result, generator.name, metadata))
