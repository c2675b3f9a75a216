"""The node that trains."""

import logging
import time

import torch
from comfy_api.v0_0_2 import io

from ..sds import (
    PARAMETER_GROUPS,
    TRAINED_BY_DEFAULT,
    AllLayers,
    Progress,
    TrainingStopped,
    TrainResult,
    TrainSettings,
    parse_groups,
    train_generator,
    training_metadata,
)
from ..sds.figures import loss_plot, sample_grid
from ..stylegan import crop_of, sample_z, save_or_rescue
from . import files
from .adapter import ComfyPrior, is_interruption, progress_bar, raise_if_interrupted, show_text
from .drawing import class_input, class_number, render_on, to_image
from .types import CATEGORY, GeneratorType, Guidance, GuidanceType, LayersType, NamedGenerator, RegularizerType

logger = logging.getLogger(__name__)

PREVIEWS = 40  # previews over a whole run
PREVIEW_SAMPLES = 4


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
                    control_after_generate=True,
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
            ],
            hidden=[io.Hidden.unique_id],
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
        regularizer=(),
        layers=None,
    ) -> io.NodeOutput:
        settings = TrainSettings(
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            t_min=guidance.t_min,
            t_max=guidance.t_max,
            seed=seed,
            also_train=parse_groups(also_train),
            cooldown=cooldown,
            class_index=class_number(class_index),
            crop=crop_of(generator.metadata),
        )
        prior = _prior(guidance)
        layers = layers or AllLayers()
        metadata = training_metadata(
            settings,
            regularizer,
            layers,
            prompt=guidance.prompt,
            negative_prompt=guidance.negative_prompt,
            guidance_scale=guidance.guidance_scale,
            source=generator.name,
            source_metadata=generator.metadata,
        )
        z = sample_z(generator.generator.z_dim, samples, seed)
        with torch.inference_mode(False):
            report = _Report(settings, cls.hidden.unique_id)
            try:
                result = train_generator(generator.generator, prior, settings, regularizer, layers, report)
            except TrainingStopped as stopped:
                where = _keep(stopped.result, metadata)
                if is_interruption(stopped.__cause__):
                    raise stopped.__cause__ from None
                raise RuntimeError(f"{stopped} {where}") from stopped.__cause__
            try:
                before, after = (
                    render_on(prior.device, drawing, z, 1.0, None, "const", settings.class_index)
                    for drawing in (generator.generator, result.generator)
                )
                plot = _as_image(loss_plot(result.history))
            except BaseException as error:
                raise RuntimeError(f"The pictures could not be drawn: {error} {_keep(result, metadata)}") from error
        if result.history.skipped:
            logger.warning("%d of %d steps were skipped: their gradient was not finite.", result.history.skipped, steps)
        adapted = NamedGenerator(result.generator, generator.name, metadata)
        return io.NodeOutput(adapted, to_image(before, settings.crop), to_image(after, settings.crop), plot)


class _Report:
    """Shows progress in the host: the bar with previews, and the time left on the node. Ends the run on cancel."""

    def __init__(self, settings: TrainSettings, node_id: str):
        self.bar = progress_bar(settings.steps)
        self.node_id = node_id
        self.crop = settings.crop
        self.preview_every = max(1, settings.steps // PREVIEWS)
        self.began = self.shown = None

    def __call__(self, progress: Progress) -> None:
        raise_if_interrupted()
        now = time.monotonic()
        preview = None
        if progress.step % self.preview_every == 0 or progress.step == progress.steps:
            samples = progress.samples(PREVIEW_SAMPLES)
            samples = samples if self.crop is None else self.crop.apply(samples)
            preview = ("JPEG", sample_grid(samples, cell=256), None)
        self.bar.update_absolute(progress.step, progress.steps, preview)
        if self.began is None:  # the first step also loads and warms up: it does not tell how long the others take
            self.began = (progress.step, now)
        elif self.shown is None or now - self.shown > 1 or progress.step == progress.steps:
            pace = (now - self.began[1]) / (progress.step - self.began[0])
            left = _duration(pace * (progress.steps - progress.step))
            losses = ", ".join(f"{name} {value:.3g}" for name, value in progress.losses.items())
            show_text(self.node_id, f"step {progress.step} of {progress.steps}, {left} left\n{losses}")
            self.shown = now


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _prior(guidance: Guidance) -> ComfyPrior:
    return ComfyPrior(
        guidance.model, guidance.vae, guidance.positive, guidance.negative, guidance.guidance_scale, guidance.image_size
    )


def _keep(result: TrainResult, metadata: dict[str, str]) -> str:
    """Write what was trained to a recovery file; a sentence that says where it is."""
    done = result.steps_done
    wanted = files.new_path("recovered")
    path = save_or_rescue(result.generator, wanted, {**metadata, "steps_done": str(done)})
    place = f"output/stylegan/{path.name}; Load StyleGAN2 loads it" if path == wanted else str(path)
    where = f"The generator as trained for {done} steps is in {place}."
    logger.warning("StyleGAN Fusion: %s", where)
    return where


def _as_image(picture) -> torch.Tensor:
    """A Pillow picture as the host's IMAGE [1, H, W, 3] in [0, 1]."""
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.view(1, picture.height, picture.width, 3).float() / 255
