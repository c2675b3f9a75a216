"""The node that trains."""

import dataclasses
import logging

import torch
from comfy_api.v0_0_2 import io

from ...sds import (
    PARAMETER_GROUPS,
    TRAINED_BY_DEFAULT,
    AllLayers,
    TrainSettings,
    parse_groups,
    require_trainable,
    training_metadata,
    weights_digest,
)
from ...sds.figures import loss_plot
from ...stylegan import crop_of
from ..drawing import picture_image, to_image
from ..host import folders
from ..host.guiders import conditioning_fingerprint
from ..host.prior import ComfyPrior
from ..host.running_node import HostNode
from ..host.server import PanelPage
from ..inputs import class_input, class_number, seed_input
from ..panel.panels import Panels
from ..types import (
    CATEGORY,
    GeneratorType,
    Guidance,
    GuidanceType,
    LayersType,
    NamedGenerator,
    PanelType,
    RegularizerType,
    aliases,
)
from .run import START_OVER, TrainingRun
from .unfinished import unfinished_training

logger = logging.getLogger(__name__)

PANELS = Panels(PanelPage(), folders.temporary_folder)

GO_ON = "go on"
MEMORY = {"auto": None, "keep activations": False, "compute again": True}
LEAVE_THE_TRAINING_ALONE = ("samples", "save_every", "when_unfinished", "memory", "collapse_threshold", "panel")
"""Inputs that may change between a training that ended early and going on with it."""


class TrainGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls):
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
                io.Int.Input(
                    "steps",
                    default=1000,
                    min=1,
                    max=100_000,
                    tooltip="Training steps. 1000 for faces, 2000 for cats with all layers; fewer layers need more.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=256,
                    tooltip="Images in each step. More are steadier, slower, and take more memory; 1 to 4 are usual.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.001,
                    min=0.00001,
                    max=0.1,
                    step=0.00001,  # the page rounds to it
                    tooltip="Size of the steps of Adam, before StyleGAN2's factor of 4/5. Half of it where the images break, twice "
                    "as much where too little happens.",
                ),
                # Fixed: the next run of the graph goes on with this training.
                seed_input("seed", 0, "Latents, noise and timesteps of every step follow from it.", control="fixed"),
                io.Int.Input(
                    "samples",
                    default=8,
                    min=2,
                    max=64,
                    tooltip="Number of images before and after; they leave the training alone.",
                ),
                io.String.Input(
                    "also_train",
                    default="",
                    tooltip=f"Groups that are otherwise frozen, with commas: {', '.join(PARAMETER_GROUPS)}. StyleGAN3 has "
                    "no 4x4; its constant is the Fourier input.",
                ),
                io.Float.Input(
                    "cooldown",
                    optional=True,  # came later: graphs saved before it stay valid
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of the steps, the last ones, over which the learning rate falls to 0. 0 keeps it "
                    "constant, as in the paper; 0.6 with a higher learning rate gave cleaner images on the miniature.",
                ),
                class_input(),
                io.Int.Input(
                    "accumulation",
                    optional=True,
                    default=1,
                    min=1,
                    max=256,
                    tooltip="Batches in each step, one after the other: like a batch that many times as large, in the "
                    "memory of one.",
                ),
                io.Combo.Input(
                    "memory",
                    optional=True,
                    options=list(MEMORY),
                    default="auto",
                    tooltip="compute again: activations are computed twice instead of kept, a little slower and much "
                    "less memory. auto does so when the diffusion model looks at more than 256 pixels.",
                ),
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
                io.Float.Input(
                    "collapse_threshold",
                    optional=True,
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Warn when the images' diversity falls below this share of what it was; the latest generator "
                    "before that is the output 'best generator'.",
                ),
                RegularizerType.Input("regularizer", optional=True, tooltip="Keeps the images close to the originals."),
                LayersType.Input(
                    "layers", optional=True, tooltip="From Layer Select. Without it all layers but the first one train."
                ),
                PanelType.Input(
                    "panel",
                    optional=True,
                    socketless=True,
                    tooltip="Watch the training, stop it when it looks right, go back to an earlier moment.",
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
    def execute(
        cls,
        generator,
        guidance,
        steps,
        batch_size,
        learning_rate,
        seed,
        samples,
        also_train,
        cooldown=0.0,
        class_index=-1,
        accumulation=1,
        memory="auto",
        save_every=100,
        when_unfinished=GO_ON,
        collapse_threshold=0.5,
        regularizer=(),
        layers=None,
        panel="",
    ) -> io.NodeOutput:
        with PANELS.showing_refusals(panel):
            settings = TrainSettings(
                steps=steps,
                batch_size=batch_size,
                accumulation=accumulation,
                learning_rate=learning_rate,
                t_min=guidance.t_min,
                t_max=guidance.t_max,
                timestep_schedule=guidance.timestep_schedule,
                weighting=guidance.weighting,
                guidance_end=guidance.guidance_end,
                seed=seed,
                also_train=parse_groups(also_train),
                cooldown=cooldown,
                class_index=class_number(class_index),
                crop=crop_of(generator.metadata),
                collapse_threshold=collapse_threshold,
                checkpoint=MEMORY[memory],
            )
            prior = _prior(guidance)
            layers = layers or AllLayers()
            # Before anything of the training before is given up for this one.
            require_trainable(generator.generator, settings, regularizer, layers)
        metadata = training_metadata(
            settings,
            regularizer,
            layers,
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
        unfinished = unfinished_training(
            folders.output_folder(),
            cls.hidden.prompt,
            cls.hidden.unique_id,
            save_every or None,
            LEAVE_THE_TRAINING_ALONE,
            "seed",
            _inputs_fingerprint(generator, guidance, dataclasses.replace(settings, seed=0), regularizer, layers),
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
            regularizer,
            layers,
            metadata,
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
            logger.warning("%d of %d steps were skipped: their gradient was not finite.", result.history.skipped, steps)
        adapted = NamedGenerator(result.generator, generator.name, metadata)
        best = NamedGenerator(result.best, generator.name, {**metadata, "steps_done": str(result.best_step)})
        pictures = (to_image(images, settings.crop) for images in (before, after))
        return io.NodeOutput(adapted, *pictures, plot, adapted if result.best_step == result.steps_done else best)


def _prior(guidance: Guidance) -> ComfyPrior:
    prior = ComfyPrior(guidance.guider, guidance.vae, guidance.image_size)
    if guidance.guidance_end != 1.0 and not prior.can_scale:
        raise ValueError("This guider has no guidance scale that could change; set guidance_end to 1.")
    return prior


def _inputs_fingerprint(generator: NamedGenerator, guidance: Guidance, *others) -> str:
    """Describe what came through the links of one run of the node, in a few numbers."""
    settings = guidance.image_size, guidance.guidance_scale, conditioning_fingerprint(guidance.guider)
    return repr((weights_digest(generator.generator), settings, others))
