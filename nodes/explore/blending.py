"""Nodes that make one generator of several."""

from comfy_api.v0_0_2 import io

from ...stylegan import blend_metadata, blended, difference_metadata, mixed
from ..types import GeneratorType, NamedGenerator, aliases
from .codes import EXPLORE

ALL, SWAP = "all weights", "swap layers"
RESOLUTIONS = [str(2**i) for i in range(3, 11)]


class BlendGenerators(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionBlendGenerators",
            display_name="Blend Generators",
            category=EXPLORE,
            description="Makes one generator of two that are built alike, such as a generator and what was adapted from it: a "
            "bit of both in every layer, or the coarse layers (pose, shape) of the first with the fine layers (colours, "
            "texture) of the second.",
            inputs=[
                GeneratorType.Input("first", tooltip="Gives the coarse layers and, with swap layers, the mapping."),
                GeneratorType.Input("second", tooltip="Gives the fine layers. For the reverse, exchange the two."),
                io.Combo.Input(
                    "mode",
                    options=[ALL, SWAP],
                    default=ALL,
                    tooltip="all weights: the same share of both in every weight. swap layers: the second from swap_from on.",
                ),
                io.Float.Input(
                    "weight",
                    default=0.5,
                    min=-1.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Share of the second: 0 is the first alone, 1 the second, above 1 exaggerates the difference. "
                    "With swap layers the share in the layers that are swapped: 1 is usual.",
                ),
                io.Combo.Input(
                    "swap_from",
                    options=RESOLUTIONS,
                    default="16",
                    tooltip="For swap layers: the second draws what is this many pixels over the image or finer. 16 or 32 "
                    "keep the first one's pose and shape and take the second one's look.",
                ),
                io.Float.Input(
                    "softness",
                    default=0.0,
                    min=0.0,
                    max=8.0,
                    step=0.5,
                    tooltip="For swap layers: how many layers the change takes on each side of the border. 0 is a sharp one.",
                ),
                io.Int.Input(
                    "swap_layer",
                    default=-1,
                    min=-1,
                    max=64,
                    optional=True,
                    tooltip="For swap layers: the number of the first layer of the second generator, in place of swap_from; 0 "
                    "is the coarsest. -1 goes by swap_from.",
                ),
            ],
            outputs=[
                GeneratorType.Output(
                    display_name="generator", tooltip="For Sample Generator, Save Generator and others."
                )
            ],
            **aliases("stylegan", "merge", "layer swap", "toonify", "interpolate"),
        )

    @classmethod
    def execute(cls, first, second, mode, weight, swap_from, softness, swap_layer=-1) -> io.NodeOutput:
        swap = {} if mode == ALL else {"swap_from": int(swap_from), "softness": softness}
        if mode == SWAP and swap_layer >= 0:
            swap["swap_layer"] = swap_layer
        blend, said = blended(first.generator, second.generator, weight, **swap)
        metadata = blend_metadata((first.name, first.metadata), (second.name, second.metadata), said)
        return io.NodeOutput(NamedGenerator(blend, f"{first.name} with {second.name}", metadata))


class MixDomains(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        def amount(name: str, default: float, optional: bool = False) -> io.Input:
            return io.Float.Input(
                name,
                default=default,
                min=-2.0,
                max=3.0,
                step=0.05,
                optional=optional,
                tooltip="How much of it is added: 1 is all of it, 0 nothing, above 1 exaggerates, below 0 leads away.",
            )

        adapted = "adapted from the source, or loaded with it by Apply Difference."
        return io.Schema(
            node_id="StyleGANFusionMixDomains",
            display_name="Mix Domains",
            category=EXPLORE,
            description="Adds up what generators have learned that began as the same one: a little zombie, a little doll. "
            "Nothing is trained. Domains that were learned as styles (Layer Select) mix best.",
            inputs=[
                GeneratorType.Input("source", tooltip="The generator that both were adapted from."),
                GeneratorType.Input("first", tooltip=f"A generator {adapted}"),
                amount("first_amount", 0.5),
                GeneratorType.Input("second", tooltip=f"Another {adapted}"),
                amount("second_amount", 0.5),
                GeneratorType.Input("third", optional=True, tooltip=f"One more, {adapted}"),
                amount("third_amount", 0.5, optional=True),
            ],
            outputs=[
                GeneratorType.Output(
                    display_name="generator", tooltip="For Sample Generator, Save Generator and others."
                )
            ],
            **aliases("stylegan", "merge", "style vector", "styledomain", "task arithmetic", "interpolate"),
        )

    @classmethod
    def execute(cls, source, first, first_amount, second, second_amount, third=None, third_amount=0.5) -> io.NodeOutput:
        parts = [(first, first_amount), (second, second_amount), *([(third, third_amount)] if third else [])]
        generator = mixed(source.generator, [(one.generator, amount) for one, amount in parts])
        metadata = difference_metadata(
            (source.name, source.metadata), [(one.name, one.metadata, amount) for one, amount in parts]
        )
        return io.NodeOutput(NamedGenerator(generator, source.name, metadata))
