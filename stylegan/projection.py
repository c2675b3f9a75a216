"""Finding the W+ code of a picture: the projector of Karras et al. (arXiv 1912.04958, appendix D), extended from W to W+
(Abdal et al., arXiv 1904.03189), with a choice between the two.

The code alone has to hold the picture, for it is all that is carried over to another generator: noise inputs are not
optimized, as appendix D does (they would take up what the code lacks, and stay behind), but held at the generator's own,
which an adapted generator has as well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics.lpips import Features, lpips, reduced, unit_layers
from ..training.out_of_memory import handle_out_of_memory
from .codes import w_statistics
from .crop import Crop
from .networks import Generator
from .synthesis import Draw

PIXELS = 256
"""Longer side at most of the images whose pixels are compared."""

APART, OUT = 0.02, 0.002
"""Weights of the penalties at an editability of one half, where the picture of the mean has a loss of 1: on the mean
square of the offsets, and of w from the mean."""


@dataclass(frozen=True)
class ProjectionSettings:
    """How a picture is projected. Raises ValueError for values out of range."""

    steps: int = 300
    editability: float = (
        0.5  # 0: W+ without bounds, as close to the picture as it gets; 1: W, the same code in every layer
    )
    pixel_weight: float = 1.0  # of the mean squared difference of pixels, beside LPIPS
    learning_rate: float = 0.06  # of Adam, in standard deviations of w
    noise: float = 0.05  # added to w at the start, in standard deviations of w
    seed: int = 0
    class_index: int | None = None  # of generators with classes: whose mean to begin from; None is that of all

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"The number of steps is {self.steps}; it must be at least 1.")
        if not 0 <= self.editability <= 1:
            raise ValueError(f"The editability is {self.editability}; it must be from 0 to 1.")
        for name in ("pixel_weight", "learning_rate", "noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"The {name.replace('_', ' ')} is {value}; it must be 0 or more.")


@dataclass(frozen=True)
class ProjectionProgress:
    """Passed to the progress callback after every step. An exception that the callback raises ends the projection."""

    step: int  # steps done
    steps: int  # steps in all
    loss: float
    image: Tensor  # [1, 3, R, R], about [-1, 1]: what the code drew in this step, where the generator is


@dataclass(frozen=True)
class Projection:
    """What was found."""

    ws: Tensor  # [1, num_ws, w_dim], on the CPU
    image: Tensor  # [1, 3, R, R], about [-1, 1], on the CPU: what the generator draws from it
    distance: float  # LPIPS to the picture
    pixel_error: float  # mean squared difference to the picture


class ProjectionOutOfMemory(MemoryError):
    """A step does not fit into memory; the message says what to do."""


def fitted(images: Tensor, width: int, height: int) -> Tensor:
    """The middle of images [B, C, H, W] of any size that has the proportions wanted, at [B, C, height, width]."""
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
) -> Projection:
    """The W+ code whose picture is nearest to `target` [1, 3, H, W] in [-1, 1], with the sides of the generator's pictures
    (of their `crop`, where they have one).

    The code is w + offset_i in layer i; the penalties on the offsets (arXiv 2102.02766, eq. 6) and on the distance of w
    from the mean, both in standard deviations of w, grow with the editability. Runs where the generator is, and leaves it
    as it is. The same seed gives the same code, bit for bit on the CPU.

    Raises ValueError when the target does not fit, ProjectionOutOfMemory with a sentence when a step does not."""
    settings = settings or ProjectionSettings()
    sides = (generator.resolution, generator.resolution)
    sides = sides if crop is None else (min(crop.height, sides[0]), min(crop.width, sides[1]))
    if tuple(target.shape) != (1, 3, *sides):
        raise ValueError(
            f"The picture has shape {list(target.shape)}; this generator draws [1, 3, {sides[0]}, {sides[1]}]."
        )
    try:
        return _Search(generator, target, features, settings, crop).run(progress)
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


class _Search:
    def __init__(self, generator: Generator, target: Tensor, features: Features, settings, crop: Crop | None):
        self.generator, self.settings, self.crop = generator, settings, crop
        self.device = next(generator.parameters()).device
        self.features = features.to(self.device)
        self.random = torch.Generator().manual_seed(settings.seed)
        self.mean, self.deviation = w_statistics(generator, settings.class_index)
        target = target.clone().to(self.device)
        with torch.no_grad():
            self.pixels, self.layers = reduced(target, PIXELS), unit_layers(self.features, target)
            mean = generator.synthesis(Draw(self.mean.expand(1, generator.num_ws, -1)))
            self.from_mean = [difference.clamp_min(1e-6) for difference in self._differences(mean)]
        self.w = torch.zeros(
            1, 1, generator.w_dim, device=self.device, requires_grad=True
        )  # in deviations from the mean
        self.offsets = torch.zeros(1, generator.num_ws, generator.w_dim, device=self.device, requires_grad=True)

    def run(self, progress) -> Projection:
        settings = self.settings
        variables = [self.w] if settings.editability == 1 else [self.w, self.offsets]
        optimizer = torch.optim.Adam(variables, lr=settings.learning_rate, betas=(0.9, 0.999))
        for step in range(settings.steps):
            done = step / settings.steps
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * ramp(done)
            image, loss = self._evaluate(variables, settings.noise * max(0, 1 - done / 0.75) ** 2)
            optimizer.step()
            if progress:
                progress(ProjectionProgress(step + 1, settings.steps, loss, image))
        with torch.no_grad():
            ws = self._codes(0.0)
            image = self.generator.synthesis(Draw(ws))
            distance, error = self._differences(image)
        return Projection(ws.cpu(), image.cpu(), distance.item(), error.item())

    def _codes(self, noise: float) -> Tensor:
        w = self.w
        if noise > 0:
            w = w + noise * torch.randn(w.shape, generator=self.random).to(self.device)
        return self.mean + self.deviation * (w + self.offsets)

    def _evaluate(self, variables: list[Tensor], noise: float) -> tuple[Tensor, float]:
        """The picture of the codes as they are, and its loss, with gradients."""
        image = self.generator.synthesis(Draw(self._codes(noise)))
        distance, error = (a / b for a, b in zip(self._differences(image), self.from_mean, strict=True))
        loss = distance + self.settings.pixel_weight * error + self._penalty()
        for variable, gradient in zip(variables, torch.autograd.grad(loss, variables), strict=True):
            variable.grad = gradient  # the generator's own parameters are left alone, also where they record gradients
        return image.detach(), loss.item()

    def _differences(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """LPIPS and mean squared difference to the target."""
        image = image if self.crop is None else self.crop.apply(image)
        distance = lpips(unit_layers(self.features, image), self.layers, self.features.calibration).squeeze()
        return distance, F.mse_loss(reduced(image, PIXELS), self.pixels)

    def _penalty(self) -> Tensor:
        """On how far the layers' codes are from each other (none where they are one) and from the mean."""
        editability = self.settings.editability
        apart = 0 if editability == 1 else editability / (1 - editability) * self.offsets.square().mean()
        return APART * apart + OUT * editability * self.w.square().mean()


def ramp(done: float) -> float:
    """Share of the learning rate when a share of the steps is done: rises over the first 5 %, falls over the last quarter
    along half a cosine (appendix D)."""
    falling = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / 0.25))
    return falling * min(1.0, done / 0.05)
