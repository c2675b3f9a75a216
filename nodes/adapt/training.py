"""The node that trains."""

import logging

import torch
from comfy_api.v0_0_2 import io

from ...sds import (
    TRAINED_BY_DEFAULT,
    AllLayers,
    ScoreDistillation,
    TrainSettings,
    of_objective,
    require_trainable,
    training_metadata,
)
from ...sds.figures import loss_plot
from ...sds.settings import TRAIN
from ...stylegan import crop_of
from ..drawing import picture_image, to_image
from ..host import folders
from ..host.prior import ComfyPrior
from ..host.running_node import HostNode
from ..host.server import PanelPage
from ..panel.panels import Panels
from ..settings import SettingInputs, input_name, settings_from, shown_settings
from ..types import (
    CATEGORY,
    GeneratorType,
    Guidance,
    GuidanceType,
    LayersType,
    NamedGenerator,
    PanelType,
    TermsType,
    aliases,
)
from .fingerprints import first_inputs_fingerprint, inputs_fingerprint
from .run import START_OVER, TrainingRun
from .unfinished import unfinished_training

logger = logging.getLogger(__name__)

PANELS = Panels(PanelPage(), folders.temporary_folder)

GO_ON = "go on"
LEAVE_THE_TRAINING_ALONE = {"samples", "save_every", "when_unfinished", "panel"} | {
    input_name(one) for one in shown_settings(TrainSettings, TRAIN).values() if not one.setting.changes_weights
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
                GuidanceType.Input("guidance", tooltip="From SDS Guidance: the prompt and the model that judges."),
                *shown.take("steps", "batch_size", "learning_rate", "seed"),
                io.Int.Input(
                    "samples",
                    default=8,
                    min=2,
                    max=64,
                    tooltip="Number of images before and after; they leave the training alone.",
                ),
                *shown.take("also_train", "cooldown", "class_index", "accumulation", "recompute"),
                io.Int.Input(
                    "save_every",
                    optional=True,
                    default=100,
                    min=0,
                    max=100_000,
                    tooltip="Steps between two savings in output/stylegan/unfinished, from which the same graph goes on "
                    "after a crash. 0 saves only on cancel. A finished training's file goes; of others the last five stay.",
                ),
                io.Combo.Input(
                    "when_unfinished",
                    optional=True,
                    options=[GO_ON, START_OVER],
                    default=GO_ON,
                    tooltip="When this very training was cancelled or crashed before: go on from there, or start over.",
                ),
                *shown.take("collapse_threshold"),
                TermsType.Input("regularizer", optional=True, tooltip="Keeps the images close to the originals."),
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
    def execute(
        cls,
        generator,
        guidance,
        samples,
        save_every=100,
        when_unfinished=GO_ON,
        regularizer=(),
        layers=None,
        panel="",
        **inputs,
    ) -> io.NodeOutput:
        with PANELS.showing_refusals(panel):
            own = settings_from(TrainSettings, TRAIN, inputs)
            settings = TrainSettings(**guidance.settings, **own, crop=crop_of(generator.metadata))
            prior = _prior(guidance, settings)
            layers = layers or AllLayers()
            terms = of_objective(regularizer, default=ScoreDistillation())
            # Before anything of the training before is given up for this one.
            require_trainable(generator.generator, settings, terms, layers)
        unfinished = unfinished_training(
            folders.output_folder(),
            cls.hidden.prompt,
            cls.hidden.unique_id,
            save_every or None,
            LEAVE_THE_TRAINING_ALONE,
            "seed",
            inputs_fingerprint(generator, guidance, settings, terms, layers),
            first_inputs_fingerprint(generator, guidance, settings, regularizer, layers),
        )
        shown = PANELS.open(panel)
        if when_unfinished == START_OVER and not (shown and shown.asked):
            unfinished.start_over()
            if shown:
                shown.result = None
        unfinished.make_room()
        run = TrainingRun(
            generator.generator,
            prior,
            settings,
            terms,
            layers,
            _metadata(generator, guidance, prior, settings, terms, layers),
            unfinished,
            samples,
            shown,
            HostNode(cls.hidden.unique_id),
            folders.output_folder(),
        )
        with torch.inference_mode(False):
            result, metadata, before, after = run()
            plot = picture_image(loss_plot(result.history))
        if result.history.skipped:
            logger.warning(
                "%d of %d steps were skipped: their gradient was not finite.", result.history.skipped, settings.steps
            )
        adapted = NamedGenerator(result.generator, generator.name, metadata)
        best = NamedGenerator(result.best, generator.name, {**metadata, "steps_done": str(result.best_step)})
        pictures = (to_image(images, settings.crop) for images in (before, after))
        return io.NodeOutput(adapted, *pictures, plot, adapted if result.best_step == result.steps_done else best)


def _prior(guidance: Guidance, settings: TrainSettings) -> ComfyPrior:
    prior = ComfyPrior(guidance.guider, guidance.vae, guidance.image_size)
    if settings.guidance_end != 1.0 and not prior.can_scale:
        raise ValueError("This guider has no guidance scale that could change; set guidance_end to 1.")
    return prior


def _metadata(generator: NamedGenerator, guidance: Guidance, prior: ComfyPrior, *training) -> dict[str, str]:
    return training_metadata(
        *training,
        prompt=guidance.prompt,
        negative_prompt=guidance.negative_prompt,
        guidance={
            "guidance_scale": guidance.guidance_scale,
            "extra_prompts": guidance.extra_prompts,
            "extra_scales": guidance.extra_scales,
            "image_size": prior.image_size,
        },
        source=generator.name,
        source_metadata=generator.metadata,
    )
