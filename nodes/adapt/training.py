"""The node that trains."""

import logging

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ...sds import (
    TRAINED_BY_DEFAULT,
    TrainResult,
    TrainSettings,
)
from ...sds.figures import loss_plot
from ...sds.settings import TRAIN, parse_groups
from ...sds.terms import curve_title, instance_names
from ...training.settings import node_input_of
from ..drawing import picture_image, to_image
from ..host import folders
from ..host.running_node import HostNode
from ..inputs import UNLINKED, advanced, complaint
from ..panel.shown import About
from ..panels import PANELS
from ..settings import SettingInputs, shown_settings
from ..types import (
    CATEGORY,
    GeneratorType,
    GuidanceType,
    LayersType,
    NamedGenerator,
    OptimizerType,
    PanelType,
    TargetsType,
    TermsType,
    aliases,
)
from .request import NO_AIM, TrainingRequest
from .run import START_OVER, TrainingRun
from .unfinished import Unfinished, unfinished_training

logger = logging.getLogger(__name__)

GO_ON = "go on"
LEAVE_THE_TRAINING_ALONE = {"samples", "save_every", "when_unfinished", "panel"} | {
    node_input_of(one) for one in shown_settings(TrainSettings, TRAIN).values() if not one.setting.changes_weights
}
"""Inputs that may change between a training that ended early and going on with it."""


class TrainGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        shown = SettingInputs(TrainSettings, TRAIN)
        return io.Schema(
            node_id="StyleGANFusionTrainGenerator",
            display_name="Train Generator",
            category=CATEGORY,
            **aliases(
                "stylegan", "gan", "fine-tune", "adapt", "text to gan", "domain adaptation", "score distillation"
            ),
            description="Adapts a generator to the prompt of the guidance. The generator that comes in stays as it is. "
            f"Cancel keeps what was trained, in output/stylegan. {TRAINED_BY_DEFAULT}",
            inputs=[
                GeneratorType.Input("generator", tooltip="The generator to start from."),
                GuidanceType.Input(
                    "guidance",
                    optional=True,
                    tooltip="From SDS Guidance: the prompt and the model that judges. Not needed with targets or "
                    "CLIP Directional.",
                ),
                *shown.take("steps", "batch_size", "learning_rate", "seed"),
                io.Int.Input(
                    "samples",
                    default=8,
                    min=2,
                    max=64,
                    tooltip="Number of images before and after; they leave the training alone.",
                ),
                *shown.take("also_train", "cooldown", "class_index", "accumulation", "recompute"),
                advanced(
                    io.Int.Input(
                        "save_every",
                        optional=True,
                        default=100,
                        min=0,
                        max=100_000,
                        tooltip="Steps between two savings in output/stylegan/unfinished, from which the same graph goes on "
                        "after a crash. 0 saves only on cancel. A finished training's file goes; of others the last five stay.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "when_unfinished",
                        optional=True,
                        options=[GO_ON, START_OVER],
                        default=GO_ON,
                        tooltip="When this very training was cancelled or crashed before: go on from there, or start over.",
                    )
                ),
                *shown.take("collapse_threshold"),
                TermsType.Input(
                    "regularizer",
                    optional=True,
                    tooltip="Keeps the images close to the originals. A generator that draws in 3D is held by LPIPS unless an LPIPS "
                    "Regularizer says otherwise, with the weight 0 not at all.",
                ),
                LayersType.Input(
                    "layers", optional=True, tooltip="From Layer Select. Without it all layers but the first one train."
                ),
                PanelType.Input(
                    "panel",
                    optional=True,
                    socketless=True,
                    tooltip="Watch the training, stop it when it looks right, go back to an earlier moment.",
                ),
                *shown.rest(),
                TargetsType.Input(
                    "targets",
                    optional=True,
                    tooltip="From Make Targets: pictures to aim for, in place of the guidance's score distillation. With a "
                    "Distillation Term, both.",
                ),
                OptimizerType.Input(
                    "optimizer",
                    optional=True,
                    tooltip="From Optimizer. Without it Muon towards targets, and Adam with score distillation.",
                ),
            ],
            outputs=[
                GeneratorType.Output(
                    display_name="adapted generator", tooltip="For Save Generator, Sample Generator and all others."
                ),
                io.Image.Output(display_name="before", tooltip="What the generator drew before training."),
                io.Image.Output(display_name="after", tooltip="The same latents after training."),
                io.Image.Output(display_name="plot", tooltip="Each term and the diversity over the steps."),
                GeneratorType.Output(
                    display_name="best generator",
                    tooltip="The latest one before the images became alike; the adapted one where they did not.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def fingerprint_inputs(cls, panel="", **inputs):
        return PANELS.fingerprint(panel, inputs)

    @classmethod
    def validate_inputs(cls, also_train, guidance=UNLINKED, targets=UNLINKED, regularizer=UNLINKED):
        # Targets may come with the regularizers, too.
        if guidance is UNLINKED and targets is UNLINKED and regularizer is UNLINKED:
            return NO_AIM
        return complaint(lambda text: TrainSettings(also_train=parse_groups(text)), also_train)

    @classmethod
    def execute(
        cls,
        generator,
        samples,
        guidance=None,
        save_every=100,
        when_unfinished=GO_ON,
        regularizer=(),
        layers=None,
        panel="",
        targets=None,
        optimizer=None,
        **inputs,
    ) -> io.NodeOutput:
        with PANELS.showing_refusals(panel):  # before anything of the training before is given up for this one
            request = TrainingRequest.of(generator, guidance, regularizer, layers, inputs, targets, optimizer)
        shown = PANELS.open(panel)
        unfinished = cls._unfinished(request, save_every)
        if when_unfinished == START_OVER and not (shown and shown.asked):
            unfinished.start_over()
            if shown:
                shown.result = None
        unfinished.make_room()
        metadata = request.metadata()
        about = About(
            unfinished.saved.identity,
            unfinished.of_any_length,
            request.generator_digest,
            metadata["prompt"],
            request.details(),
            metadata,
            titles={name: curve_title(name) for name in instance_names(request.terms)},
        )
        with torch.inference_mode(False):
            done = TrainingRun(
                generator.generator,
                request.prior,
                request.settings,
                request.chained,
                request.layers,
                metadata,
                unfinished,
                samples,
                shown,
                HostNode(cls.hidden.unique_id),
                folders.output_folder(),
                about,
                request.warnings,
            )()
            return _outputs(request, *done)

    @classmethod
    def _unfinished(cls, request: TrainingRequest, save_every: int) -> Unfinished:
        """Find where the training is kept that this run of the node asks for."""
        return unfinished_training(
            folders.output_folder(),
            cls.hidden.prompt,
            cls.hidden.unique_id,
            save_every or None,
            LEAVE_THE_TRAINING_ALONE,
            "seed",
            request.inputs_fingerprint(),
            request.earlier_inputs_fingerprint(),
            length_fingerprint=request.inputs_fingerprint(steps=1),
        )


def _outputs(
    request: TrainingRequest, result: TrainResult, metadata: dict[str, str], before: Tensor, after: Tensor
) -> io.NodeOutput:
    settings, name = request.settings, request.generator.name
    if skipped := result.history.skipped:
        logger.warning("%d of %d steps were skipped: their gradient was not finite.", skipped, settings.steps)
    adapted = NamedGenerator(result.generator, name, metadata)
    best = NamedGenerator(result.best, name, {**metadata, "steps_done": str(result.best_step)})
    pictures = (to_image(images, settings.crop) for images in (before, after))
    plot = picture_image(loss_plot(result.history))
    return io.NodeOutput(adapted, *pictures, plot, adapted if result.best_step == result.steps_done else best)
