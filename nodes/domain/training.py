"""The node that learns a domain from pictures."""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ...domain.files import Domain, save_domain
from ...domain.images import learnable
from ...domain.learning import Learned, LearningProgress, learn_domain
from ...domain.settings import LEARN, DomainSettings
from ...metrics.figures import from_picture, plot_curves, sample_grid
from ...metrics.pictures import picture_files, read_picture
from ...training.endings import TrainingStopped
from ...training.out_of_memory import handle_out_of_memory
from ...training.precision import computes_in_half
from ...training.saving import SavedTraining
from .. import outputs
from ..drawing import from_image, picture_image, to_image
from ..host import folders
from ..host.device import is_interruption, make_room, raise_if_interrupted, release_memory, unload_models
from ..host.server import answer, progress_bar, show_text
from ..host.text_free import HostTextFreeScore, Pixels, domain_patcher, empty_prompt
from ..inputs import advanced, complaint, first_complaint
from ..settings import SettingInputs, settings_from
from ..types import CATEGORY, DomainType, NamedDomain, aliases

logger = logging.getLogger(__name__)

NO_FOLDER = "(only images)"
SAMPLING_STEPS = 20
COPIES = {False: 5, True: 2}  # of the weights: gradients, what Adam remembers and the average; in low rank few
SAMPLES = 4


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
    def validate_inputs(cls, folder, name):
        folder, name = (value[0] if isinstance(value, list) else value for value in (folder, name))
        known = True if folder in (None, NO_FOLDER) else complaint(folders.pictures_folder, folder)
        return first_complaint(known, complaint(outputs.new_path, folders.domains_folder(), name))

    @classmethod
    def execute(cls, images=(), **lists) -> io.NodeOutput:
        given = {name: values[0] for name, values in lists.items()}
        settings = DomainSettings(**settings_from(DomainSettings, LEARN, given))
        named = [*_linked(images), *_in_folder(given["folder"])]
        if not named:
            raise ValueError("Train Domain has no pictures; link images, or choose a folder.")
        node = cls.hidden.unique_id
        with torch.inference_mode(False):
            return _Learning(node, given, settings, named).run()


