"""A session: a loop of ours that runs inside a guider of the host, with room on the device for it.

The guider prepares its prompts, loads models, applies hooks and cleans up; in between, where it would sample, it calls us.
"""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...training.memory import MemoryRequest
from ...training.out_of_memory import is_out_of_memory
from . import guiders
from .compatibility import incompatible
from .device import makes_room
from .encoding import encoding_bytes
from .families import MISFITS, misfit

try:
    from comfy.patcher_extension import WrappersMP
    from comfy.samplers import Sampler

    _NEEDED = WrappersMP.PREPARE_SAMPLING
except (ImportError, AttributeError) as error:
    raise incompatible(error) from error

T = TypeVar("T")


def run_in_guider(guider, body: Callable[[Any, dict], T], noise: Tensor, sigmas: Tensor) -> T:
    """Call body(running guider, extra_args) where the guider samples, and return its result. `noise` has the shape of
    the latents that the guider prepares for.

    What body raises is raised once the host has cleaned up. Raises ValueError for prompts that do not fit the model."""
    outcome: list[T] = []
    loop = _Loop(lambda running, extra_args: outcome.append(body(running, extra_args)))
    try:
        guider.sample(noise, noise, loop, sigmas, disable_pbar=True, seed=0)
    except MISFITS as error:
        if loop.started or is_out_of_memory(error):
            raise
        raise misfit(error) from error
    if loop.error is not None:
        error, loop.error = loop.error, None
        try:
            raise error
        finally:  # the error holds this frame, and with it tensors of the loop: no circle that keeps them
            del error
    if not loop.started:
        raise RuntimeError("This GUIDER does not run the sampler that it is given; use the CFG Guider of ComfyUI.")
    return outcome[0]


def with_room_for(guider, vae, request: MemoryRequest):
    """Copy a guider so that the host makes room for a training, too: for what the request asks, and, where it moves
    models at all, for encoding images with the VAE."""
    waiting, peak = encoding_bytes(vae, request) if makes_room(guider.model_patcher.load_device) else (0, 0)
    reserving = copy.copy(guider)
    reserving.model_patcher = _reserving(
        guider.model_patcher, request.resident_bytes + waiting, max(request.peak_bytes, peak)
    )
    return reserving


class _Loop(Sampler):
    """_Loop runs a function where the host would run its sampling loop."""

    def __init__(self, body: Callable[[Any, dict], None]):
        self.body = body
        self.started = False
        self.error: BaseException | None = None  # what body raised, for after the host has cleaned up

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        self.started = True
        try:
            self.body(model_wrap, extra_args)
        except BaseException as error:
            self.error = error
        guiders.rewind(model_wrap, extra_args["model_options"]["transformer_options"])
        return torch.zeros_like(noise)


def _reserving(model_patcher, resident_bytes: int, peak_bytes: int):
    """Clone a model patcher so that the host makes room for our work too.

    Before it samples, the host asks the model how much memory an evaluation takes (BaseModel.memory_required, of all
    rows with both prompts, and of half of that as the least) and gives both numbers to load_models_gpu: the first says
    how far other models are moved off the device, the second how much of it weights may not fill. While it prepares,
    both are max(evaluation, `peak_bytes`) + `resident_bytes`: our stages take turns with the evaluations, and what is
    resident is not on the device yet. Afterwards the model gives its own figure again, which decides how many rows are
    evaluated at once."""

    def prepare(executor, model, *arguments, **named):
        real = model.model
        before = vars(real).get("memory_required")
        evaluation = real.memory_required
        real.memory_required = lambda *shapes, **more: max(evaluation(*shapes, **more), peak_bytes) + resident_bytes
        try:
            return executor(model, *arguments, **named)
        finally:
            del real.memory_required
            if before is not None:
                real.memory_required = before

    clone = model_patcher.clone()
    clone.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "stylegan_fusion", prepare)
    return clone
