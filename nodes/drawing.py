"""Sampling latents and drawing with generators, for several nodes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..metrics.colours import rgb
from ..stylegan import (
    Crop,
    Draw,
    Views,
    crop_of,
    draw_codes,
    mapping_digest,
    noise_seeds,
    require_fitting,
    sample_codes,
    sample_z,
)
from ..stylegan.cameras import normals
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


def truncated(generator: NamedGenerator, ws: torch.Tensor, psi: float) -> torch.Tensor:
    """Move codes ws [N, num_ws, w_dim] to w_avg + psi (w - w_avg)."""
    with torch.inference_mode(False), torch.no_grad():
        return generator.generator.mapping.truncated(ws, psi)


def to_image(images: torch.Tensor, crop: Crop | None = None) -> torch.Tensor:
    """Return what counts of images [B, img_channels, H, W] in [-1, 1], as the host's IMAGE [B, H, W, C] in [0, 1]: of 4
    channels where they have alpha, as Join Image with Alpha gives them and Save Image takes them, else of 3."""
    images = images if crop is None else crop.apply(images)
    images = images if images.shape[1] == 4 else rgb(images)
    return (images.clamp(-1, 1) + 1).div(2).movedim(1, -1).float().cpu()


def image_colours(images: torch.Tensor) -> torch.Tensor:
    """Return the colours [B, H, W, 3] on the CPU of the host's IMAGE, of any number of channels."""
    return rgb(images.movedim(-1, 1)).movedim(1, -1).float().cpu()


def from_image(images: torch.Tensor) -> torch.Tensor:
    """Return the colours of the host's IMAGE in [0, 1] as images [B, 3, H, W] in [-1, 1] on the CPU."""
    return image_colours(images).movedim(-1, 1) * 2 - 1


def picture_image(picture) -> torch.Tensor:
    """Return a Pillow picture (RGB) as the host's IMAGE [1, H, W, 3] in [0, 1]."""
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.view(1, picture.height, picture.width, 3).float() / 255


def draw(
    generator: NamedGenerator, ws: torch.Tensor, noise: str = "const", seed: int = 0, views: Views | None = None
) -> torch.Tensor:
    """Draw codes [N, num_ws, w_dim] as the host's IMAGE [N, H, W, C], as `to_image` does, with progress; ends on cancel. Random noise is
    that of the seed. With `views` each code is drawn from all of them, one after the other.

    Raises RuntimeError with a sentence when it does not fit into memory, ValueError for views of a flat generator."""
    require_fitting(generator.generator, ws)
    seeds, (ws, cameras, rows) = noise_seeds(seed, 0, len(ws)), _from_all(generator, ws, views)
    with room_to_draw(generator, len(ws)):
        return retry_without_models(lambda: _drawn(generator, ws, noise, [seeds[row] for row in rows], cameras))


def _from_all(generator: NamedGenerator, ws: torch.Tensor, views: Views | None):
    """Codes, cameras and the numbers of the codes for a picture of each code from each view."""
    if views is None:
        return ws, None, range(len(ws))
    cameras = views.cameras(generator.generator.config)
    rows = [row for row in range(len(ws)) for _ in range(len(cameras))]
    return ws[rows], cameras.repeat(len(ws), 1), rows


def draw_depth(generator: NamedGenerator, ws: torch.Tensor, views: Views) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw depth, near white and far black, and normals of codes as the host's IMAGEs, from all views as `draw`."""
    ws, cameras, _ = _from_all(generator, ws, views)
    network, bar, found = generator.generator, progress_bar(len(ws)), []

    @torch.no_grad()
    def drawn() -> None:
        found.clear()
        with torch.inference_mode(False), on_device(torch_device(), network):
            for row in range(len(ws)):
                raise_if_interrupted()
                seen = Draw(ws[row : row + 1], cameras=cameras[row : row + 1]).to(torch_device())
                depth = network.synthesis.render(seen, "none").depth
                found.append((depth.cpu(), normals(depth, seen.cameras).cpu()))
                bar.update_absolute(row + 1, len(ws))

    with room_to_draw(generator, len(ws)):
        retry_without_models(drawn)
    depth, directions = (torch.cat(part) for part in zip(*found, strict=True))
    near, far = depth.min(), depth.max()
    return to_image(1 - 2 * (depth - near) / (far - near).clamp(min=1e-6)), to_image(directions)


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
        width, height = generator.generator.width, generator.generator.height
        raise RuntimeError(
            f"Out of memory while drawing {count} images of {width} x {height} pixels. {otherwise}"
        ) from error


def _drawn(generator: NamedGenerator, ws: torch.Tensor, noise: str, seeds: list[int], cameras) -> torch.Tensor:
    crop, count = crop_of(generator.metadata), len(ws)
    bar, images, done = progress_bar(count), None, 0
    with torch.inference_mode(False), on_device(torch_device(), generator.generator):
        for piece in draw_codes(generator.generator, ws, noise, seeds, cameras):
            raise_if_interrupted()
            rows = to_image(piece, crop)
            if images is None:  # a film can be half of the memory: it is not joined from pieces
                images = rows.new_empty(count, *rows.shape[1:])
            images[done : done + len(rows)] = rows
            done += len(rows)
            bar.update_absolute(done, count)
    return images
