"""The nodes of the zoo."""

import comfy.supported_models
from comfy_api.v0_0_2 import ComfyExtension, io

from .families import FAMILIES


class TinyModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        known = [name for name, family in FAMILIES.items() if hasattr(comfy.supported_models, family.config)]
        return io.Schema(
            node_id="TinyModel",
            display_name="Tiny Model",
            category="testing",
            inputs=[io.Combo.Input("family", options=known), io.Int.Input("seed", default=0)],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Vae.Output(display_name="vae"),
                io.Conditioning.Output(display_name="positive"),
                io.Conditioning.Output(display_name="negative"),
                io.Conditioning.Output(display_name="other positive"),
            ],
        )

    @classmethod
    def execute(cls, family, seed) -> io.NodeOutput:
        from . import tiny, vaes

        family = FAMILIES[family]
        prompts = (tiny.conditioning(family, seed + k) for k in range(3))
        return io.NodeOutput(tiny.model(family, seed), vaes.vae(family.vae, seed), *prompts)


class SeveralTexts(io.ComfyNode):
    """Whatever comes behind it runs once for each line."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SeveralTexts",
            display_name="Several Texts",
            category="testing",
            inputs=[io.String.Input("lines", multiline=True)],
            outputs=[io.String.Output(display_name="text", is_output_list=True)],
        )

    @classmethod
    def execute(cls, lines) -> io.NodeOutput:
        return io.NodeOutput(lines.splitlines())


class Zoo(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TinyModel, SeveralTexts]
