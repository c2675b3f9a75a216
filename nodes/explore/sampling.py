"""The node that samples images."""

from comfy_api.v0_0_2 import io

from ..drawing import draw, sampled
from ..inputs import advanced, class_input, cutoff_input, noise_input, psi_input, seed_input
from ..types import CATEGORY, GeneratorType, aliases
from .cameras import camera_input


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
                advanced(noise_input()),
                class_input(),
                camera_input(
                    "From where a generator that draws in 3D is looked at; Orbit gives several images of each."
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="As large as the generator draws them; the same latents in the same order.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, generator, seed, count, truncation_psi, truncation_cutoff, noise, class_index=-1, camera=None
    ) -> io.NodeOutput:
        latents = sampled(generator, seed, count, truncation_psi, truncation_cutoff, class_index)
        return io.NodeOutput(draw(generator, latents.ws, noise, seed, camera))
