"""The node that learns a domain from pictures."""

from collections.abc import Iterator

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ...domain.settings import LEARN, DomainSettings
from ...metrics.figures import from_picture
from ...metrics.pictures import picture_files, read_picture
from .. import outputs
from ..drawing import from_image
from ..host import folders
from ..inputs import advanced, complaint, first_complaint
from ..panels import PANELS
from ..settings import SettingInputs, settings_from
from ..types import CATEGORY, DomainType, PanelType, aliases
from .run import LearningRun

NO_FOLDER = "(only images)"


class TrainDomain(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        shown = SettingInputs(DomainSettings, LEARN)
        return io.Schema(
            node_id="StyleGANFusionTrainDomain",
            display_name="Train Domain",
            category=CATEGORY,
            **aliases(
                "stylegan", "in-domain", "fine-tune", "dreambooth", "style", "personalization", "learn from images"
            ),
            description="Learns a domain from pictures alone, thirty of a style for example: a copy of the model without its "
            "text, which Domain Guider lets guide the untouched model (arXiv 2312.08195). No captions are needed. The domain "
            f"is saved in models/{folders.DOMAINS}; Cancel keeps what was learned, and the same graph goes on with it.",
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion 1.x, 2.x or SDXL; its LoRAs are left out."),
                io.Clip.Input(
                    "clip", tooltip="The CLIP of the same checkpoint: the copy begins as the model with no text."
                ),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Pictures of the domain, 3 or more, better thirty. Lists of any sizes, too.",
                ),
                io.Combo.Input(
                    "folder",
                    options=[NO_FOLDER, *folders.picture_folders()],
                    default=NO_FOLDER,
                    tooltip="A folder in ComfyUI's input folder, in place of images or beside them. Press R for new ones.",
                ),
                io.String.Input(
                    "name",
                    default="domain",
                    tooltip=f"Name of the file in models/{folders.DOMAINS}; a number is added.",
                ),
                *shown.take("steps", "batch_size", "learning_rate", "rank", "seed", "mirror"),
                advanced(
                    io.Int.Input(
                        "save_every",
                        default=200,
                        min=0,
                        max=100_000,
                        tooltip="Steps between two savings, from which the same graph goes on after a crash. 0 saves only on cancel.",
                    )
                ),
                *shown.rest(),
                PanelType.Input(
                    "panel",
                    optional=True,
                    socketless=True,
                    tooltip="Watch the training, stop it when it looks right, go back to an earlier moment.",
                ),
            ],
            outputs=[
                DomainType.Output(display_name="domain", tooltip="For Domain Guider."),
                io.Image.Output(display_name="samples", tooltip="Pictures of the domain over the training."),
                io.Image.Output(display_name="plot", tooltip="The error of the copy's predictions over the steps."),
            ],
            hidden=[io.Hidden.unique_id],
            is_input_list=True,
        )

    @classmethod
    def fingerprint_inputs(cls, panel=(), **inputs):
        return PANELS.fingerprint(_first(panel), inputs)

    @classmethod
    def validate_inputs(cls, folder, name):
        folder, name = _first(folder), _first(name)
        known = True if folder in (None, NO_FOLDER) else complaint(folders.pictures_folder, folder)
        return first_complaint(known, complaint(outputs.new_path, folders.domains_folder(), name))

    @classmethod
    def execute(cls, images=(), **lists) -> io.NodeOutput:
        given = {name: values[0] for name, values in lists.items()}
        panel = given.pop("panel", "")
        with torch.inference_mode(False):
            with PANELS.showing_refusals(panel):
                settings = DomainSettings(**settings_from(DomainSettings, LEARN, given))
                named = [*_linked(images), *_in_folder(given["folder"])]
                if not named:
                    raise ValueError("Train Domain has no pictures; link images, or choose a folder.")
                run = LearningRun(cls.hidden.unique_id, given, settings, named)
            return run(PANELS.open(panel))


def _first(value):
    """The value of an input that comes in a list, or alone where the host asks before the graph runs."""
    return (value[0] if value else "") if isinstance(value, list | tuple) else value


def _linked(images) -> Iterator[tuple[str, Tensor]]:
    for batch in images:
        for image in batch if batch is not None else ():
            yield "a linked picture", from_image(image[None])


def _in_folder(name: str) -> Iterator[tuple[str, Tensor]]:
    if name != NO_FOLDER:
        for file in picture_files([folders.pictures_folder(name)]):
            yield file.name, from_picture(read_picture(file))
