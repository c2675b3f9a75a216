"""Nodes of targets: pictures that a training aims for, made before it or brought along."""

import hashlib
import json
import logging
import time
from pathlib import Path

import torch
from comfy_api.v0_0_2 import io, ui

from ...metrics.figures import labelled_grid, sample_grid
from ...sds import Made, Targets, TargetSettings, TargetsFolder, make_targets, weights_digest
from ...sds.targets.making import Strip, edit_strip, samples_of
from ...sds.targets.pool import to_bytes, to_unit
from ...sds.targets.settings import MAKE
from ...stylegan import crop_of, frontal, require_fitting
from ...training.digests import tensors_digest
from ...training.out_of_memory import split_rows
from ..drawing import from_image, picture_image, to_image
from ..host import folders
from ..host.device import raise_if_interrupted, torch_device
from ..host.editors import editor_of
from ..host.server import answer, progress_bar, show_text
from ..inputs import class_input, class_number, complaint, first_complaint, seed_input
from ..on_device import on_device
from ..outputs import TARGETS
from ..settings import SettingInputs, settings_from
from ..types import CATEGORY, GeneratorType, GuidanceType, LatentsType, TargetsType, aliases

logger = logging.getLogger(__name__)

_SOURCE = "What the generator draws as it is, for example a portrait of a person. Without it, the negative prompt of the guidance."
_SCALE = (
    "How strongly the prompt pulls while pictures are edited, far below that of SDS Guidance: 4 to 8 for Stable Diffusion, "
    "1.75 for the miniature. A GUIDER in the guidance brings its own."
)


