"""Making targets: samples of a generator, each edited by the diffusion model."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...stylegan import Crop, Draw, Generator, require_fitting, sample_codes, sample_z
from ...training.allocator import keeping_freed_memory
from ...training.draws import MicroStep
from ...training.loop import recording_gradients
from ...training.memory import MemoryRequest
from ...training.out_of_memory import handle_out_of_memory, split_rows
from ..detail import fine_detail
from ..draws import draw_cameras
from ..objective import prior_input, sample_size
from ..prior import Prior
from ..settings import TrainSettings
from ..views import require_views, seen_from
from .editing import edited, invert, noised, timesteps_up_to
from .files import TargetsFolder
from .pool import Made, Targets, to_bytes
from .settings import TargetSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Editor:
    """An Editor edits pictures with a diffusion model: `target` guides towards what they shall show, `source` says
    without guidance what they show; None takes the same noise for all in its place. With `half` both predict in bfloat16,
    which the pictures hardly show: half a level of 255."""

    target: Prior
    source: Prior | None
    half: bool = False

    def latents(self, images: Tensor) -> Tensor:
        """Encode pictures [B, 3, H, W] in [-1, 1] to latents [B, c, h, w], one by one: encoders take much memory."""
        device = self.target.device

        def encode() -> Tensor:
            return torch.cat([self.target.encode(image.to(device)) for image in images.split(1)])

        with torch.no_grad():
            return self._within(self.target, images[:1], encode)

    def edited(
        self,
        images: Tensor,
        strength: float,
        levels: int,
        seed: int = 0,
        z: Tensor | None = None,
        cameras: Tensor | None = None,
    ) -> Tensor:
        """Edit pictures [B, 3, H, W] in [-1, 1], which cameras [B, 25] took, at one strength, their latents z at hand or
        not; on the CPU."""
        timesteps = timesteps_up_to(strength, levels)
        with torch.no_grad():
            z = self.latents(images) if z is None else z
            if self.source is None:
                z_t = noised(self.target, z, timesteps[-1], torch.Generator().manual_seed(seed % 2**63))
            else:
                source = self.source
                z_t = self._predicting(source, images, lambda: invert(source, z, timesteps))
            target = self.target
            clean = self._predicting(target, images, lambda: edited(seen_from(target, cameras), z_t, timesteps))
            drawn = self.target.decode(clean)
            if drawn.shape[-2:] != images.shape[-2:]:  # some families decode to another size than they encode
                drawn = F.interpolate(drawn, images.shape[-2:], mode="bilinear", antialias=True)
            return drawn.clamp(-1, 1).cpu()

    def _predicting(self, prior: Prior, images: Tensor, body: Callable[[], Tensor]) -> Tensor:
        with torch.autocast(prior.device.type, torch.bfloat16, enabled=self.half):
            return self._within(prior, images, body)

    @staticmethod
    def _within(prior: Prior, images: Tensor, body: Callable[[], Tensor]) -> Tensor:
        count, _, height, width = images.shape
        return prior.session.run(body, MemoryRequest(count, height, width, images=1))


def make_targets(
    generator: Generator,
    editor: Editor,
    settings: TargetSettings,
    folder: TargetsFolder | None = None,
    progress: Callable[[Made], None] | None = None,
    class_index: int | None = None,
    crop: Crop | None = None,
    further: Tensor | None = None,
) -> Targets:
    """Draw samples of a generator and edit them, and before them what it draws of `further` codes [N, num_ws, w_dim]: a
    projected photograph that the trained generator shall know, for example. The same seed gives the same targets on the
    CPU.

    `progress` is called after every few and may raise to end it. With `folder`, pictures are written there as they come,
    and what is there is not made again. Works within torch.inference_mode, too. Raises ValueError where the parts do not
    fit together, TargetsError where the folder does not."""
    require_views(generator, editor.target.views)
    with recording_gradients(), keeping_freed_memory(editor.target.device):
        codes = sample_codes(
            generator, sample_z(generator.z_dim, settings.count, settings.seed), class_index=class_index
        )
        if further is not None:
            require_fitting(generator, further)
            codes = torch.cat([further.to(codes), codes])
        cameras = target_cameras(generator, len(codes), settings.seed)
        size = sample_size(generator, editor.target.image_size, crop)
        images = torch.empty(len(codes), 3, *size, dtype=torch.uint8)
        known = folder.begin(codes, generator, size, cameras) if folder else {}
        refresher = Refreshing(editor, settings, crop) if settings.refresh else None
        if folder and folder.finished:
            return replace(folder.read(generator), refresher=refresher)
        for index, picture in known.items():
            images[index] = picture
        missing = [index for index in range(len(codes)) if index not in known]
        done = len(known)
        for rows, samples, pictures in _edited(generator, editor, settings, crop, codes, cameras, missing):
            images[rows] = to_bytes(pictures)
            done += len(rows)
            if folder:
                folder.write(rows, images[rows])
            if progress:
                progress(Made(done, len(codes), rows, samples.cpu(), pictures))
        if folder:
            folder.finish()
        return Targets(codes, images, refresher, cameras)


def target_cameras(generator: Generator, count: int, seed: int) -> Tensor | None:
    """Return the camera [count, 25] of each target, by its number and the seed alone: drawn as those of a training are;
    None for a generator that takes none."""
    if not generator.config.takes_cameras:
        return None
    usual = TrainSettings()
    return torch.cat([draw_cameras(MicroStep(seed, index), 1, generator.config, usual) for index in range(count)])


def cameras_of(cameras: Tensor | None, rows) -> Tensor | None:
    return None if cameras is None else cameras[rows]


@dataclass(frozen=True)
class Refreshing:
    """Refreshing edits what a generator in training draws: half as strongly as its first samples, which were farther from
    the target."""

    editor: Editor
    settings: TargetSettings
    crop: Crop | None

    @property
    def every(self) -> int:
        return self.settings.refresh

    @property
    def share(self) -> float:
        return self.settings.refresh_share

    @torch.no_grad()
    def __call__(self, generator: Generator, pool: Targets, progress: Callable[[Made], None] | None = None) -> Tensor:
        """Return the pictures [K, 3, H, W], in bytes, that a generator shall draw of a pool's codes from now on.
        `progress` is called after every few and may raise to end it."""
        half, images = self.settings, pool.images.clone()
        half = replace(half, strength=half.strength / 2, levels=math.ceil(half.levels / 2))
        chosen = self._softest(generator, pool, math.ceil(self.share * len(pool)))
        done = 0
        for rows, samples, pictures in _edited(
            generator, self.editor, half, self.crop, pool.codes, pool.cameras, chosen
        ):
            images[rows] = to_bytes(pictures)
            done += len(rows)
            if progress:
                progress(Made(done, len(chosen), rows, samples.cpu(), pictures))
        return images

    def _softest(self, generator: Generator, pool: Targets, count: int) -> list[int]:
        """The `count` rows of a pool whose pictures have least of their targets' fine detail: what a generator cannot
        draw, for one because codes near by have other targets, it leaves blurred."""
        if count >= len(pool):
            return list(range(len(pool)))
        found = []
        for rows in split_rows(len(pool), self.settings.batch_size):
            seen = cameras_of(pool.cameras, rows)
            samples = samples_of(generator, pool.codes[rows], self.editor.target, self.crop, seen)
            found.append(fine_detail(samples) / fine_detail(pool.pictures(rows, samples.device)).clamp_min(1e-12))
        return torch.cat(found).argsort()[:count].sort().values.tolist()


@dataclass(frozen=True)
class Strip:
    """A Strip is what samples become at several guidance scales and strengths."""

    samples: Tensor  # [N, 3, H, W] in [-1, 1]
    scales: tuple[float, ...]
    strengths: tuple[float, ...]
    edited: Tensor  # [N, scales, strengths, 3, H, W] in [-1, 1]


def edit_strip(
    generator: Generator,
    editors: Mapping[float, Editor],
    strengths: Sequence[float],
    levels: int,
    count: int,
    seed: int = 0,
    class_index: int | None = None,
    crop: Crop | None = None,
    progress: Callable[[int, Tensor], None] | None = None,
) -> Strip:
    """Edit `count` samples of a generator by editors, by their guidance scale, at several strengths: the first ones that
    `make_targets` edits with the same seed. `progress` is called with the number of edits done and the pictures of the
    last one, and may raise."""
    with recording_gradients():
        codes = sample_codes(generator, sample_z(generator.z_dim, count, seed), class_index=class_index)
        first = next(iter(editors.values()))
        seen = target_cameras(generator, count, seed)
        samples, found = samples_of(generator, codes, first.target, crop, seen), {}
        z = first.latents(samples)
        for strength in strengths:
            for scale, editor in editors.items():
                found[scale, strength] = editor.edited(samples, strength, levels, seed, z, seen)
                if progress:
                    progress(len(found), found[scale, strength])
        rows = [torch.stack([found[scale, strength] for strength in strengths], 1) for scale in editors]
        return Strip(samples.cpu(), tuple(editors), tuple(strengths), torch.stack(rows, 1))


@torch.no_grad()
def samples_of(
    generator: Generator, codes: Tensor, prior: Prior, crop: Crop | None = None, cameras: Tensor | None = None
) -> Tensor:
    """Draw pictures [B, 3, H, W] of codes [B, num_ws, w_dim] as the prior sees them, on its device; of a generator that
    takes cameras as these see it (None: its usual one)."""
    device = next(generator.parameters()).device
    draw = Draw(codes, cameras=cameras).to(device)
    images = torch.cat([generator.synthesis(draw[rows], noise="const") for rows in split_rows(len(codes), 4)])
    return prior_input(images.float(), prior.image_size, crop).to(prior.device)


def _edited(
    generator: Generator,
    editor: Editor,
    settings: TargetSettings,
    crop: Crop | None,
    codes: Tensor,
    cameras: Tensor | None,
    rows: list[int],
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield some of the rows, what a generator draws of their codes, and what that becomes; fewer at a time once memory
    has run out."""
    size = settings.batch_size
    while rows:
        some = rows[:size]
        seen = cameras_of(cameras, some)
        samples = samples_of(generator, codes[some], editor.target, crop, seen)
        try:
            pictures = editor.edited(samples, settings.strength, settings.levels, settings.seed, cameras=seen)
        except Exception as error:
            if len(some) == 1 or not handle_out_of_memory(error):
                raise
            pictures = None
        if pictures is None:  # outside of the handling, which keeps what the failed call held
            editor.target.session.release_memory()
            logger.warning("Out of memory while %d targets were made at a time; going on with fewer.", len(some))
            size = max(1, len(some) // 2)
            continue
        rows = rows[len(some) :]
        yield some, samples, pictures
