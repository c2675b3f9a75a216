"""The node that shows two batches under one slider."""

import torch
from comfy_api.v0_0_2 import io, ui

from ..drawing import image_colours
from ..types import CATEGORY, aliases


class CompareSamples(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionCompareSamples",
            display_name="Compare Samples",
            category=CATEGORY,
            description="Shows two batches of images on the node, picture over picture, with a slider between them: what "
            "the generator drew before and after training.",
            inputs=[
                io.Image.Input(
                    "before", tooltip="The images at the left of the slider, e.g. before of Train Generator."
                ),
                io.Image.Input(
                    "after",
                    tooltip="The images at its right: the same latents after training, in the same order. Any two "
                    "batches do; the shorter one says how many are shown.",
                ),
                io.String.Input(
                    "before_label",
                    default="Before",
                    optional=True,
                    tooltip="What the node calls the images at the left: 400 steps, Adam, another prompt.",
                ),
                io.String.Input(
                    "after_label", default="After", optional=True, tooltip="What it calls those at the right."
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="side by side",
                    tooltip="Each pair as one image, before at the left and after at the right, in pixels twice as wide "
                    "as one: for Save Image.",
                )
            ],
            is_output_node=True,
            **aliases("before after", "slider", "wipe", "difference", "stylegan"),
        )

    @classmethod
    def execute(cls, before, after, before_label="Before", after_label="After") -> io.NodeOutput:
        before, after, notes = pair(before, after)
        files = {
            name: ui.PreviewImage(images, cls=cls).values for name, images in (("before", before), ("after", after))
        }
        # Not under the name "images": the page itself would draw those on the node.
        return io.NodeOutput(
            torch.cat([before, after], dim=2), ui={**files, "text": notes, "labels": [before_label, after_label]}
        )


def pair(before: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Bring two batches [B, H, W, C] in [0, 1] to one number, one size and 3 channels, with sentences on what that
    took.

    The first ones of the longer batch stay; the smaller images are enlarged bilinearly, so nothing is lost."""
    notes, batches = [], {"before": image_colours(before), "after": image_colours(after)}
    count = min(len(before), len(after))
    for name, images in batches.items():
        if len(images) > count:
            other = "after" if name == "before" else "before"
            notes.append(f"{name} has {len(images)} images and {other} {count}: the first {count} are shown.")
            batches[name] = images[:count]
    height, width = max((images.shape[1:3] for images in batches.values()), key=lambda size: size[0] * size[1])
    for name, images in batches.items():
        if images.shape[1:3] != (height, width):
            notes.append(f"{name} was resized from {images.shape[2]} x {images.shape[1]} to {width} x {height} pixels.")
            planes = images.movedim(-1, 1)
            planes = torch.nn.functional.interpolate(planes, (height, width), mode="bilinear", antialias=True)
            batches[name] = planes.movedim(1, -1)
    return batches["before"], batches["after"], notes
