"""Nodes of cameras, for generators that draw in three dimensions: where one is, a way around, and what is seen beside
colours."""

import math

from comfy_api.v0_0_2 import io

from ...stylegan import Views
from ..drawing import draw_depth
from ..inputs import at_least, complaint
from ..types import CameraType, GeneratorType, HostCameraType, LatentsType, aliases
from .codes import EXPLORE, fitting

_OWN = "0: the generator's own."


def camera_input(tooltip: str) -> io.Input:
    """Make the optional input of a camera."""
    return CameraType.Input("camera", optional=True, tooltip=tooltip)


class Camera(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionCamera",
            display_name="Camera",
            category=EXPLORE,
            description="Says from where a generator that draws in 3D (EG3D) is looked at, for Sample Generator, Draw Latents "
            "and the others.",
            inputs=[
                io.Float.Input(
                    "yaw",
                    default=0.0,
                    min=-180.0,
                    max=180.0,
                    step=1.0,
                    tooltip="Degrees to the right of the front. Generators of faces know about 40 to each side.",
                ),
                io.Float.Input(
                    "pitch",
                    default=0.0,
                    min=-89.0,
                    max=89.0,
                    step=1.0,
                    tooltip="Degrees above the front; below 0 from below.",
                ),
                io.Float.Input(
                    "radius",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.05,
                    tooltip=f"Distance from what the camera looks at. {_OWN} Nearer or farther than that, things are missing: "
                    "change the field of view instead.",
                ),
                io.Float.Input(
                    "field_of_view",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=0.1,
                    tooltip=f"Vertical, in degrees: larger shows more. {_OWN} That is about 13 for faces.",
                ),
                HostCameraType.Input(
                    "camera_info",
                    optional=True,
                    tooltip="A camera of ComfyUI's 3D nodes, in place of the angles and the radius: of Create Camera Info, or of "
                    "the view of a 3D preview.",
                ),
            ],
            outputs=[CameraType.Output(display_name="camera", tooltip="For the nodes that draw, and for Orbit.")],
            **aliases("stylegan", "eg3d", "view", "angle", "turn"),
        )

    @classmethod
    def execute(cls, yaw, pitch, radius, field_of_view, camera_info=None) -> io.NodeOutput:
        if camera_info is not None:
            return io.NodeOutput(_of_host(camera_info, field_of_view))
        return io.NodeOutput(Views((yaw,), (pitch,), radius or None, field_of_view or None))


def _of_host(info: dict, field_of_view: float) -> Views:
    """A camera of the host's 3D nodes. Raises ValueError for one that cannot be ours."""
    try:
        place, target = (tuple(float(info[part][axis]) for axis in "xyz") for part in ("position", "target"))
        zoom, seen = float(info.get("zoom", 1)), float(info.get("fov") or 0)
        kind = info.get("cameraType", "perspective")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"This camera_info makes no sense ({error!r}); link Create Camera Info.") from None
    if kind != "perspective":
        raise ValueError(f"This camera is {str(kind)[:40]}, and generators are seen in perspective; change its type.")
    if not field_of_view and seen:
        field_of_view = math.degrees(2 * math.atan(math.tan(math.radians(seen) / 2) / max(zoom, 1e-3)))
    return Views(place=place, target=target, field_of_view=field_of_view or None)


class Orbit(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionOrbit",
            display_name="Orbit",
            category=EXPLORE,
            description="Makes a way around of cameras that loops: Draw Latents draws a frame from each of them, and Create "
            "Video makes a film of these.",
            inputs=[
                io.Int.Input(
                    "frames", default=24, min=1, max=4096, tooltip="Cameras on the way; each latent is drawn from all."
                ),
                io.Float.Input(
                    "angle",
                    default=20.0,
                    min=1.0,
                    max=180.0,
                    step=1.0,
                    tooltip="How far the way goes to each side, in degrees, and half as far up and down. 180: once around, for "
                    "generators of objects.",
                ),
                camera_input("The view that the way goes around, of Camera; the front without it."),
            ],
            outputs=[CameraType.Output(display_name="camera", tooltip="For Draw Latents and Draw Depth.")],
            **aliases("stylegan", "eg3d", "turntable", "rotate", "film"),
        )

    @classmethod
    def execute(cls, frames, angle, camera=None) -> io.NodeOutput:
        at_least(1, frames=frames)
        return io.NodeOutput((camera or Views()).orbit(frames, angle))

    @classmethod
    def validate_inputs(cls, frames, angle):
        return complaint(Views().orbit, frames, angle)


class DrawDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionDrawDepth",
            display_name="Draw Depth",
            category=EXPLORE,
            description="Draws how far away and which way what a generator in 3D (EG3D) draws is: as depth and normal maps for "
            "ControlNets and compositing.",
            inputs=[
                GeneratorType.Input("generator", tooltip="A generator that draws in 3D."),
                LatentsType.Input("latents", tooltip="From Sample Latents, Project Image or another node."),
                camera_input("From where it is seen; the front without it."),
            ],
            outputs=[
                io.Image.Output(
                    display_name="depth", tooltip="Near is white and far is black, over all pictures alike."
                ),
                io.Image.Output(
                    display_name="normals", tooltip="Red points to the right, green up, and blue towards the camera."
                ),
            ],
            **aliases("stylegan", "eg3d", "normal map", "geometry"),
        )

    @classmethod
    def execute(cls, generator, latents, camera=None) -> io.NodeOutput:
        return io.NodeOutput(*draw_depth(generator, fitting(generator, latents), camera or Views()))
