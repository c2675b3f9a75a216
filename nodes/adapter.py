"""Any GUIDER of the host, with a VAE, as a Prior."""

import copy
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from comfy_api.v0_0_2 import ui
from torch import Tensor

from ..sds.prior import Prior
from ..training.memory import LiveBytes, MemoryRequest
from ..training.out_of_memory import handle_out_of_memory, is_out_of_memory
from . import guider as guiders
from .compatibility import incompatible
from .encoder import Encoder
from .families import check_family, check_sides, downscale_of, native_size, side_multiple
from .host_schedule import HostSchedule

T = TypeVar("T")
logger = logging.getLogger(__name__)

try:
    import comfy.model_management
    import comfy.utils

    _NEEDED = (comfy.model_management.load_models_gpu, comfy.model_management.soft_empty_cache)
except (ImportError, AttributeError) as error:
    raise incompatible(error) from error

text_guider = guiders.text_guider  # the usual guider: a MODEL with prompts

_NAMES = {"negative": "unconditional", "positive": "text"}  # of conditions: the host's, and those of a Prior


class ComfyPrior(Prior):
    """A guider of a graph (the host's or another pack's), with the VAE of its diffusion model, as the critic.

    image_size is the longer side in pixels; 0 takes the size that the model was made for. The guider stays as it is.
    Raises ValueError with a sentence when its parts do not belong together."""

    @property
    def makes_room(self) -> bool:
        """Not on the CPU, where the host moves nothing."""
        return self.device.type != "cpu"

    def __init__(self, guider, vae, image_size: int = 0):
        if not (hasattr(guider, "sample") and hasattr(guider, "model_patcher")):
            raise ValueError("This GUIDER does not say which model it guides; use the CFG Guider of ComfyUI.")
        model = guider.model_patcher
        self.vae = vae
        self.device = model.load_device
        self._guider = guiders.own_copy(guider)
        self._latent_format = copy.copy(model.get_model_object("latent_format"))
        vars(self._latent_format).update(guiders.detached(vars(self._latent_format)))  # gradients pass through it
        self._downscale = downscale_of(vae)
        check_family(model, vae, guiders.conditions_of(guider), self._latent_format)
        # Models of films read each image as a film of one frame.
        self._films = self._latent_format.latent_dimensions == 3
        self._schedule = HostSchedule(model.get_model_object("model_sampling"))
        self._multiple = side_multiple(model, self._downscale)
        self.image_size = image_size or native_size(model, self._downscale)
        check_sides(self.image_size, self.image_size, self._multiple)
        self._encoder: Encoder | None = None
        self._evaluation: tuple[Any, dict] | None = None  # (guider, extra_args) while run() is under way
        self._fits = False  # whether an evaluation has gone well, so that an error of the next one is no misfit

    @property
    def can_scale(self) -> bool:
        """Whether the guider has scales of its own that guided() can multiply."""
        return guiders.can_scale(self._guider)

    def run(self, body: Callable[[], T], request: MemoryRequest) -> T:
        outcome: list[T] = []

        def loop(guider, extra_args):
            guiders.require_text_alone(guider)
            self._evaluation = guider, extra_args
            outcome.append(body())

        running, guider = guiders.Loop(loop), copy.copy(self._guider)
        waiting, peak = _encoding_bytes(self.vae, request) if self.makes_room else (0, 0)
        guider.model_patcher = guiders.reserving(
            guider.model_patcher, request.resident_bytes + waiting, max(request.peak_bytes, peak)
        )
        # Areas and masks of the prompts are laid out on latents of this shape.
        sides = (max(1, request.height // self._downscale), max(1, request.width // self._downscale))
        noise = torch.zeros(request.rows, self._latent_format.latent_channels, *[1] * self._films, *sides)
        sigmas = torch.tensor([self._schedule.host_sigma(1.0)])
        try:
            self._encoder = _copied_encoder(self.vae, self.device)
            guider.sample(noise, noise, running, sigmas, disable_pbar=True, seed=0)
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            if running.started or is_out_of_memory(error):
                raise
            raise _misfit(error) from error
        finally:
            self._encoder = self._evaluation = None
        if running.error is not None:
            error, running.error = running.error, None
            try:
                raise error
            finally:  # the error holds this frame, and with it tensors of the loop: no circle that keeps them
                del error
        if not running.started:
            raise RuntimeError("This GUIDER does not run the sampler that it is given; use the CFG Guider of ComfyUI.")
        return outcome[0]

    def release_memory(self) -> None:
        comfy.model_management.soft_empty_cache()

    def schedule(self, t: float) -> tuple[float, float]:
        return self._schedule(t)

    def encode(self, images: Tensor, recompute: bool = False) -> Tensor:
        if self._encoder is None:
            raise RuntimeError("encode() is only available within run().")
        check_sides(*images.shape[-2:], self._multiple)
        latents = self._encoder(images, recompute)
        return self._from_model(self._latent_format.process_in(self._to_model(latents)))

    @torch.no_grad()
    def guided(self, z_t: Tensor, t: float, scaling: float = 1.0) -> Tensor:
        guider, extra_args = self._evaluation
        if scaling != 1.0 and not self.can_scale:
            raise ValueError(
                "The strength of this GUIDER's guidance cannot be changed while training, as a schedule of it would; "
                "use a CFG Guider with two prompts, or a constant guidance scale."
            )
        with guiders.scaled(guider, scaling):
            return self._predictions(z_t, t, lambda x, sigma: {"guided": guider(x, sigma, **extra_args)})["guided"]

    @torch.no_grad()
    def conditions(self, z_t: Tensor, t: float) -> dict[str, Tensor]:
        guider, extra_args = self._evaluation
        if not getattr(guider, "conds", None):  # of another pack, with a way of its own
            return super().conditions(z_t, t)
        found = self._predictions(z_t, t, lambda x, sigma: guiders.parts(guider, x, sigma, extra_args["model_options"]))
        return {_NAMES.get(name, name): eps for name, eps in found.items()}

    def _predictions(self, z_t: Tensor, t: float, denoise: Callable[..., dict[str, Tensor]]) -> dict[str, Tensor]:
        """eps_hat of each of the host's denoised estimates."""
        x, sigma = self._schedule.host_input(z_t, t)
        guiders.as_first_step(*self._evaluation, sigma)
        guiders.require_active(self._evaluation[0], sigma, t)
        try:
            estimates = denoise(self._to_model(x), sigma)
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            if self._fits or is_out_of_memory(error):
                raise
            raise _misfit(error) from error
        self._fits = True
        return {name: self._schedule.noise_in(x, self._from_model(D), t) for name, D in estimates.items()}

    def _to_model(self, latents: Tensor) -> Tensor:
        return latents.unsqueeze(2) if self._films else latents

    def _from_model(self, latents: Tensor) -> Tensor:
        return latents.squeeze(2) if self._films else latents


def _misfit(error: Exception) -> ValueError:
    said = str(error).strip().splitlines()
    return ValueError(
        f"The MODEL cannot work with this CONDITIONING ({type(error).__name__}: {said[0] if said else 'no words'}). "
        "Encode the prompts with the CLIP of the same checkpoint, with the nodes that are made for this model family."
    )


def _copied_encoder(vae, device: torch.device) -> Encoder:
    comfy.model_management.load_models_gpu([vae.patcher])
    try:
        return _encoder_on(vae, device)
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"The encoder of this VAE ({type(vae.first_stage_model).__name__}) cannot be used for training ({error}); load "
            "the VAE that belongs to the diffusion model with Load VAE."
        ) from error


def _encoder_on(vae, device: torch.device) -> Encoder:
    stage = vae.first_stage_model
    if not hasattr(stage, "encode"):
        raise ValueError(
            f"This VAE ({type(stage).__name__}) has no image encoder; load the VAE that belongs to the diffusion model."
        )
    dtype = torch.bfloat16 if vae.vae_dtype == torch.bfloat16 else torch.float32
    return Encoder(stage, device, dtype, vae.process_input, vae.output_channels, frames=vae.latent_dim == 3)


def _encoding_bytes(vae, request: MemoryRequest) -> tuple[int, int]:
    """What encoding the images of a piece of a batch leaves while the model is evaluated, for the backward pass, and what
    forward and backward pass take at most beyond that; without the weights."""
    count = request.images or request.rows
    try:
        encoder = _encoder_on(vae, torch.device("meta"))
        for module in encoder.modules():
            if hasattr(module, "optimized_attention"):  # others look at how much memory the device has
                module.optimized_attention = _attention
        images = torch.empty(count, 3, request.height, request.width, device="meta", requires_grad=True)
        with torch.enable_grad(), LiveBytes() as live:
            latents = encoder(images, request.recompute)
            waiting = live.now
            torch.autograd.grad(latents, images, torch.empty_like(latents))
        return waiting, live.peak - waiting
    except Exception as error:  # an estimate is no reason to end a training
        logger.debug("The encoder's memory is estimated by the host: %s", error)
        shape = (count, 3, *[1] * (vae.latent_dim == 3), request.height, request.width)
        return 0, 4 * int(vae.memory_used_encode(shape, torch.float32))


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Stands for attention where only memory is counted: GPUs' kernels keep their inputs and the result, as this does,
    and no weight for each two places, as they do on the CPU."""
    return q * k * v


def torch_device() -> torch.device:
    """The device that the host computes on."""
    return comfy.model_management.get_torch_device()


def make_room(size: Callable[..., int], *arguments) -> None:
    """Let the host move its models off its device until size(*arguments) bytes are free there; on the CPU nobody asks."""
    device = torch_device()
    if device.type != "cpu":
        comfy.model_management.free_memory(size(*arguments), device)


def unload_models() -> None:
    """Let the host move all of its models off its device, as it does itself when memory ran out in a node."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def retry_without_models(body: Callable[[], T]) -> T:
    """body(), and where memory runs out once more, when the host's models are out of the way."""
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
    comfy.model_management.throw_exception_if_processing_interrupted()


def is_interruption(error: BaseException | None) -> bool:
    """Whether the user pressed cancel; hosts derive that exception from different classes."""
    return isinstance(error, comfy.model_management.InterruptProcessingException)


def progress_bar(steps: int):
    """The host's progress bar of the node that is running."""
    return comfy.utils.ProgressBar(steps)


def show_text(node_id: str, text: str) -> None:
    """Show a line of text on a node while it runs, in the page that runs it."""
    from server import PromptServer

    PromptServer.instance.send_progress_text(text, node_id, PromptServer.instance.client_id)


def answer(node_id: str, text: str) -> ui.PreviewText:
    """Show what came of a node on it, and what to return for programs: the page shows nothing of that by itself."""
    show_text(node_id, text)
    return ui.PreviewText(text)
