"""The node that projects pictures into the latent space of a generator."""

import time
from functools import partial

import torch
from comfy_api.v0_0_2 import io

from ...metrics.colours import rgb
from ...metrics.figures import sample_grid
from ...stylegan import Views, crop_of, mapping_digest, picture_size
from ...stylegan.projection import NODE, Projection, ProjectionProgress, ProjectionSettings, fitted, project
from ..drawing import from_image, to_image
from ..features import NodeWithFeatures, features_input, load_network
from ..host.device import make_room, raise_if_interrupted, retry_without_models, torch_device
from ..host.server import progress_bar, show_text
from ..on_device import on_device
from ..settings import SettingInputs, settings_from
from ..types import CameraType, GeneratorType, Latents, LatentsType, aliases
from .cameras import camera_input
from .codes import EXPLORE

PREVIEWS = 25  # for each picture, and in long projections every 20 steps


def _room(pixels: int) -> int:
    """Estimate the bytes on the device for a step with VGG16, with some to spare: its tensors take 1.0 GB for pictures of
    256 x 256 pixels, 1.8 GB at 512 x 512, 3.3 GB at 1024 x 1024, beside 0.2 GB of weights."""
    return round(2**30 * (1.25 + 4 * pixels / 1024**2))


class ProjectImage(NodeWithFeatures):
    @classmethod
    def define_schema(cls):
        shown = SettingInputs(ProjectionSettings, NODE)
        return io.Schema(
            node_id="StyleGANFusionProjectImage",
            display_name="Project Image",
            category=EXPLORE,
            description="Finds the latents (W+) from which a generator draws your picture (GAN inversion). Draw Latents then "
            "draws them with an adapted generator: your own photo as a werewolf. Pictures should be framed like those that "
            "the generator draws: for FFHQ a face that looks at the camera, eyes in the middle.",
            inputs=[
                GeneratorType.Input(
                    "generator", tooltip="The generator before it was adapted: it has to know what is in the picture."
                ),
                io.Image.Input("images", tooltip="One or more pictures of any size. The middle of each is taken."),
                *shown.take("steps", "editability"),
                features_input(
                    "The network that compares the pictures: that of the miniature, which sees 64 pixels, or, better for "
                    "photos, VGG16 from a file in models/lpips, as in LPIPS Regularizer. Press R for new files."
                ),
                *shown.take("pixel_weight", "learning_rate", "seed", "class_index"),
                camera_input(
                    "From where the picture was taken, for a generator that draws in 3D; the front without it. With find_camera, "
                    "where the search begins."
                ),
                *shown.rest(),
            ],
            outputs=[
                LatentsType.Output(
                    display_name="latents", tooltip="One for each picture, for Draw Latents and the others."
                ),
                io.Image.Output(display_name="reconstruction", tooltip="What the generator draws from the latents."),
                io.Image.Output(
                    display_name="target", tooltip="The pictures as they were cut and resized, to compare."
                ),
                CameraType.Output(
                    display_name="camera", tooltip="From where each picture is seen, of a generator that draws in 3D."
                ),
            ],
            hidden=[io.Hidden.unique_id],
            **aliases("stylegan", "inversion", "invert", "photo", "encode"),
        )

    @classmethod
    def execute(
        cls,
        generator,
        images,
        features,
        camera=None,
        **inputs,
    ) -> io.NodeOutput:
        settings = ProjectionSettings(**settings_from(ProjectionSettings, NODE, inputs))
        network, crop = generator.generator, crop_of(generator.metadata)
        with torch.inference_mode(False):
            seen = None if camera is None else camera.cameras(network.config)[:1]
            targets = fitted(from_image(images), *picture_size(network, crop))
            report = _Report(cls.hidden.unique_id, len(targets), settings.all_steps, crop)
            network_of_features, found = load_network(features), []
            make_room(_room, network.height * network.width)
            with on_device(torch_device(), network):
                for target in targets.split(1):
                    report.begin(target)
                    arguments = network, target, network_of_features, settings, crop, report, seen
                    found.append(retry_without_models(partial(project, *arguments)))
        ws = torch.cat([projection.ws for projection in found])
        drawn = torch.cat([projection.image for projection in found])
        report.end(found)
        views = Views() if camera is None else camera
        if settings.find_camera:
            views = Views.of(torch.cat([projection.camera for projection in found]))
        latents = Latents(ws, mapping_digest(network), f"{len(found)} projected, {generator.name}")
        return io.NodeOutput(latents, to_image(drawn, crop), to_image(targets), views)


class _Report:
    """_Report shows how the projections go: the bar, the picture beside what is found, the time left. Ends on
    cancel."""

    def __init__(self, node_id: str, count: int, steps: int, crop):
        self.node_id, self.count, self.steps, self.crop = node_id, count, steps, crop
        self.bar, self.number, self.shown = progress_bar(count * steps), -1, 0.0
        self.preview_every = max(1, min(20, steps // PREVIEWS))
        self.began = time.monotonic()

    def begin(self, target: torch.Tensor) -> None:
        """Take up the next picture [1, 3, H, W]."""
        self.target, self.number = target, self.number + 1

    def __call__(self, progress: ProjectionProgress) -> None:
        raise_if_interrupted()
        done, total, now = self.number * self.steps + progress.step, self.count * self.steps, time.monotonic()
        preview = None
        if progress.step % self.preview_every == 0:
            drawn = progress.image.cpu() if self.crop is None else self.crop.apply(progress.image.cpu())
            preview = "JPEG", sample_grid(torch.cat([self.target, rgb(drawn)]), columns=2, cell=256), None
        self.bar.update_absolute(done, total, preview)
        if now - self.shown > 1:
            self.shown = now
            left = round((now - self.began) / done * (total - done))
            which = f"picture {self.number + 1} of {self.count}, " if self.count > 1 else ""
            show_text(self.node_id, f"{which}step {progress.step} of {progress.steps}, {left} s left")

    def end(self, found: list[Projection]) -> None:
        """Show how near all of them came."""
        said = ", ".join(f"{one.distance:.3g}{one.found_at}" for one in found)
        show_text(self.node_id, f"perceptual distance: {said}")
