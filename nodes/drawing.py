"""Sampling latents and drawing with generators, for several nodes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..stylegan import Crop, crop_of, draw_codes, mapping_digest, require_fitting, sample_codes, sample_z
from ..stylegan.memory import drawing_memory
from ..training.out_of_memory import handle_out_of_memory
from .host.device import make_room, raise_if_interrupted, retry_without_models, torch_device
from .host.server import progress_bar
from .inputs import at_least, class_number
from .on_device import on_device
from .types import Latents, NamedGenerator

FEWER = "Draw fewer at a time, or close other programs that use the device."


def sampled(
    generator: NamedGenerator, seed: int, count: int, psi: float, cutoff: int = 0, class_index: int = -1
) -> Latents:
    """Sample the latents that Sample Generator draws with the same settings."""
    at_least(1, count=count)
    at_least(0, truncation_cutoff=cutoff)
    network = generator.generator
    with torch.inference_mode(False):
        ws = sample_codes(network, sample_z(network.z_dim, count, seed), psi, cutoff or None, class_number(class_index))
    return Latents(ws, mapping_digest(network), f"{count} of seed {seed}, {generator.name}")


def to_image(images: torch.Tensor, crop: Crop | None = None) -> torch.Tensor:
    """Return what counts of images [B, 3, R, R] in [-1, 1], as the host's IMAGE [B, H, W, 3] in [0, 1]."""
    images = images if crop is None else crop.apply(images)
    return (images.clamp(-1, 1) + 1).div(2).movedim(1, -1).float().cpu()


def picture_image(picture) -> torch.Tensor:
    """Return a Pillow picture (RGB) as the host's IMAGE [1, H, W, 3] in [0, 1]."""
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.view(1, picture.height, picture.width, 3).float() / 255


def draw(generator: NamedGenerator, ws: torch.Tensor, noise: str = "const") -> torch.Tensor:
    """Draw codes [N, num_ws, w_dim] as the host's IMAGE [N, H, W, 3], with progress; ends on cancel.

    Raises RuntimeError with a sentence when it does not fit into memory."""
    require_fitting(generator.generator, ws)
    with room_to_draw(generator, len(ws)):
        return retry_without_models(lambda: _drawn(generator, ws, noise))


@contextmanager
def room_to_draw(generator: NamedGenerator, count: int, otherwise: str = FEWER) -> Iterator[None]:
    """Make room for drawing in the body, for which the host's models make way. Raises RuntimeError with a sentence when
    `count` images do not fit even so; `otherwise` says what else to do."""
    try:
        make_room(drawing_memory, generator.generator.config)
        yield
    except Exception as error:
        if not handle_out_of_memory(error):
            raise
        side = generator.generator.resolution
        raise RuntimeError(
            f"Out of memory while drawing {count} images of {side} x {side} pixels. {otherwise}"
        ) from error


def _drawn(generator: NamedGenerator, ws: torch.Tensor, noise: str) -> torch.Tensor:
    crop, count = crop_of(generator.metadata), len(ws)
    bar, images, done = progress_bar(count), None, 0
    with torch.inference_mode(False), on_device(torch_device(), generator.generator):
        for piece in draw_codes(generator.generator, ws, noise):
            raise_if_interrupted()
            rows = to_image(piece, crop)
            if images is None:  # a film can be half of the memory: it is not joined from pieces
                images = rows.new_empty(count, *rows.shape[1:])
            images[done : done + len(rows)] = rows
            done += len(rows)
            bar.update_absolute(done, count)
    return images
