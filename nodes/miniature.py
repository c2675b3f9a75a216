"""The node that loads the miniature world."""

import torch
from comfy_api.v0_0_2 import io

from ..miniature import GENERATOR
from ..stylegan import load_checkpoint
from .compatibility import incompatible
from .types import CATEGORY, GeneratorType, NamedGenerator


class LoadMiniature(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLoadMiniature",
            display_name="Load Miniature",
            category=CATEGORY,
            description="Loads a tiny Stable Diffusion and a generator of drawn persons that come with this pack: "
            "everything else works on them in minutes, on any computer. It knows portraits of a person, cat, fox, robot, "
            "zombie and doll, 64 pixels wide (an Empty Latent Image of 128 x 128 gives one).",
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="A diffusion model of the Stable Diffusion 1 family."),
                io.Clip.Output(display_name="clip", tooltip="Knows a few hundred words."),
                io.Vae.Output(display_name="vae"),
                GeneratorType.Output(display_name="generator", tooltip="A StyleGAN2 of persons, 64 pixels wide."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        try:
            from .native_miniature import load_clip, load_model, load_vae

            model, clip, vae = load_model(), load_clip(), load_vae()
        except (ImportError, AttributeError) as error:
            raise incompatible(error) from error
        with torch.inference_mode(False):
            checkpoint = load_checkpoint(GENERATOR)
        return io.NodeOutput(model, clip, vae, NamedGenerator(checkpoint.generator, "miniature", checkpoint.metadata))
