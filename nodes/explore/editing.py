"""Nodes that mix and edit latents, and walk between them."""

import torch
from comfy_api.v0_0_2 import io

from ...metrics.figures import mixing_grid
from ...stylegan import (
    PATHS,
    edit_codes,
    mapping_digest,
    mix_styles,
    sample_z,
    walk_codes,
)
from ..drawing import draw, picture_image, sampled
from ..inputs import advanced, at_least, class_input, class_number, noise_input, psi_input, seed_input
from ..types import GeneratorType, Latents, LatentsType, aliases
from .codes import (
    EXPLORE,
    check_layers,
    chosen_codes,
    fitting,
    layers_inputs,
    shared_mapping,
    tell_of_another_mapping,
)


class StyleMixing(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionStyleMixing",
            display_name="Style Mixing",
            category=EXPLORE,
            description="The grid known from the StyleGAN paper: every image of the left column with the chosen layers of "
            "every image of the top row.",
            inputs=[
                GeneratorType.Input("generator", tooltip="A loaded or an adapted generator."),
                *layers_inputs("coarse", "What comes from the top row."),
                seed_input("row_seed", 0, "Seed of the left column's images."),
                io.Int.Input("rows", default=3, min=1, max=64, tooltip="Number of images in the left column."),
                seed_input("column_seed", 1, "Seed of the top row's images, which give the chosen layers."),
                io.Int.Input("columns", default=4, min=1, max=64, tooltip="Number of images in the top row."),
                psi_input(0.7),
                advanced(noise_input()),
                advanced(
                    io.Int.Input(
                        "cell_size",
                        default=256,
                        min=32,
                        max=1024,
                        step=32,
                        tooltip="Width of each image in the grid, in pixels at most. The output 'mixed' has them at full size.",
                    )
                ),
                class_input(),
                LatentsType.Input("row_latents", optional=True, tooltip="For the left column, in place of its seed."),
                LatentsType.Input("column_latents", optional=True, tooltip="For the top row, in place of its seed."),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="One image: the sources outside, their mixtures inside."),
                io.Image.Output(display_name="mixed", tooltip="The mixtures alone, row by row, at full size."),
                LatentsType.Output(display_name="latents", tooltip="Of the mixtures, row by row."),
            ],
            hidden=[io.Hidden.unique_id],
            **aliases("stylegan", "crossover", "combine"),
        )

    @classmethod
    def validate_inputs(cls, layers, custom_layers):
        return check_layers(layers, custom_layers)

    @classmethod
    def execute(
        cls,
        generator,
        layers,
        custom_layers,
        row_seed,
        rows,
        column_seed,
        columns,
        truncation_psi,
        noise,
        cell_size,
        class_index=-1,
        row_latents=None,
        column_latents=None,
    ) -> io.NodeOutput:
        at_least(1, cell_size=cell_size)
        codes = chosen_codes(generator.generator, layers, custom_layers)
        left = row_latents or sampled(generator, row_seed, rows, truncation_psi, 0, class_index)
        top = column_latents or sampled(generator, column_seed, columns, truncation_psi, 0, class_index)
        sources = fitting(generator, left), fitting(generator, top)
        mixed = mix_styles(sources[0][:, None], sources[1][None], codes).flatten(0, 1)
        images = draw(generator, torch.cat([*sources, mixed]), noise, row_seed)
        grid = picture_image(mixing_grid(images.movedim(-1, 1) * 2 - 1, len(left.ws), len(top.ws), cell_size))
        description = f"layers {codes[0]} to {codes[-1]} of {top.description} in {left.description}"
        latents = Latents(mixed, shared_mapping(left, top), description, len(top.ws))
        tell_of_another_mapping(cls.hidden.unique_id, generator, latents)
        return io.NodeOutput(grid, images[-len(mixed) :], latents)


