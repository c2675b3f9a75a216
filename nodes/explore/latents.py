"""Nodes that sample, pick and draw latents."""

import math

import torch
from comfy_api.v0_0_2 import io
from PIL import Image

from ...metrics.figures import sample_grid
from ...stylegan import parse_codes
from ..drawing import draw, picture_image, sampled, truncated
from ..inputs import class_input, codes_psi_input, complaint, cutoff_input, noise_input, psi_input, seed_input
from ..types import GeneratorType, Latents, LatentsType, aliases
from .cameras import camera_input
from .codes import EXPLORE, fitting, shared_mapping, tell_of_another_mapping

LARGEST = 8192
"""Pixels of a side of a picture of all latents."""


class SampleLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionSampleLatents",
            display_name="Sample Latents",
            category=EXPLORE,
            description="Draws random latents (W+ codes) of a generator, the same that Sample Generator draws with these "
            "settings: to mix, edit, walk between, and draw with any generator adapted from this one.",
            inputs=[
                GeneratorType.Input("generator", tooltip="Whose latents: its mapping makes them."),
                seed_input("seed", 0, "The same seed gives the same latents as in Sample Generator."),
                io.Int.Input("count", default=4, min=1, max=4096, tooltip="Number of latents."),
                psi_input(1.0),
                cutoff_input(),
                class_input(),
            ],
            outputs=[LatentsType.Output(display_name="latents", tooltip="For Draw Latents and the nodes that edit.")],
            **aliases("stylegan", "seed", "w+", "mapping"),
        )

    @classmethod
    def execute(cls, generator, seed, count, truncation_psi, truncation_cutoff, class_index=-1) -> io.NodeOutput:
        return io.NodeOutput(sampled(generator, seed, count, truncation_psi, truncation_cutoff, class_index))


class PickLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionPickLatents",
            display_name="Pick Latents",
            category=EXPLORE,
            description="Picks latents by their numbers, and joins those of two nodes: for example the faces you like best, "
            "and your own photo, as the keyframes of a walk.",
            inputs=[
                LatentsType.Input("latents", tooltip="From Sample Latents, Project Image or another node."),
                io.String.Input(
                    "numbers",
                    default="",
                    tooltip="Which to keep, as 0, 3, 5-7, each once and in rising order: 0 is the first one. Empty keeps all.",
                ),
                LatentsType.Input(
                    "more_latents", optional=True, tooltip="Come after the first ones and count on from them."
                ),
            ],
            outputs=[LatentsType.Output(display_name="picked", tooltip="The latents that were picked.")],
            **aliases("stylegan", "select", "join", "batch"),
        )

    @classmethod
    def validate_inputs(cls, numbers):
        return complaint(_numbers, numbers)

    @classmethod
    def execute(cls, latents, numbers, more_latents=None) -> io.NodeOutput:
        ws, mapping, description = latents.ws, latents.mapping, latents.description
        if more_latents is not None:
            if more_latents.ws.shape[1:] != ws.shape[1:]:
                raise ValueError("These latents are of generators of different sizes; join those of one generator.")
            ws, description = torch.cat([ws, more_latents.ws]), f"{description}; {more_latents.description}"
            mapping = shared_mapping(latents, more_latents)
        if chosen := _numbers(numbers):
            if chosen[-1] >= len(ws):
                raise ValueError(f"There is no latent {chosen[-1]}: there are {len(ws)}, numbered 0 to {len(ws) - 1}.")
            ws, description = ws[list(chosen)], f"numbers {numbers.strip()} of {description}"
        return io.NodeOutput(Latents(ws, mapping, description))


def _numbers(text: str) -> tuple[int, ...]:
    """Read which latents to keep, () for all. Raises ValueError for what is no list."""
    try:
        return parse_codes(text) if text.strip() else ()
    except ValueError:
        raise ValueError(f"The numbers {text!r} are no list; write for example 0, 3, 5-7.") from None


class DrawLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionDrawLatents",
            display_name="Draw Latents",
            category=EXPLORE,
            description="Draws latents with any generator of their size. Latents found or made with one generator keep "
            "their meaning in those adapted from it: project a photo, and draw it as a werewolf.",
            inputs=[
                GeneratorType.Input("generator", tooltip="The one that the latents belong to, or one adapted from it."),
                LatentsType.Input("latents", tooltip="From Sample Latents, Project Image or another node."),
                noise_input(),
                camera_input(
                    "From where a generator that draws in 3D is looked at; Orbit gives several images of each."
                ),
                codes_psi_input(),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="One for each latent and each camera, in order."),
                io.Image.Output(
                    display_name="rows",
                    tooltip="One picture of all: a strip of Edit Latents is a row, and so is one of Style Mixing.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            **aliases("stylegan", "synthesis", "render", "decode"),
        )

    @classmethod
    def execute(cls, generator, latents, noise, camera=None, truncation_psi=1.0) -> io.NodeOutput:
        ws = truncated(generator, fitting(generator, latents), truncation_psi)
        tell_of_another_mapping(cls.hidden.unique_id, generator, latents)
        images = draw(generator, ws, noise, views=camera)
        columns = latents.columns if camera is None or len(camera) == 1 else len(camera)
        return io.NodeOutput(images, picture_image(_rows(images, columns)))


def _rows(images: torch.Tensor, columns: int) -> Image.Image:
    """Draw images [N, H, W, 3] in rows of so many, 0 for about as many rows; a picture of at most LARGEST pixels a side."""
    columns = columns if columns > 1 else math.ceil(math.sqrt(len(images)))
    cell = max(16, min(256, LARGEST // max(columns, math.ceil(len(images) / columns))))
    return sample_grid(images.movedim(-1, 1) * 2 - 1, columns, cell)
