"""The node that loads the miniature world."""

import torch
from comfy_api.v0_0_2 import io

from ...miniature import GENERATORS
from ...miniature.factors import sample_factors
from ...miniature.ink import render_ink
from ...miniature.lora import GOLDEN_STATUE
from ...stylegan import load_checkpoint
from ..drawing import to_image
from ..host.compatibility import incompatible
from ..host.loras import with_lora
from ..inputs import seed_input
from ..types import CATEGORY, GeneratorType, NamedGenerator, aliases

MINIATURE_LORA = "StyleGANFusionMiniatureLoRA"


class LoadMiniature(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLoadMiniature",
            display_name="Load Miniature",
            category=CATEGORY,
            **aliases("stylegan", "quick start", "demo", "tiny", "example", "toy"),
            description="Loads a tiny Stable Diffusion and generators of drawn persons and cats, and of heads in 3D, that come with this pack: "
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
                GeneratorType.Output(display_name="cats", tooltip="A StyleGAN2 of cats, 64 pixels wide."),
                GeneratorType.Output(
                    display_name="heads",
                    tooltip="An EG3D of persons, 64 pixels wide, whom Camera shows from other sides.",
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
            persons, cats, heads = (_named(name) for name in GENERATORS)
        return io.NodeOutput(model, clip, vae, persons, clip_vision, cats, heads)


class MiniatureLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id=MINIATURE_LORA,
            display_name="Miniature LoRA",
            category=CATEGORY,
            **aliases("lora", "golden statue", "demo", "example"),
            description="Puts the LoRA that comes with this pack on the miniature's model: it turns persons into golden "
            "statues. Your own LoRAs go through ComfyUI's Load LoRA.",
            inputs=[
                io.Model.Input("model", tooltip="The model of Load Miniature."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-20.0,
                    max=20.0,
                    step=0.05,
                    tooltip="How much it changes the model; 0 leaves it alone.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For SDS Guidance, and for the stock samplers.")],
        )

    @classmethod
    def execute(cls, model, strength) -> io.NodeOutput:
        return io.NodeOutput(with_lora(model, GOLDEN_STATUE, strength))


class MiniatureDrawings(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionMiniatureDrawings",
            display_name="Miniature Drawings",
            category=CATEGORY,
            **aliases("ink", "pictures", "dataset", "domain", "demo", "example"),
            description="Draws portraits with ink: a style that the miniature's model has never seen and no word of its names, "
            "to try Train Domain on. Your own pictures come from Load Image, or from a folder in Train Domain.",
            inputs=[
                io.Int.Input(
                    "count", default=30, min=1, max=1000, tooltip="Number of drawings; 30 are enough to learn from."
                ),
                seed_input("seed", 0, "The same seed gives the same drawings.", "fixed"),
            ],
            outputs=[io.Image.Output(display_name="drawings", tooltip="For images of Train Domain. 64 pixels wide.")],
        )

    @classmethod
    def execute(cls, count, seed) -> io.NodeOutput:
        with torch.inference_mode(False):
            drawn = render_ink(sample_factors(count, torch.Generator().manual_seed(seed), "person"))
        return io.NodeOutput(to_image(drawn))


def _named(name: str) -> NamedGenerator:
    checkpoint = load_checkpoint(GENERATORS[name])
    return NamedGenerator(checkpoint.generator, name, checkpoint.metadata)