class _Learning:
    """One run of the node."""

    def __init__(self, node: str, given: Mapping[str, Any], settings: DomainSettings, named: list[tuple[str, Tensor]]):
        self.node, self.given, self.settings = node, given, settings
        model, vae = given["model"], given["vae"]
        self.pixels = Pixels(model, vae)
        side = settings.image_size or self.pixels.size
        with torch.no_grad():
            self.pictures, warnings = learnable(
                named, side, self.pixels.multiple, settings.crop, settings.mirror, self.pixels.encode
            )
        self.notes = "".join(f"\n{warning}" for warning in warnings)
        for warning in warnings:
            logger.warning("StyleGAN Fusion: %s", warning)
        weights = sum(value.nbytes for value in model.model.diffusion_model.parameters())
        make_room(lambda: COPIES[settings.rank > 0] * 2 * weights)
        half = settings.rank > 0 and computes_in_half(settings.precision, model.load_device)
        self.score = HostTextFreeScore(model, empty_prompt(given["clip"]), torch.bfloat16 if half else torch.float32)
        self.removals = self.score.take_out_text(self.pictures.buckets[0][:, 0])
        self.bar, self.samples, self.began = progress_bar(settings.steps), [], None
        self.sample_every = max(1, settings.steps // 8)
        path = folders.output_folder() / outputs.UNFINISHED / f"domain-{self._name()}.safetensors"
        self.saved = SavedTraining(path, given.get("save_every", 200) or None, self.score.base)

    def _name(self) -> str:
        described = dataclasses.asdict(self.settings) | {"pictures": self.pictures.digest, "base": self.score.base}
        del described["recompute"]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]

    def run(self) -> io.NodeOutput:
        """Train, and save what comes of it, whatever happens."""
        done = self.saved.steps_done()
        if done:
            self.notes += f"\nwent on from step {done}, where this training ended before"
        given = self.score, self.pictures, self.settings
        try:
            learned = learn_domain(*given, self.report, self.saved, release_memory)
        except TrainingStopped as stopped:
            path = self.write(stopped.result)
            kept = f"The domain as learned in {stopped.result.steps_done} steps is in models/{folders.DOMAINS}/{path.name}."
            logger.warning("StyleGAN Fusion: %s", kept)
            if is_interruption(stopped.__cause__):
                show_text(self.node, f"{kept} The same graph goes on with it.")
                raise stopped.__cause__ from None
            unload_models()
            raise RuntimeError(f"{stopped} {kept} The same graph goes on with it.") from stopped
        path = self.write(learned)
        self.saved.remove()
        copy = domain_patcher(self.given["model"], self.domain(learned))
        steps = range(1, len(learned.losses) + 1)
        plot = plot_curves({"error of the copy's predictions": (steps, learned.losses)})
        shown = answer(self.node, f"Saved as models/{folders.DOMAINS}/{path.name}{self.notes}")
        samples = torch.cat(self.samples) if self.samples else torch.zeros(1, 3, 8, 8)
        named = NamedDomain(copy, self.score.pooled, path.name)
        return io.NodeOutput(named, to_image(samples), picture_image(plot), ui=shown)

    def domain(self, learned: Learned) -> Domain:
        about = {name: str(value) for name, value in dataclasses.asdict(self.settings).items()}
        about |= {"pictures": str(len(self.pictures)), "steps_done": str(learned.steps_done)}
        return self.score.domain(self.removals, learned.weights, about)

    def write(self, learned: Learned) -> Path:
        """Write the domain where no other is. Raises OSError."""
        name = self.given["name"].strip() or "domain"
        with outputs.claimed(folders.domains_folder(), name) as path:
            save_domain(self.domain(learned), path)
        return path

    def report(self, progress: LearningProgress) -> None:
        """Show where the training is; ends it on cancel."""
        raise_if_interrupted()
        now, picture = time.monotonic(), None
        if self.began is None:
            self.began = progress.step, now
        if progress.step % self.sample_every == 0 or progress.step == progress.steps:
            drawn = self.looked(progress)
            if drawn is not None:
                self.samples.append(drawn)
                picture = "JPEG", sample_grid(drawn, columns=SAMPLES, cell=256), None
        self.bar.update_absolute(progress.step, progress.steps, picture)
        first, start = self.began
        left = ""
        if progress.step > first:
            left = f", {round((now - start) / (progress.step - first) * (progress.steps - progress.step))} s left"
        warning = f"\n{progress.warning}" if progress.warning else ""
        error = progress.losses.get("error", float("nan"))
        show_text(self.node, f"step {progress.step} of {progress.steps}{left}\nerror {error:.3g}{self.notes}{warning}")

    def looked(self, progress: LearningProgress) -> Tensor | None:
        """Draw with what would come out now; None where memory does not do: a training that fits does not end for a look
        at it."""
        try:
            with progress.averaged():
                return self.draw()
        except Exception as error:
            if not handle_out_of_memory(error):
                raise
        release_memory()
        return None

    def draw(self) -> Tensor:
        """Draw a row of pictures with the copy as it is, always of the same noise."""
        shape = self.pictures.buckets[0].shape[2:]
        drawn = []
        for number in range(SAMPLES):
            noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(number))
            drawn.append(self.pixels.decode(self.score.drawn(noise, SAMPLING_STEPS, raise_if_interrupted)))
        return torch.cat(drawn).clamp(-1, 1)


def _linked(images) -> Iterator[tuple[str, Tensor]]:
    for batch in images:
        for image in batch if batch is not None else ():
            yield "a linked picture", from_image(image[None])


def _in_folder(name: str) -> Iterator[tuple[str, Tensor]]:
    if name != NO_FOLDER:
        for file in picture_files([folders.pictures_folder(name)]):
            yield file.name, from_picture(read_picture(file))
