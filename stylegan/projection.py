"""Finding the W+ code of a picture: the projector of Karras et al. (arXiv 1912.04958, appendix D), extended from W to W+
(Abdal et al., arXiv 1904.03189), with a choice between the two.

The code alone has to hold the picture, for it is all that is carried over to another generator: noise inputs are not
optimized, as appendix D does (they would take up what the code lacks, and stay behind), but held at the generator's own,
which an adapted generator has as well.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..metrics.colours import rgb
from ..metrics.lpips import Features, lpips, reduced, unit_layers
from ..training.draws import MicroStep
from ..training.loop import Callback, Training, fit
from ..training.out_of_memory import handle_out_of_memory
from ..training.phases import Outcome, Phase
from ..training.settings import check_settings, setting
from .cameras import frontal, pitches, radii, turned, yaws
from .codes import w_statistics
from .config import EG3DConfig
from .crop import Crop, picture_size
from .networks import Generator
from .synthesis import NO_CAMERA, Draw

NODE = "Project Image"
"""The node that shows settings."""

STARTS = (0.0, -25.0, 25.0, -50.0, 50.0)
"""Yaws in degrees, from the camera that is given, from which a camera is searched for; the code begins at each."""

SPAN = 20.0
"""Degrees of a camera's angles that weigh as much as a standard deviation of w."""

PIXELS = 256
"""Longer side at most of the images whose pixels are compared."""

APART, OUT = 0.02, 0.002
"""Weights of the penalties at an editability of one half, where the picture of the mean has a loss of 1: on the mean
square of the offsets, and of w from the mean."""


