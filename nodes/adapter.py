"""The host's MODEL, VAE and CONDITIONING as a Prior.

The training loop runs as a Sampler inside a CFGGuider, so that LoRAs, hooks, ControlNets, area conditioning and model
patches count exactly as they do when the host samples.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..sds.prior import Prior, timestep_index
from .compatibility import incompatible
from .encoder import Encoder

T = TypeVar("T")

try:
    import comfy.model_management
    import comfy.samplers
    import comfy.utils
    from comfy.model_sampling import CONST

    Sampler = comfy.samplers.Sampler
    _NEEDED = (comfy.samplers.CFGGuider, comfy.samplers.calc_cond_batch, comfy.model_management.load_models_gpu)
except (ImportError, AttributeError) as error:
    raise incompatible(error) from error


class _Loop(Sampler):
    """Runs a function where the host would run its sampling loop."""

    def __init__(self, body: Callable[[Any, dict], None]):
        self.body = body

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        self.body(model_wrap, extra_args)
        return torch.zeros_like(noise)


class ComfyPrior(Prior):
    """The diffusion model of a graph with its prompt, as the critic.

    image_size 0 takes the size that the model was made for. Raises ValueError with a sentence when MODEL, VAE and
    CONDITIONING do not belong together."""

    def __init__(self, model, vae, positive, negative, guidance_scale: float, image_size: int = 0):
        if not (math.isfinite(guidance_scale) and guidance_scale >= 0):
            raise ValueError(f"The guidance scale is {guidance_scale}; give 0 or more.")
        self.model, self.vae = model, vae
        self.guidance_scale = guidance_scale
        self.device = model.load_device
        self._sampling = model.get_model_object("model_sampling")
        self._latent_format = model.get_model_object("latent_format")
        self._flow = isinstance(self._sampling, CONST)
        self._noise_scale = float(getattr(self._sampling, "noise_scale", 1.0)) if self._flow else 1.0
        self._downscale = _downscale(vae)
        self.image_size = image_size or _native_size(model, self._downscale)
        _check_family(model, vae, positive, self._latent_format)
        _check_family(model, vae, negative, self._latent_format)
        self._positive, self._negative = _detached(positive), _detached(negative)
        self._encoder = None
        self._evaluation = None  # (guider, extra_args) while run() is under way

    def run(self, body: Callable[[], T], rows: int = 1) -> T:
        side = self.image_size // self._downscale
        # The host makes room for an evaluation of this size.
        noise = torch.zeros(rows, self._latent_format.latent_channels, side, side)
        outcome = []

        def loop(guider, extra_args):
            self._evaluation = guider, extra_args
            outcome.append(body())

        guider = comfy.samplers.CFGGuider(self.model)
        guider.set_conds(self._positive, self._negative)
        guider.set_cfg(self.guidance_scale)
        try:
            self._encoder = _copied_encoder(self.vae, self.device)
            guider.sample(noise, noise, _Loop(loop), self._sampling.sigma_max.reshape(1), disable_pbar=True, seed=0)
        finally:
            self._encoder = self._evaluation = None
        return outcome[0]

    def schedule(self, t: float) -> tuple[float, float]:
        sigma = self._host_sigma(t)
        if self._flow:
            return 1 - sigma, self._noise_scale * sigma
        # The host's x is z_t / alpha_t, and its sigma is sigma_t / alpha_t.
        alpha = 1 / math.sqrt(1 + sigma**2)
        return alpha, sigma * alpha

    def encode(self, images: Tensor) -> Tensor:
        if self._encoder is None:
            raise RuntimeError("encode() is only available within run().")
        return self._latent_format.process_in(self._encoder(images))

    @torch.no_grad()
    def guided(self, z_t: Tensor, t: float) -> Tensor:
        guider, extra_args = self._evaluation
        x, sigma = self._host_input(z_t, t)
        return self._noise_in(x, guider(x, sigma, **extra_args), t)

    @torch.no_grad()
    def conditions(self, z_t: Tensor, t: float) -> dict[str, Tensor]:
        guider, extra_args = self._evaluation
        x, sigma = self._host_input(z_t, t)
        conds = [guider.conds["negative"], guider.conds["positive"]]
        parts = comfy.samplers.calc_cond_batch(guider.inner_model, conds, x, sigma, extra_args["model_options"])
        return {
            name: self._noise_in(x, denoised, t)
            for name, denoised in zip(("unconditional", "text"), parts, strict=True)
        }

    def _host_sigma(self, t: float) -> float:
        """The host's noise level at a fraction of the schedule, off the endpoints where alpha or sigma is 0."""
        table = None if self._flow else getattr(self._sampling, "sigmas", None)
        if table is not None:  # a table that the model was trained on: meet its entries exactly
            usable = ((table > 0) & torch.isfinite(table)).nonzero().flatten()
            index = min(max(timestep_index(t, len(table)), int(usable[0])), int(usable[-1]))
            return float(table[index])
        timestep_index(t, 2)  # refuses what lies outside the schedule
        low, high = float(self._sampling.sigma_min), float(self._sampling.sigma_max)
        sigma = float(self._sampling.percent_to_sigma(1 - t))
        return min(max(sigma, max(low, 1e-4)), min(high, 1 - 1e-4) if self._flow else high)

    def _host_input(self, z_t: Tensor, t: float) -> tuple[Tensor, Tensor]:
        alpha, _ = self.schedule(t)
        sigma = torch.full([len(z_t)], self._host_sigma(t), device=z_t.device)
        return (z_t if self._flow else z_t / alpha), sigma

    def _noise_in(self, x: Tensor, denoised: Tensor, t: float) -> Tensor:
        sigma = self._host_sigma(t)
        kept = (1 - sigma) * denoised if self._flow else denoised
        return ((x - kept) / (self._noise_scale * sigma)).float()


