"""What edits pictures with the host's models: a guidance towards the target, and the path of what pictures show."""

from collections.abc import Callable
from typing import TypeVar

from ...sds import Editor, PicturesPrior, Session
from ...training.memory import MemoryRequest
from . import device, guiders
from .prior import ComfyPrior

T = TypeVar("T")


def editor_of(guider, vae, image_size: int, source=None, scale: float | None = None, inversion: bool = True) -> Editor:
    """Make the editor of a guider: `source` is a CONDITIONING of what pictures show, the guider's negative prompt in its
    place; `scale` replaces the guider's own where it has one. Where there is no such prompt, or no inversion is wanted,
    one noise for all takes its place.

    Raises ValueError where the parts do not belong together."""
    target = guiders.own_copy(guider)
    if scale is not None:
        guiders.set_scale(target, scale)
    path = guiders.source_guider(guider, source) if inversion else None
    return Editor(ComfyPrior(target, vae, image_size), None if path is None else ComfyPrior(path, vae, image_size))


class HostPicturesPrior(PicturesPrior):
    """A HostPicturesPrior makes room on the host's device for a training that looks at pictures alone."""

    def __init__(self, image_size: int):
        super().__init__(image_size, device.torch_device())
        self.session = _Room(self.device)


class _Room(Session):
    """_Room lets the host's models make way while a training runs beside none of them."""

    def __init__(self, where):
        self.where = where

    @property
    def makes_room(self) -> bool:
        return device.makes_room(self.where)

    def run(self, body: Callable[[], T], request: MemoryRequest) -> T:
        device.make_room(lambda: request.resident_bytes + request.peak_bytes)
        return body()

    def release_memory(self) -> None:
        device.release_memory()
