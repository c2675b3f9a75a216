"""The node that trains."""

import dataclasses
import logging

import torch
from comfy_api.v0_0_2 import io

from ..sds import (
    PARAMETER_GROUPS,
    TRAINED_BY_DEFAULT,
    AllLayers,
    SavedTrainingError,
    TrainingDiverged,
    TrainingOutOfMemory,
    TrainingStopped,
    TrainSettings,
    parse_groups,
    train_generator,
    training_metadata,
    weights_digest,
)
from ..sds.figures import loss_plot
from ..sds.out_of_memory import is_out_of_memory
from ..stylegan import crop_of, sample_z
from .adapter import ComfyPrior, is_interruption
from .drawing import class_input, class_number, render_on, to_image
from .guider import sketch
from .report import Report
from .spare_memory import give_back
from .types import CATEGORY, GeneratorType, Guidance, GuidanceType, LayersType, NamedGenerator, RegularizerType
from .unfinished import keep, keep_latest, unfinished_training

logger = logging.getLogger(__name__)

GO_ON, START_OVER = "go on", "start over"
MEMORY = {"auto": None, "keep activations": False, "compute again": True}
LEAVE_THE_TRAINING_ALONE = ("samples", "save_every", "when_unfinished", "memory", "collapse_threshold")
"""Inputs that may change between a training that ended early and going on with it."""
LESS = "Choose a smaller image_size or batch_size, close other programs that use the device, or start ComfyUI with --lowvram."
"""What to do when memory runs out."""


class TrainGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionTrainGenerator",
            display_name="Train Generator",
            category=CATEGORY,
            description="Adapts a generator to the prompt of the guidance. The generator that comes in stays as it is. "
            f"Cancel keeps what was trained, in output/stylegan. {TRAINED_BY_DEFAULT}",
            inputs=[
                GeneratorType.Input("generator", tooltip="The generator to start from."),
                GuidanceType.Input("guidance", tooltip="From SDS Guidance."),
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
                    tooltip="Images in each step. More are steadier and slower.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.001,
                    min=0.00001,
                    max=0.1,
                    step=0.0001,
                    tooltip="Size of the steps of Adam, before StyleGAN2's factor of 4/5.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate="fixed",  # the next run of the graph goes on with this training
                    tooltip="Latents, noise and timesteps of every step follow from it.",
                ),
                io.Int.Input("samples", default=8, min=2, max=64, tooltip="Number of images before and after."),
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
                    "after a crash. 0 saves only on cancel. A finished training's file goes, and the last five others stay.",
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
            ],
            outputs=[
                GeneratorType.Output(display_name="adapted generator"),
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
    ) -> io.NodeOutput:
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
        metadata = training_metadata(
            settings,
            regularizer,
            layers,
            prompt=guidance.prompt,
            negative_prompt=guidance.negative_prompt,
            guidance={"guidance_scale": guidance.guidance_scale, "extra_prompts": guidance.extra_prompts},
            source=generator.name,
            source_metadata=generator.metadata,
        )
        unfinished = unfinished_training(
            cls.hidden.prompt,
            cls.hidden.unique_id,
            save_every or None,
            LEAVE_THE_TRAINING_ALONE,
            "seed",
            _arrived(generator, guidance, dataclasses.replace(settings, seed=0), regularizer, layers),
        )
        if when_unfinished == START_OVER:
            unfinished.start_over()
        unfinished.make_room()
        z = sample_z(generator.generator.z_dim, samples, seed)
        with torch.inference_mode(False):
            report = Report(settings, cls.hidden.unique_id)
            if done := unfinished.saved.steps_done():
                report.going_on(done, f'when_unfinished "{START_OVER}" begins anew')
            else:
                report.other_seeds(unfinished.other_seeds())
            result, failure = None, None
            try:
                result = train_generator(
                    generator.generator, prior, settings, regularizer, layers, report, unfinished.saved
                )
            except SavedTrainingError as error:
                failure = RuntimeError(f'{error} Or set when_unfinished to "{START_OVER}".')
            except TrainingStopped as stopped:
                again = 0 if isinstance(stopped, TrainingDiverged) else unfinished.saved.steps_done()
                failure = _failure(stopped, keep(stopped.result, metadata, again), report)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                said = f"Out of memory before the first step ({_first_line(error)}). {LESS}"
                failure = RuntimeError(_with_restart(said))
            prior.release_memory()
            give_back()
            if failure is not None:  # raised out here, where nothing of the training hangs on to it
                raise failure
            try:
                before, after = (
                    render_on(prior.device, drawing, z, 1.0, None, "const", settings.class_index)
                    for drawing in (generator.generator, result.generator)
                )
                plot = _as_image(loss_plot(result.history))
            except Exception as error:
                where = keep(result, metadata, 0)
                raise RuntimeError(f"The pictures could not be drawn: {_sentence(error)} {where}") from error
            keep_latest(result.generator, metadata)
            unfinished.forget()
        if result.history.skipped:
            logger.warning("%d of %d steps were skipped: their gradient was not finite.", result.history.skipped, steps)
        adapted = NamedGenerator(result.generator, generator.name, metadata)
        best = NamedGenerator(result.best, generator.name, {**metadata, "steps_done": str(result.best_step)})
        pictures = (to_image(images, settings.crop) for images in (before, after))
        return io.NodeOutput(adapted, *pictures, plot, adapted if result.best_step == steps else best)


def _prior(guidance: Guidance) -> ComfyPrior:
    prior = ComfyPrior(guidance.guider, guidance.vae, guidance.image_size)
    if guidance.guidance_end != 1.0 and not prior.can_scale:
        raise ValueError("This guider has no guidance scale that could change; set guidance_end to 1.")
    return prior


def _arrived(generator: NamedGenerator, guidance: Guidance, *others) -> str:
    """What came through the links of one run of the node, in a few numbers."""
    settings = guidance.image_size, guidance.guidance_scale, sketch(guidance.guider)
    return repr((weights_digest(generator.generator), settings, others))


def _failure(stopped: TrainingStopped, kept: str, report: Report) -> BaseException:
    """What to raise when a training ended early and what was trained is kept."""
    cause = stopped.__cause__
    if is_interruption(cause):
        report.ended(kept)
        return cause.with_traceback(None)
    said = _sentence(stopped)
    if isinstance(stopped, TrainingOutOfMemory):
        said += " Starting ComfyUI with --lowvram helps, too. Other settings begin a new training."
    failure = RuntimeError(f"{_with_restart(said)} {kept}")
    failure.__cause__ = cause
    return failure


def _with_restart(said: str) -> str:
    """With what else to do after an error on the CPU: oneDNN, once it could not make a convolution, makes no other."""
    return f"{said} Then restart ComfyUI, or every new convolution fails." if "create a primitive" in said else said


def _sentence(error: BaseException) -> str:
    """What an error says, with a full stop."""
    said = str(error).strip() or type(error).__name__
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _as_image(picture) -> torch.Tensor:
    """A Pillow picture as the host's IMAGE [1, H, W, 3] in [0, 1]."""
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.view(1, picture.height, picture.width, 3).float() / 255