def _detached(conditioning):
    """A copy whose tensors autograd accepts: those that nodes make are inference tensors."""

    def plain(value):
        if torch.is_tensor(value):
            return value.detach().clone()
        if isinstance(value, list | tuple):
            return type(value)(plain(v) for v in value)
        if type(value) is dict:
            return {key: plain(v) for key, v in value.items()}
        return value

    with torch.inference_mode(False):
        return plain(conditioning)


def _copied_encoder(vae, device) -> Encoder:
    comfy.model_management.load_models_gpu([vae.patcher])
    stage = vae.first_stage_model
    if not hasattr(stage, "encoder"):
        raise ValueError(
            f"This VAE ({type(stage).__name__}) has no image encoder that can be differentiated; "
            "load the VAE that belongs to the diffusion model."
        )
    return Encoder(stage.encoder, getattr(stage, "quant_conv", None), device)


def _downscale(vae) -> int:
    ratio = vae.downscale_ratio
    if not isinstance(ratio, int):
        raise ValueError("This VAE is not made for still images; load the VAE of an image model.")
    return ratio


def _native_size(model, downscale: int) -> int:
    """Side in pixels of the images that the model was trained on, by its family; a model may name its own."""
    own = model.model.model_config.unet_config.get("image_size")
    if own and own != 32:  # 32 is what the host writes for every Stable Diffusion
        return own * downscale
    context = model.model.model_config.unet_config.get("context_dim")
    return 512 if context in (768, 1024) else 1024


def _check_family(model, vae, conditioning, latent_format) -> None:
    channels, made = latent_format.latent_channels, getattr(vae, "latent_channels", None)
    if made is not None and made != channels:
        raise ValueError(
            f"The VAE makes latents of {made} channels, but the MODEL works on {channels}; "
            "load the VAE that belongs to the diffusion model."
        )
    if latent_format.latent_dimensions != 2:
        raise ValueError(
            "The MODEL makes video or sound, not images; load an image model such as Stable Diffusion 1.5."
        )
    config = model.model.model_config.unet_config
    wanted = config.get("context_dim") or config.get("context_in_dim")
    for tensor, _ in conditioning:
        if wanted and torch.is_tensor(tensor) and tensor.shape[-1] != wanted:
            raise ValueError(
                f"The CONDITIONING has width {tensor.shape[-1]}, but the MODEL reads {wanted}: they belong to different "
                "model families. Encode the prompt with the CLIP of the same checkpoint."
            )


def torch_device() -> torch.device:
    """The device that the host computes on."""
    return comfy.model_management.get_torch_device()


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
