"""Copies of a MODEL's denoiser that record gradients, to be trained beside it."""

import contextlib
import copy
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...sds.score import TrainableScore
from ...training.out_of_memory import is_out_of_memory
from . import device
from .compatibility import incompatible
from .encoder import plain_copy
from .families import MISFITS
from .guiders import detached
from .schedule import HostSchedule

try:
    import comfy.samplers

    _NEEDED = comfy.samplers.encode_model_conds
except (ImportError, AttributeError) as error:
    raise incompatible(error) from error

_OF_THE_PATCHER = ("model_", "lowvram_", "current_", "dynamic_")
"""What the names begin with of notes that a model patcher leaves on its model."""


class HostScore(TrainableScore):
    """A HostScore is a copy of a MODEL's denoiser on the model's device, given the first of the host's own entries of a
    prompt. LoRAs and other patches of the MODEL are left out of it."""

    def __init__(self, model, prompt: Sequence[dict[str, Any]], dtype: torch.dtype = torch.float32, downscale: int = 8):
        plain = unpatched(model)
        device.load(plain)
        self.device = model.load_device
        self.denoiser = copied_denoiser(plain, self.device, dtype)
        self.half = dtype_of(model).itemsize < 4
        self._model = with_denoiser(model, self.denoiser)
        self._schedule = HostSchedule(model.get_model_object("model_sampling"))
        self._conds = detached([dict(prompt[0])])
        self._trains = False  # whether a step has gone well, so that an error of the next one is no misfit
        self._downscale = downscale  # pixels of a latent
        self._films = model.get_model_object("latent_format").latent_dimensions == 3
        self.prediction = "noise" if getattr(model.model.model_type, "name", "EPS") == "EPS" else "velocity"

    @property
    def pooled(self) -> Tensor | None:
        """What the prompt is as a whole [C], for models that read it."""
        pooled = self._conds[0].get("pooled_output")
        return pooled.flatten() if self._model.adm_channels and pooled is not None else None

    def schedule(self, t: float) -> tuple[float, float]:
        return self._schedule(t)

    def activation_bytes(self, images: Tensor, recompute: bool) -> int:
        """Estimate them by the host's factor of the model's size: counted one by one for Stable Diffusion 1.5 at 512
        pixels, where it is 1, they are 1.7 GB, and 5.3 GB where they are kept."""
        batch, _, height, width = images.shape
        places = batch * (height // self._downscale) * (width // self._downscale)
        return int(places * getattr(self._model, "memory_usage_factor", 1.0) * (430_000 if recompute else 1_360_000))

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """As everywhere; what the host cannot differentiate ends in a ValueError with a sentence."""
        try:
            # Denoisers add to activations in place that a gradient needs as they were.
            with device.training(), torch.autograd.graph.allow_mutation_on_saved_tensors():
                yield
        except MISFITS as error:
            if self._trains or is_out_of_memory(error):
                raise
            raise ValueError(
                "ComfyUI cannot train this kind of MODEL, which a second network would be a copy of; choose another term, or "
                f"another model such as Stable Diffusion ({str(error).splitlines()[0][:200]})."
            ) from error
        self._trains = True

    def denoised(self, z_t: Tensor, t: Sequence[float]) -> Tensor:
        inputs = [self._schedule.host_input(row, one) for row, one in zip(z_t.split(1), t, strict=True)]
        x, sigma = (torch.cat(parts) for parts in zip(*inputs, strict=True))
        if self._films:
            x = x.unsqueeze(2)
        conds = comfy.samplers.encode_model_conds(
            self._model.extra_conds, [dict(one) for one in self._conds], x, x.device, "positive"
        )
        given = {
            name: cond.process_cond(batch_size=len(x), device=x.device, area=None).cond
            for name, cond in conds[0]["model_conds"].items()
        }
        found = self._model.apply_model(x, sigma, transformer_options={}, **given)
        return (found.squeeze(2) if self._films else found).float()


def dtype_of(model) -> torch.dtype:
    """Return what a MODEL's denoiser computes in."""
    return model.model.manual_cast_dtype or model.model.get_dtype()


def unpatched(model):
    """Clone a MODEL without the LoRAs and other patches of its weights."""
    if model_is_dynamic(model):  # its weights are nowhere as a whole
        model = model.get_non_dynamic_delegate()
    clone = model.clone()
    clone.patches, clone.patches_uuid = {}, uuid.uuid4()
    return clone


def model_is_dynamic(model) -> bool:
    """Tell whether a MODEL's weights come to the device piece by piece, as newer hosts do it on some."""
    return bool(getattr(model, "is_dynamic", lambda: False)())


def copied_denoiser(model, place: torch.device, dtype: torch.dtype) -> nn.Module:
    """Copy a MODEL's denoiser with weights of its own, as they are now."""
    with torch.inference_mode(False):
        denoiser = plain_copy(model.model.diffusion_model, place, dtype)
    denoiser.dtype = dtype  # what the host brings its inputs to
    return denoiser.eval()


def with_denoiser(model, denoiser: nn.Module):
    """Return the host's model around a MODEL's denoiser, around another denoiser: its kind and its schedule, and nothing
    of what a patcher has noted on it."""
    given = model.model
    other = copy.copy(given)
    for name in [name for name in vars(other) if name.startswith(_OF_THE_PATCHER)]:
        if name not in ("model_config", "model_type"):
            del vars(other)[name]
    other.current_patcher = None
    other._modules = {**given._modules, "diffusion_model": denoiser}
    other.model_sampling = model.get_model_object("model_sampling")
    other.manual_cast_dtype = None
    other.device = None
    return other
