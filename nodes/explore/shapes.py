"""The node that extracts the shape of what a generator draws in three dimensions."""

import torch
from comfy_api.v0_0_2 import io

from ...stylegan.glb import glb
from ...stylegan.shapes import extract_shape
from ...training.files import write_atomically
from .. import outputs
from ..drawing import room_to_draw
from ..host import folders
from ..host.device import retry_without_models, torch_device
from ..host.meshes import host_mesh
from ..host.server import answer
from ..inputs import complaint
from ..on_device import on_device
from ..types import GeneratorType, HostMeshType, LatentsType, aliases
from .codes import EXPLORE, fitting


class ExtractShape(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionExtractShape",
            display_name="Extract Shape",
            category=EXPLORE,
            description="Finds the surface of what a generator in 3D (EG3D) draws, with its colours, and saves it as .glb in "
            "output/stylegan. Needs scikit-image, which the extra headless brings.",
            inputs=[
                GeneratorType.Input("generator", tooltip="A generator that draws in 3D."),
                LatentsType.Input("latents", tooltip="Of several, the first one counts: Pick Latents picks another."),
                io.String.Input(
                    "filename_prefix",
                    default="shape",
                    tooltip="Name of the file in output/stylegan; a number is added. A / makes a sub-folder.",
                ),
                io.Int.Input(
                    "size",
                    default=128,
                    min=16,
                    max=1024,
                    tooltip="Points of the grid on each side. 256 shows all that a generator of 512 pixels knows.",
                ),
                io.Float.Input(
                    "level",
                    default=10.0,
                    min=-1000.0,
                    max=1000.0,
                    step=0.5,
                    tooltip="Density at the surface: 2 to 20. Lower where there are holes, higher where there is fog.",
                ),
                io.Float.Input(
                    "smooth",
                    default=0.0,
                    min=0.0,
                    max=16.0,
                    step=0.25,
                    tooltip="Blur of the density, in steps of the grid.",
                ),
                io.Boolean.Input(
                    "whole",
                    default=False,
                    tooltip="Keep every part, not only the one in the middle: the background, too.",
                ),
            ],
            outputs=[
                HostMeshType.Output(display_name="mesh", tooltip="For ComfyUI's nodes of meshes, where it has them."),
                io.String.Output(display_name="file", tooltip="The path of the file: for Preview 3D."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            is_output_node=True,
            **aliases("stylegan", "eg3d", "mesh", "glb", "marching cubes", "3d"),
        )

    @classmethod
    def validate_inputs(cls, filename_prefix):
        return complaint(lambda prefix: outputs.new_path(folders.output_folder(), prefix, ".glb"), filename_prefix)

    @classmethod
    def execute(cls, generator, latents, filename_prefix, size, level, smooth, whole) -> io.NodeOutput:
        ws, network = fitting(generator, latents)[:1], generator.generator

        def extracted():
            with torch.inference_mode(False), on_device(torch_device(), network):
                return extract_shape(network, ws, size, level, smooth, whole)

        with room_to_draw(generator, 1):
            shape = retry_without_models(extracted)
        with outputs.claimed(folders.output_folder(), filename_prefix, ".glb", cls.hidden.prompt) as path:
            write_atomically(path, glb(shape, {"generator": generator.name, "latents": latents.description}))
        said = f"{len(shape.faces)} triangles. {outputs.saved_as(folders.output_folder(), path)}"
        name = path.relative_to(folders.output_folder().parent).as_posix()
        return io.NodeOutput(host_mesh(shape), name, ui=answer(cls.hidden.unique_id, said))
