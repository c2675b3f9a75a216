"""The node that trains."""

import logging
import time

import torch
from comfy.utils import ProgressBar
from comfy_api.v0_0_2 import io

from ..sds import (
    PARAMETER_GROUPS,
    AllLayers,
    Progress,
    TrainingStopped,
    TrainSettings,
    train_generator,
    training_metadata,
)
from ..sds.figures import loss_plot, sample_grid
from ..stylegan import sample_z, save_generator
from . import files
from .adapter import ComfyPrior, raise_if_interrupted
from .generators import render_samples, to_image
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
            "Cancel keeps what was trained, in output/stylegan.",
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
                    tooltip=f"Groups that are otherwise frozen, with commas: {', '.join(PARAMETER_GROUPS)}.",
                ),
                RegularizerType.Input("regularizer", optional=True, tooltip="Keeps the images close to the originals."),
                LayersType.Input(
                    "layers", optional=True, tooltip="From Layer Select. Without it all layers from 8x8 up train."
                ),
            ],
            outputs=[
                GeneratorType.Output(display_name="adapted generator"),
                io.Image.Output(display_name="before", tooltip="What the generator drew before training."),
                io.Image.Output(display_name="after", tooltip="The same latents after training."),
                io.Image.Output(display_name="plot", tooltip="Each term and the diversity over the steps."),
            ],
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
            also_train=tuple(name.strip() for name in also_train.split(",") if name.strip()),
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
        with torch.inference_mode(False):
            report = _Report(steps)
            try:
                result = train_generator(generator.generator, prior, settings, regularizer, layers, report)
            except TrainingStopped as stopped:
                _keep_and_raise(stopped, generator, metadata)
            z = sample_z(generator.generator.z_dim, samples, seed)
            before = render_samples(generator.generator, z, prior.device)
            after = render_samples(result.generator, z, prior.device)
        if result.history.skipped:
            logger.warning("%d of %d steps were skipped: their gradient was not finite.", result.history.skipped, steps)
        adapted = NamedGenerator(result.generator, generator.name, metadata)
        return io.NodeOutput(adapted, to_image(before), to_image(after), _as_image(loss_plot(result.history)))


class _Report:
    """Shows progress in the host: the bar with previews, and the time left in the log. Ends the run on cancel."""

    def __init__(self, steps: int):
        self.bar = ProgressBar(steps)
        self.preview_every = max(1, steps // PREVIEWS)
        self.log_every = max(1, steps // 10)
        self.began = None

    def __call__(self, progress: Progress) -> None:
        raise_if_interrupted()
        now = time.monotonic()
        if self.began is None:  # the first step also loads and warms up: it does not tell how long the others take
            self.began = (progress.step, now)
        preview = None
        if progress.step % self.preview_every == 0 or progress.step == progress.steps:
            preview = ("JPEG", sample_grid(progress.samples(PREVIEW_SAMPLES), cell=256), None)
        self.bar.update_absolute(progress.step, progress.steps, preview)
        if progress.step % self.log_every == 0 and progress.step > self.began[0]:
            pace = (now - self.began[1]) / (progress.step - self.began[0])
            losses = ", ".join(f"{name} {value:.3g}" for name, value in progress.losses.items())
            left = _duration(pace * (progress.steps - progress.step))
            logger.info("StyleGAN Fusion: step %d of %d, %s left (%s)", progress.step, progress.steps, left, losses)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _prior(guidance: Guidance) -> ComfyPrior:
    return ComfyPrior(
        guidance.model, guidance.vae, guidance.positive, guidance.negative, guidance.guidance_scale, guidance.image_size
    )


def _keep_and_raise(stopped: TrainingStopped, generator: NamedGenerator, metadata: dict[str, str]) -> None:
    """Write what was trained to a recovery file, then let the host see why the run ended."""
    path = files.new_path("recovered")
    done = stopped.result.steps_done
    save_generator(stopped.result.generator, path, {**metadata, "steps_done": str(done)})
    where = f"The generator as trained for {done} steps is in output/stylegan/{path.name}; Load StyleGAN2 loads it."
    logger.warning("StyleGAN Fusion: %s %s", stopped, where)
    cause = stopped.__cause__
    if cause is not None and type(cause).__name__ == "InterruptProcessingException":
        raise cause
    raise RuntimeError(f"{stopped} {where}") from cause


def _as_image(picture) -> torch.Tensor:
    """A Pillow picture as the host's IMAGE [1, H, W, 3] in [0, 1]."""
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.view(1, picture.height, picture.width, 3).float() / 255
