"""The node that frames portraits as a generator's own pictures are."""

import torch
from comfy_api.v0_0_2 import io

from ...stylegan.alignment import FRAMINGS, Eyes, align
from ...stylegan.faces import FacesNotInstalled, find_eyes
from ..drawing import to_image
from ..host.server import answer
from ..inputs import advanced, complaint
from ..types import aliases
from .codes import EXPLORE


class AlignPortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionAlignPortrait",
            display_name="Align Portrait",
            category=EXPLORE,
            description="Turns, scales and cuts a portrait so that its eyes are where the generator draws eyes: Project Image "
            "finds a likeness only then. Click on both eyes in the picture on the node, or let the node find them.",
            inputs=[
                io.Image.Input("images", tooltip="One or more portraits of any size. The largest face of each counts."),
                io.Combo.Input(
                    "framing",
                    options=list(FRAMINGS),
                    default="FFHQ",
                    tooltip="How the generator's own pictures are framed. FFHQ: generators of faces that were trained on it, "
                    "or fine-tuned from one that was. miniature: the bundled one.",
                ),
                io.String.Input(
                    "eyes",
                    default="",
                    tooltip="Where both eyes are, in pixels of the picture: x, y, x, y. A click on the picture writes them. "
                    "Empty: the node finds them, which needs dlib (see the node's help).",
                ),
                advanced(
                    io.Int.Input(
                        "size",
                        default=512,
                        min=64,
                        max=2048,
                        step=64,
                        tooltip="Side of the result in pixels. Project Image takes it to the generator's own.",
                    )
                ),
            ],
            outputs=[
                io.Image.Output(display_name="portraits", tooltip="The portraits, square, for Project Image."),
                io.String.Output(display_name="eyes", tooltip="Where the eyes are in each picture, a line for each."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=False,
            **aliases("stylegan", "crop face", "face alignment", "landmarks", "ffhq crop", "eyes"),
        )

    @classmethod
    def validate_inputs(cls, eyes):
        return complaint(Eyes.parse, eyes or None)

    @classmethod
    def execute(cls, images, framing, eyes, size=512) -> io.NodeOutput:
        pictures = images[..., :3].clone().movedim(-1, 1).float().cpu()
        given = Eyes.parse(eyes) if eyes.strip() else None
        if given is not None and len(pictures) > 1:
            raise ValueError(
                f"The eyes are given for one picture, and there are {len(pictures)}; align them one by one, or clear eyes."
            )
        height, width = pictures.shape[-2:]
        if given is not None and not all(0 <= x <= width and 0 <= y <= height for x, y in (given.left, given.right)):
            raise ValueError(
                f"The eyes ({eyes}) are outside of the picture, which has {width} x {height} pixels; click on both again."
            )
        found = [given or _eyes_in(picture, number) for number, picture in enumerate(pictures, 1)]
        framed = [
            align(picture[None], eyes, FRAMINGS[framing], (size, size))
            for picture, eyes in zip(pictures, found, strict=True)
        ]
        said = "\n".join(
            f"{a:.0f}, {b:.0f}, {c:.0f}, {d:.0f}" for (a, b), (c, d) in ((one.left, one.right) for one in found)
        )
        return io.NodeOutput(
            to_image(torch.cat(framed) * 2 - 1), said, ui=answer(cls.hidden.unique_id, f"eyes at {said}")
        )


def _eyes_in(picture: torch.Tensor, number: int) -> Eyes:
    try:
        eyes = find_eyes(picture)
    except FacesNotInstalled as error:
        raise ValueError(f"{error} On Align Portrait, click on both eyes in the picture.") from error
    if eyes is None:
        raise ValueError(f"No face was found in picture {number}; click on both of its eyes on Align Portrait.")
    return eyes