class MakeTargets(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        shown = SettingInputs(TargetSettings, MAKE)
        return io.Schema(
            node_id="StyleGANFusionMakeTargets",
            display_name="Make Targets",
            category=CATEGORY,
            **aliases("stylegan", "edit", "ddim inversion", "image to image", "pairs", "dataset", "distillation"),
            description="Edits samples of a generator with the diffusion model, for Train Generator to aim for: you see what "
            "the training will come to before it begins. The pictures stay in output/stylegan/targets, where a run that was "
            "cancelled goes on, and where you may edit or remove them.",
            inputs=[
                GeneratorType.Input("generator", tooltip="The generator whose samples are edited."),
                GuidanceType.Input("guidance", tooltip="From SDS Guidance: the prompt and the model that edits."),
                io.Conditioning.Input("source", optional=True, tooltip=_SOURCE),
                io.Float.Input("guidance_scale", default=5.0, min=0.0, max=100.0, step=0.05, tooltip=_SCALE),
                *shown.take("count", "strength", "levels", "inversion", "seed", "batch_size"),
                class_input(),
                *shown.rest(),
                LatentsType.Input(
                    "latents",
                    optional=True,
                    tooltip="From Project Image: what these draw is among the targets, too, and comes first. With a photo of "
                    "your own the generator learns that very picture.",
                ),
            ],
            outputs=[
                TargetsType.Output(display_name="targets", tooltip="For Train Generator."),
                io.Image.Output(display_name="samples", tooltip="What the generator draws."),
                io.Image.Output(display_name="pictures", tooltip="What it shall draw in their place."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **_):
        return _edits(folders.output_folder() / TARGETS)

    @classmethod
    def execute(
        cls, generator, guidance, guidance_scale, source=None, class_index=-1, latents=None, **inputs
    ) -> io.NodeOutput:
        settings = TargetSettings(**settings_from(TargetSettings, MAKE, inputs))
        further = None if latents is None else latents.ws
        network, crop = generator.generator, crop_of(generator.metadata)
        scale = None if guidance.guidance_scale is None else guidance_scale
        inverted = settings.inversion == "ddim"
        editor = editor_of(guidance.guider, guidance.vae, guidance.image_size, source, scale, inverted)
        identity = {
            "generator": weights_digest(network),
            "guidance": [prior.fingerprint for prior in (editor.target, editor.source) if prior],
            "model": guidance.prompt,
            "image_size": editor.target.image_size,
            "settings": [settings.count, settings.strength, settings.levels, settings.inversion, settings.seed],
            "class": class_index,
            **({} if further is None else {"latents": tensors_digest([("codes", further)])}),
        }
        home = folders.output_folder() / TARGETS
        folder = TargetsFolder(home / _name(identity), json.dumps(identity))
        report = _Report(cls.hidden.unique_id, settings.count + (0 if further is None else len(further)))
        if inverted and editor.source is None:
            report.note("this guidance has no prompt of what pictures show: one noise for all of them")
        with torch.inference_mode(False), on_device(torch_device(), network):
            targets = make_targets(network, editor, settings, folder, report, class_number(class_index), crop, further)
            parts = [targets.draw(rows) for rows in split_rows(len(targets), settings.batch_size)]
            samples = torch.cat([samples_of(network, p.ws, editor.target, crop, p.cameras).cpu() for p in parts])
        said = f"{len(targets)} targets in output/stylegan/{TARGETS}/{folder.path.name}"
        pictures = to_unit(targets.images)
        strip = ui.PreviewImage(picture_image(_side_by_side(samples, pictures)), cls=cls)
        shown = {**answer(cls.hidden.unique_id, said).as_dict(), **strip.as_dict()}
        return io.NodeOutput(targets, to_image(samples), to_image(pictures), ui=shown)


class PreviewTargets(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionPreviewTargets",
            display_name="Preview Targets",
            category=CATEGORY,
            **aliases("stylegan", "edit", "strip", "try", "compare strengths", "prompt test"),
            description="Shows in seconds what a training would aim for: a few samples of the generator, edited at several "
            "strengths and guidance scales. Choose the ones that you like for Make Targets.",
            inputs=[
                GeneratorType.Input("generator", tooltip="The generator whose samples are edited."),
                GuidanceType.Input("guidance", tooltip="From SDS Guidance: the prompt and the model that edits."),
                io.Conditioning.Input("source", optional=True, tooltip=_SOURCE),
                io.String.Input(
                    "strengths",
                    default="0.5, 0.65, 0.8, 0.95",
                    tooltip="How far samples are taken into the noise, each a column: low keeps more, high changes more.",
                ),
                io.String.Input("guidance_scales", default="2, 4, 8", tooltip=f"Each a row of every sample. {_SCALE}"),
                io.Int.Input("samples", default=3, min=1, max=16, tooltip="Samples, one below the other."),
                io.Int.Input(
                    "levels", default=5, min=1, max=1000, tooltip="Steps up into the noise, and as many down."
                ),
                seed_input("seed", 0, "The latents of the samples; Make Targets edits the same ones.", "fixed"),
                class_input(),
            ],
            outputs=[
                io.Image.Output(display_name="strip", tooltip="The samples, and beside each what it becomes."),
                io.Image.Output(display_name="pictures", tooltip="The edited pictures alone, in the same order."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, strengths, guidance_scales):
        return first_complaint(
            complaint(_strengths, strengths), complaint(lambda text: _numbers("guidance_scales", text), guidance_scales)
        )

    @classmethod
    def execute(
        cls, generator, guidance, strengths, guidance_scales, samples, levels, seed, source=None, class_index=-1
    ) -> io.NodeOutput:
        at, network = _strengths(strengths), generator.generator
        scales = _numbers("guidance_scales", guidance_scales)
        if guidance.guidance_scale is None:
            scales = scales[:1]  # the GUIDER has its own
        TargetSettings(levels=levels, seed=seed)  # raises what is wrong with them
        parts = guidance.guider, guidance.vae, guidance.image_size, source
        own = guidance.guidance_scale is None
        editors = {scale: editor_of(*parts, None if own else scale) for scale in scales}
        bar = progress_bar(len(at) * len(scales))

        def report(done: int, picture: torch.Tensor) -> None:
            raise_if_interrupted()
            bar.update_absolute(done, len(at) * len(scales), ("JPEG", sample_grid(picture, cell=256), None))

        with torch.inference_mode(False), on_device(torch_device(), network):
            chosen = class_number(class_index)
            strip = edit_strip(network, editors, at, levels, samples, seed, chosen, crop_of(generator.metadata), report)
        return io.NodeOutput(picture_image(_drawn(strip, own)), to_image(strip.edited.flatten(0, 2)))


class TargetsFromPictures(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionTargetsFromPictures",
            display_name="Targets from Pictures",
            category=CATEGORY,
            **aliases("stylegan", "pairs", "edited images", "instruction", "dataset", "supervised"),
            description="Makes targets of pictures that were edited elsewhere, by any program or another model in this graph: "
            "latents from Sample Latents, and for each the picture that its sample shall become, in the same order.",
            inputs=[
                GeneratorType.Input("generator", tooltip="The generator that the latents belong to."),
                LatentsType.Input("latents", tooltip="From Sample Latents; Draw Latents draws what is to be edited."),
                io.Image.Input("pictures", tooltip="What the generator shall draw, one for each of the latents."),
            ],
            outputs=[TargetsType.Output(display_name="targets", tooltip="For Train Generator.")],
        )

    @classmethod
    def execute(cls, generator, latents, pictures) -> io.NodeOutput:
        require_fitting(generator.generator, latents.ws)
        if len(latents.ws) != len(pictures):
            raise ValueError(
                f"There are {len(latents.ws)} latents and {len(pictures)} pictures; give one picture for each, in order."
            )
        with torch.inference_mode(False):
            images = to_bytes(from_image(pictures))
            cameras = (
                frontal(generator.generator.config, len(images)) if generator.generator.config.takes_cameras else None
            )
            return io.NodeOutput(Targets(latents.ws.clone(), images, cameras=cameras))


class _Report:
    """_Report shows how far the making of targets is. Ends on cancel."""

    def __init__(self, node_id: str, count: int):
        self.node_id, self.bar, self.began, self.notes = node_id, progress_bar(count), None, ""

    def note(self, text: str) -> None:
        self.notes = f"\n{text}"
        logger.info("StyleGAN Fusion: %s", text)

    def __call__(self, made: Made) -> None:
        raise_if_interrupted()
        now = time.monotonic()
        left = ""
        if self.began is not None:
            done, start = self.began
            left = f", {round((now - start) / max(1, made.done - done) * (made.count - made.done))} s left"
        else:
            self.began = made.done, now
        self.bar.update_absolute(made.done, made.count, ("JPEG", _side_by_side(made.samples, made.targets), None))
        show_text(self.node_id, f"target {made.done} of {made.count}{left}{self.notes}")


def _side_by_side(samples: torch.Tensor, targets: torch.Tensor):
    """The first samples, and below each what it shall become."""
    return sample_grid(torch.cat([samples[:4], targets[:4]]), columns=len(samples[:4]), cell=256)


def _drawn(strip: Strip, own_scale: bool):
    """The strip as one picture: a row for each sample and scale."""
    columns = ["sample", *(f"strength {strength:g}" for strength in strip.strengths)]
    rows = {}
    for index, sample in enumerate(strip.samples):
        for place, scale in enumerate(strip.scales):
            label = "" if own_scale else f"scale {scale:g}"
            rows[(index, label)] = torch.cat([sample[None], strip.edited[index, place]])
    return labelled_grid(list(rows.values()), [label for _, label in rows], columns)


def _strengths(text: str) -> list[float]:
    """Read strengths of an edit. Raises ValueError for what is none."""
    found = _numbers("strengths", text)
    for strength in found:
        TargetSettings(strength=strength)  # raises what is wrong with it
    return found


def _numbers(name: str, text: str) -> list[float]:
    try:
        found = [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError:
        found = []
    if not found or len(found) > 16:
        raise ValueError(f"{name} is {text!r}; write up to 16 numbers with commas, for example 0.5, 0.8.")
    return found


def _name(identity: dict) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _edits(home: Path) -> str:
    """Describe what was edited or removed of the targets in all folders; "" for nothing: what a run of the node writes is
    no reason to run it again."""
    if not home.is_dir():
        return ""
    found = {folder.name: TargetsFolder(folder).edits() for folder in sorted(home.iterdir()) if folder.is_dir()}
    return json.dumps({name: edits for name, edits in found.items() if edits})
