"""Drawing with generators, for several nodes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..stylegan import Crop, crop_of, draw_codes, require_fitting
from ..stylegan.memory import drawing_memory
from ..training.out_of_memory import handle_out_of_memory
from .adapter import make_room, progress_bar, raise_if_interrupted, retry_without_models, torch_device
from .types import NamedGenerator

FEWER = "Draw fewer at a time, or close other programs that use the device."


def to_image(images: torch.Tensor, crop: Crop | None = None) -> torch.Tensor:
    """What counts of images [B, 3, R, R] in [-1, 1], as the host's IMAGE [B, H, W, 3] in [0, 1]."""
    images = images if crop is None else crop.apply(images)
    return (images.clamp(-1, 1) + 1).div(2).movedim(1, -1).float().cpu()


def picture_image(picture) -> torch.Tensor:
    """A Pillow picture (RGB) as the host's IMAGE [1, H, W, 3] in [0, 1]."""
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.view(1, picture.height, picture.width, 3).float() / 255


def draw(generator: NamedGenerator, ws: torch.Tensor, noise: str = "const") -> torch.Tensor:
    """Codes [N, num_ws, w_dim] as the host's IMAGE [N, H, W, 3], with progress; ends on cancel.

    Raises RuntimeError with a sentence when it does not fit into memory."""
    require_fitting(generator.generator, ws)
    with room_to_draw(generator, len(ws)):
        return retry_without_models(lambda: _drawn(generator, ws, noise))


@contextmanager
def room_to_draw(generator: NamedGenerator, count: int, otherwise: str = FEWER) -> Iterator[None]:
    """Memory for drawing in the body, where the host's models make way. Raises RuntimeError with a sentence when `count`
    images do not fit even so; `otherwise` says what else to do."""
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
    with torch.inference_mode(False), at(torch_device(), generator.generator):
        for piece in draw_codes(generator.generator, ws, noise):
            raise_if_interrupted()
            rows = to_image(piece, crop)
            if images is None:  # a film can be half of the memory: it is not joined from pieces
                images = rows.new_empty(count, *rows.shape[1:])
            images[done : done + len(rows)] = rows
            done += len(rows)
            bar.update_absolute(done, count)
    return images


@contextmanager
def at(device, module: torch.nn.Module) -> Iterator[None]:
    """A generator or another network on a device, and back where it was at the end."""
    home = next(module.parameters()).device
    try:  # moving may end halfway, when memory runs out
        _move(module, device)
        yield
    finally:
        _move(module, home)


def _move(module: torch.nn.Module, device) -> None:
    with torch.inference_mode(False):  # or its parameters could never be trained again
        module.to(device)