class LatentWalk(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLatentWalk",
            display_name="Latent Walk",
            category=EXPLORE,
            description="Frames of a film that goes from one latent to the next, for Create Video and other video nodes.",
            inputs=[
                GeneratorType.Input("generator", tooltip="A loaded or an adapted generator."),
                seed_input("seed", 0, "Seed of the keyframes. Not used with latents."),
                io.Int.Input(
                    "keyframes", default=4, min=2, max=256, tooltip="Number of keyframes. Not used with latents."
                ),
                io.Int.Input(
                    "frames_per_key",
                    default=24,
                    min=1,
                    max=1000,
                    tooltip="Frames from one keyframe to the next: 24 take a second in a film of 24 frames a second.",
                ),
                io.Boolean.Input(
                    "loop", default=True, tooltip="Go back to the first keyframe at the end, for a film without a seam."
                ),
                io.Combo.Input(
                    "path",
                    options=list(PATHS),
                    default="curve",
                    tooltip="curve: one smooth curve in W. straight: lines in W with a corner at each keyframe. sphere: arcs "
                    "in Z, which change more on the way and stay typical; not with latents.",
                ),
                io.Combo.Input(
                    "pace",
                    options=["even", "slow at keyframes"],
                    default="even",
                    tooltip="even: always the same speed from key to key. slow at keyframes: rests a moment at each of them.",
                ),
                psi_input(0.7),
                advanced(noise_input()),
                class_input(),
                LatentsType.Input(
                    "latents",
                    optional=True,
                    tooltip="The keyframes, in order: from Sample Latents, Project Image, Pick Latents or Edit Latents.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="One image for each frame, in order."),
                LatentsType.Output(display_name="latents", tooltip="Of the frames, to draw with another generator."),
            ],
            hidden=[io.Hidden.unique_id],
            **aliases("stylegan", "interpolation", "animation", "video", "slerp"),
        )

    @classmethod
    def execute(
        cls,
        generator,
        seed,
        keyframes,
        frames_per_key,
        loop,
        path,
        pace,
        truncation_psi,
        noise,
        class_index=-1,
        latents=None,
    ) -> io.NodeOutput:
        at_least(1, frames_per_key=frames_per_key)
        network, steps = generator.generator, (frames_per_key, path, loop, pace != "even")
        if latents is None:
            with torch.inference_mode(False):
                z, chosen = sample_z(network.z_dim, keyframes, seed), class_number(class_index)
                ws = walk_codes(network, *steps, z=z, truncation_psi=truncation_psi, class_index=chosen)
            frames = Latents(ws, mapping_digest(network), f"a walk of seed {seed}, {generator.name}")
        else:
            ws = walk_codes(network, *steps, ws=fitting(generator, latents))
            frames = Latents(ws, latents.mapping, f"a walk of {latents.description}")
        tell_of_another_mapping(cls.hidden.unique_id, generator, frames)
        images = draw(generator, frames.ws, noise, seed)
        return io.NodeOutput(images[..., :3], frames)  # films have no alpha


class EditLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionEditLatents",
            display_name="Edit Latents",
            category=EXPLORE,
            description="Moves latents along a direction that the generator's weights contain (SeFa): turning, age, hair, "
            "light and so on. Which direction does what differs between generators: try the first ten with a strip.",
            inputs=[
                GeneratorType.Input("generator", tooltip="Whose weights the directions are taken from."),
                LatentsType.Input("latents", tooltip="From Sample Latents, Project Image or another node."),
                io.Int.Input(
                    "direction",
                    default=0,
                    min=0,
                    max=1023,
                    tooltip="Number of the direction: 0 changes most, and later ones ever less.",
                ),
                *layers_inputs("all", "Which layers the direction is made for and applied to."),
                io.Float.Input(
                    "strength",
                    default=3.0,
                    min=-50.0,
                    max=50.0,
                    step=0.1,
                    tooltip="How far to go, in standard deviations of w: 2 to 5 either way are common.",
                ),
                io.Int.Input(
                    "strip",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="1: each latent at this strength. More: each latent that many times, from the opposite "
                    "strength to this one; 5 shows what a direction does.",
                ),
            ],
            outputs=[LatentsType.Output(display_name="edited", tooltip="For Draw Latents. A strip stays together.")],
            **aliases("stylegan", "sefa", "direction", "attribute"),
        )

    @classmethod
    def validate_inputs(cls, layers, custom_layers):
        return check_layers(layers, custom_layers)

    @classmethod
    def execute(cls, generator, latents, direction, layers, custom_layers, strength, strip) -> io.NodeOutput:
        at_least(0, direction=direction)
        at_least(1, strip=strip)
        network, ws = generator.generator, fitting(generator, latents)
        codes = chosen_codes(network, layers, custom_layers)
        with torch.inference_mode(False):
            edited = edit_codes(network, ws, direction, codes, strength, strip)
        return io.NodeOutput(Latents(edited, latents.mapping, f"direction {direction} of {latents.description}", strip))