@dataclass(frozen=True)
class ProjectionSettings:
    """ProjectionSettings say how a picture is projected. Raises ValueError for values out of range."""

    steps: int = setting(
        300,
        "For each picture. 200 to 500 are enough for most; 1000 for the last details.",
        what="The number of steps",
        least=1,
        node=NODE,
        shown=(1, 10_000, 1),
        added_later=False,
    )
    editability: float = setting(
        0.5,
        "0: as close to the picture as possible (W+ without bounds), which edits and adapted generators may tear apart. "
        "1: a plain w, which behaves as sampled latents do and is less like the picture.",
        what="The editability",
        least=0,
        most=1,
        node=NODE,
        shown=(0.0, 1.0, 0.05),
        added_later=False,
    )
    pixel_weight: float = setting(
        1.0,
        "How much equal colours count beside equal looks. Raise it when colours are off, lower it when the result is "
        "blurred.",
        what="The pixel weight",
        least=0,
        node=NODE,
        advanced=True,
        shown=(0.0, 1000.0, 0.5),
        added_later=False,
    )
    learning_rate: float = setting(
        0.06,
        "Step size of Adam, in standard deviations of w. Lower it when the preview jumps about until the end.",
        what="The learning rate",
        least=0,
        node=NODE,
        advanced=True,
        shown=(0.001, 2.0, 0.001),  # the page rounds to its step
        added_later=False,
    )
    noise: float = setting(0.05, "Added to w at the start, in standard deviations of w.", what="The noise", least=0)
    seed: int = setting(
        0,
        "Of the noise that keeps the search from getting stuck. The same seed gives the same latents.",
        what="The seed",
        wants="give a whole number from 0 to 2^64 - 1",
        least=0,
        most=2**64 - 1,
        node=NODE,
        advanced=True,
        control="fixed",
        added_later=False,
    )
    class_index: int | None = setting(
        None,
        "For generators with classes (CIFAR-10 has 0 to 9): whose mean the search begins from.",
        least=0,
        node=NODE,
        advanced=True,
        none="that of all",
        none_as=-1,
        shown=(-1, 65535, 1),
    )

    find_camera: bool = setting(
        False,
        "For generators that draw in 3D: find from where the picture was taken, too. The search begins at five yaws, and takes "
        "half as many steps again.",
        node=NODE,
    )

    def __post_init__(self):
        check_settings(self)

    @property
    def steps_of_start(self) -> int:
        """Return the steps after which the five starts of a camera are compared."""
        return max(1, self.steps // 10) if self.find_camera else 0

    @property
    def all_steps(self) -> int:
        """Return the steps for a picture, with those that look for its camera."""
        return self.steps + len(STARTS) * self.steps_of_start


@dataclass(frozen=True)
class ProjectionProgress:
    """ProjectionProgress is passed to the progress callback after every step. An exception that the callback
    raises ends the projection."""

    step: int  # steps done
    steps: int  # steps in all
    loss: float
    image: Tensor  # [1, img_channels, H, W], about [-1, 1]: what the code drew in this step, where the generator is


@dataclass(frozen=True)
class Projection:
    """A Projection is the code that was found, and what is drawn from it."""

    ws: Tensor  # [1, num_ws, w_dim], on the CPU
    image: Tensor  # [1, img_channels, H, W], about [-1, 1], on the CPU: what the generator draws from it
    distance: float  # LPIPS to the picture
    pixel_error: float  # mean squared difference to the picture
    camera: Tensor | None = None  # [1, 25], on the CPU: the one that was found; None: none was searched for

    @property
    def found_at(self) -> str:
        """Return where the camera was found, in words; "" where none was searched for."""
        if self.camera is None:
            return ""
        return f", seen from yaw {yaws(self.camera).item():.1f}, pitch {pitches(self.camera).item():.1f}"


class ProjectionOutOfMemory(MemoryError):
    """A step does not fit into memory; the message says what to do."""


def fitted(images: Tensor, width: int, height: int) -> Tensor:
    """Return the middle of images [B, C, H, W] of any size that has the proportions wanted,
    at [B, C, height, width]."""
    images = images.float().cpu()  # not every device reduces without aliasing
    high, wide = images.shape[-2:]
    scale = min(high / height, wide / width)
    images = Crop(max(1, round(width * scale)), max(1, round(height * scale))).apply(images)
    if list(images.shape[-2:]) == [height, width]:
        return images
    return F.interpolate(images, (height, width), mode="bicubic", antialias=True, align_corners=False)


@torch.inference_mode(False)
@torch.enable_grad()
def project(
    generator: Generator,
    target: Tensor,
    features: Features,
    settings: ProjectionSettings | None = None,
    crop: Crop | None = None,
    progress: Callable[[ProjectionProgress], None] | None = None,
    camera: Tensor | None = None,
) -> Projection:
    """Find the W+ code whose picture is nearest to `target` [1, 3, H, W] in [-1, 1], with the sides of the generator's
    pictures (of their `crop`, where they have one).

    The code is w + offset_i in layer i; the penalties on the offsets (arXiv 2102.02766, eq. 6) and on the distance of w
    from the mean, both in standard deviations of w, grow with the editability. Runs where the generator is, and leaves
    it as it is. `camera` [1, 25] is the one that took the picture, for a generator that takes cameras (None: its usual
    one), or, with `find_camera`, where its yaw and pitch are searched from. The same seed gives the same code, on the CPU bit for bit with the same number of threads.

    Raises ValueError when the target does not fit, ProjectionOutOfMemory with a sentence when a step does not."""
    settings = settings or ProjectionSettings()
    if settings.find_camera and not generator.config.takes_cameras:
        raise ValueError(NO_CAMERA)
    width, height = picture_size(generator, crop)
    if tuple(target.shape) != (1, 3, height, width):
        raise ValueError(
            f"The picture has shape {list(target.shape)}; give it [1, 3, {height}, {width}], as this generator draws."
        )
    try:
        return _Search(generator, target, features, settings, crop, camera).run(progress)
    except Exception as error:
        if not handle_out_of_memory(error):
            raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ProjectionOutOfMemory(
            f"Out of memory ({said}). Close other programs that use the device, choose the features of the miniature, or "
            "take a generator of smaller pictures."
        ) from error
    finally:
        features.to(torch.device("cpu"))


class _Camera(nn.Module):
    """A camera whose yaw and pitch are searched for."""

    def __init__(self, config: EG3DConfig, start: Tensor):
        super().__init__()
        start = start.double().cpu()
        self.config, self.focal = config, start[0, 16].item()
        self.yaw, self.pitch, self.radius = (read(start).item() for read in (yaws, pitches, radii))
        self.moved = nn.Parameter(torch.zeros(2))  # yaw and pitch, in spans

    def begin(self, yaw: float, pitch: float) -> None:
        """Stand at angles beside those of the start, in degrees."""
        self.moved.data = torch.tensor([yaw, pitch]) / SPAN

    @property
    def beside(self) -> tuple[float, float]:
        """Return by how many degrees it stands beside the start."""
        yaw, pitch = (self.moved.detach() * SPAN).tolist()
        return yaw, pitch

    def forward(self) -> Tensor:
        yaw, pitch = (self.moved * SPAN).unbind()
        return turned(self.config, self.yaw + yaw, (self.pitch + pitch).clamp(-85, 85), self.radius, self.focal)


class _Codes(nn.Module):
    """A code w and its offsets in each layer, in standard deviations of w from the mean, and the camera."""

    def __init__(self, generator: Generator, settings: ProjectionSettings, camera: Tensor | None = None):
        super().__init__()
        self.given, self.searched = camera, None
        if settings.find_camera:
            self.searched = _Camera(generator.config, frontal(generator.config) if camera is None else camera)
        class_index = settings.class_index
        self.mean, self.deviation = w_statistics(generator, class_index)
        shape, device = (1, generator.num_ws, generator.w_dim), self.mean.device
        self.w = nn.Parameter(torch.zeros(1, 1, generator.w_dim, device=device))
        self.offsets = nn.Parameter(torch.zeros(shape, device=device))

    def forward(self, noise: Tensor | float = 0.0) -> Draw:
        return Draw(self.mean + self.deviation * (self.w + noise + self.offsets), cameras=self.camera)

    @property
    def camera(self) -> Tensor | None:
        return self.given if self.searched is None else self.searched()

    def begin(self, yaw: float, pitch: float) -> None:
        """Stand at the mean again, with the camera at angles beside its start."""
        self.w.data.zero_()
        self.offsets.data.zero_()
        self.searched.begin(yaw, pitch)


class _Search:
    """What a projection computes in a step."""

    def __init__(
        self,
        generator: Generator,
        target: Tensor,
        features: Features,
        settings: ProjectionSettings,
        crop: Crop | None,
        camera: Tensor | None = None,
    ):
        self.generator, self.settings, self.crop = generator, settings, crop
        self.codes = _Codes(generator, settings, camera)
        self.variables = [self.codes.w]
        if settings.editability != 1:
            self.variables.append(self.codes.offsets)
        if settings.find_camera:
            self.variables.append(self.codes.searched.moved)
        self.device = self.codes.mean.device
        self.features = features.to(self.device)
        # One after the other, not by step: a projection is never gone on with, and seeds keep meaning what they meant.
        self.random = torch.Generator().manual_seed(settings.seed)
        self.image: Tensor | None = None  # what the code drew in the latest step
        self.done = 0  # steps
        target = target.clone().to(self.device)
        with torch.no_grad():
            self.pixels, self.layers = reduced(target, PIXELS), unit_layers(self.features, target)
            self.from_mean = [difference.clamp_min(1e-6) for difference in self._differences(self._draw())]

    def run(self, progress: Callable[[ProjectionProgress], None] | None) -> Projection:
        settings, codes = self.settings, self.codes
        if settings.find_camera:
            starts = [self._from(yaw, progress) for yaw in STARTS]
            _, place = min(starts)
            codes.begin(*place)
        self._fit(settings.steps, progress)
        with torch.no_grad():
            image = self._draw()
            distance, error = self._differences(image)
            camera = None if codes.searched is None else codes.searched()
        return Projection(codes().ws.detach().cpu(), image.cpu(), distance.item(), error.item(), camera)

    def _from(self, yaw: float, progress: Callable[[ProjectionProgress], None] | None) -> tuple[float, tuple]:
        """Search for a little from the camera at a yaw beside the start's: the loss, and where the camera came to."""
        self.codes.begin(yaw, 0.0)
        self._fit(self.settings.steps_of_start, progress)
        with torch.no_grad():
            return self._loss(self._draw()).item(), self.codes.searched.beside

    def _fit(self, steps: int, progress: Callable[[ProjectionProgress], None] | None) -> None:
        settings, self.steps = self.settings, steps
        adam = torch.optim.Adam(self.variables, betas=(0.9, 0.999))
        rate = lambda step: settings.learning_rate * ramp(step / steps)  # noqa: E731
        phase = Phase("codes", self.codes, adam, self._compute, rate)
        fit(Training([phase], steps, settings.seed), [_Reporting(self, progress)] if progress else [])

    def _draw(self, noise: Tensor | float = 0.0) -> Tensor:
        return self.generator.synthesis(self.codes(noise))

    def _compute(self, micro_steps: Sequence[MicroStep]) -> Outcome:
        """Gradients of what the code draws now, with noise on w that fades."""
        (micro_step,), settings = micro_steps, self.settings
        noise = settings.noise * max(0, 1 - micro_step.step / self.steps / 0.75) ** 2
        if noise > 0:
            noise = noise * torch.randn(self.codes.w.shape, generator=self.random).to(self.device)
        image = self._draw(noise)
        loss = self._loss(image)
        self.image = image.detach()
        # The generator's own parameters are left alone, also where they record gradients.
        gradients = torch.autograd.grad(loss, self.variables)
        return Outcome(dict(zip(self.variables, gradients, strict=True)), {"loss": loss.item()})

    def _loss(self, image: Tensor) -> Tensor:
        distance, error = (a / b for a, b in zip(self._differences(image), self.from_mean, strict=True))
        return distance + self.settings.pixel_weight * error + self._penalty()

    def _differences(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """LPIPS and mean squared difference to the target."""
        image = rgb(image if self.crop is None else self.crop.apply(image))
        distance = lpips(unit_layers(self.features, image), self.layers, self.features.calibration).squeeze()
        return distance, F.mse_loss(reduced(image, PIXELS), self.pixels)

    def _penalty(self) -> Tensor:
        """On how far the layers' codes are from each other (none where they are one) and from the mean."""
        editability, codes = self.settings.editability, self.codes
        apart = 0 if editability == 1 else editability / (1 - editability) * codes.offsets.square().mean()
        return APART * apart + OUT * editability * codes.w.square().mean()


class _Reporting(Callback):
    """Calls the progress callback."""

    def __init__(self, search: _Search, progress: Callable[[ProjectionProgress], None]):
        self.search, self.progress = search, progress

    def after_step(self, training: Training) -> None:
        search, loss = self.search, training.history.records[-1].losses["loss"]
        search.done += 1
        self.progress(ProjectionProgress(search.done, search.settings.all_steps, loss, search.image))


def ramp(done: float) -> float:
    """Return the share of the learning rate when a share of the steps is done: rises over the first 5 %, falls over the
    last quarter along half a cosine (appendix D)."""
    falling = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / 0.25))
    return falling * min(1.0, done / 0.05)
