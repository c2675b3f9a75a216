"""The node that loads the miniature world."""

import torch
from comfy_api.v0_0_2 import io

from ...miniature import GENERATOR
from ...stylegan import load_checkpoint
from ..host.compatibility import incompatible
from ..types import CATEGORY, GeneratorType, NamedGenerator, aliases


class LoadMiniature(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLoadMiniature",
            display_name="Load Miniature",
            category=CATEGORY,
            **aliases("stylegan", "quick start", "demo", "tiny", "example", "toy"),
            description="Loads a tiny Stable Diffusion and a generator of drawn persons that come with this pack: "
            "everything else works on them in minutes, on any computer. It knows portraits of a person, cat, fox, robot, "
            "zombie and doll, 64 pixels wide (an Empty Latent Image of 128 x 128 gives one).",
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="A diffusion model of the Stable Diffusion 1 family."),
                io.Clip.Output(
                    display_name="clip",
                    tooltip="Encodes prompts. It knows a few hundred words; a portrait of a fox is what it is made for.",
                ),
                io.Vae.Output(
                    display_name="vae",
                    tooltip="Belongs to the model: an Empty Latent Image of 128 x 128 gives 64 pixels.",
                ),
                GeneratorType.Output(display_name="generator", tooltip="A StyleGAN2 of persons, 64 pixels wide."),
                io.ClipVision.Output(
                    display_name="clip_vision",
                    tooltip="Sees what clip can name in a portrait: with it for CLIP score in Evaluate Generator.",
                ),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        try:
            from ..host.native_miniature import load_clip, load_clip_vision, load_model, load_vae

            model, clip, vae, clip_vision = load_model(), load_clip(), load_vae(), load_clip_vision()
        except (ImportError, AttributeError) as error:
            raise incompatible(error) from error
        with torch.inference_mode(False):
            checkpoint = load_checkpoint(GENERATOR)
        generator = NamedGenerator(checkpoint.generator, "miniature", checkpoint.metadata)
        return io.NodeOutput(model, clip, vae, generator, clip_vision)
