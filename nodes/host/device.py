"""The host's device: room on it, and the user's cancel, which the host keeps with its memory management."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from ...training.out_of_memory import handle_out_of_memory
from .compatibility import incompatible

try:
    import comfy.model_management as management

    _NEEDED = (
        management.load_models_gpu,
        management.free_memory,
        management.soft_empty_cache,
        management.unload_all_models,
    )
except (ImportError, AttributeError) as error:
    raise incompatible(error) from error

T = TypeVar("T")


def torch_device() -> torch.device:
    """Return the device that the host computes on."""
    return management.get_torch_device()


def makes_room(device: torch.device) -> bool:
    """Tell whether the host moves models to make room on a device: not on the CPU."""
    return device.type != "cpu"


def make_room(size: Callable[..., int], *arguments) -> None:
    """Let the host move its models off its device until size(*arguments) bytes are free there; on the CPU nobody
    asks."""
    device = torch_device()
    if makes_room(device):
        management.free_memory(size(*arguments), device)


def load(patcher) -> None:
    """Let the host bring the weights of a model patcher to its device."""
    management.load_models_gpu([patcher])


def release_memory() -> None:
    """Let the host give back what it caches and does not use."""
    management.soft_empty_cache()


def unload_models() -> None:
    """Let the host move all of its models off its device, as it does itself when memory ran out in a node."""
    management.unload_all_models()
    release_memory()


def retry_without_models(body: Callable[[], T]) -> T:
    """Call body(), and where memory runs out once more, when the host's models are out of the way."""
    try:
        return body()
    except Exception as error:
        if not handle_out_of_memory(error):
            raise
    # Outside of the handler, whose error holds on to every tensor of the attempt.
    unload_models()
    return body()


def raise_if_interrupted() -> None:
    """Raise the host's own exception when the user has pressed cancel."""
    management.throw_exception_if_processing_interrupted()


def is_interruption(error: BaseException | None) -> bool:
    """Tell whether an error says that the user pressed cancel; hosts derive it from different classes."""
    return isinstance(error, management.InterruptProcessingException)


@contextlib.contextmanager
def training() -> Iterator[None]:
    """Tell the host, within the body, that its models are differentiated, with respect to their weights, too: newer hosts
    leave out operations then that have no gradient."""
    before = getattr(management, "in_training", False)
    management.in_training = True
    try:
        yield
    finally:
        management.in_training = before
