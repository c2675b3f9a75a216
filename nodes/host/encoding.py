"""The encoder of a VAE of the host: a copy for a session, and how much memory it takes."""

import logging

import torch
from torch import Tensor

from ...training.memory import LiveBytes, MemoryRequest
from ...training.out_of_memory import is_out_of_memory
from .device import load
from .encoder import Encoder
from .families import MISFITS

logger = logging.getLogger(__name__)


def copied_encoder(vae, device: torch.device) -> Encoder:
    """Copy a VAE's encoder to a device, once the host has loaded its weights. Raises ValueError when that cannot be
    used for training."""
    load(vae.patcher)
    try:
        return encoder_on(vae, device)
    except MISFITS as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"The encoder of this VAE ({type(vae.first_stage_model).__name__}) cannot be used for training ({error}); load "
            "the VAE that belongs to the diffusion model with Load VAE."
        ) from error


def encoder_on(vae, device: torch.device) -> Encoder:
    """Copy a VAE's encoder from where it is; onto the meta device, its sizes alone. Raises ValueError for a VAE without
    an image encoder."""
    stage = vae.first_stage_model
    if not hasattr(stage, "encode"):
        raise ValueError(
            f"This VAE ({type(stage).__name__}) has no image encoder; load the VAE that belongs to the diffusion model."
        )
    dtype = torch.bfloat16 if vae.vae_dtype == torch.bfloat16 else torch.float32
    return Encoder(stage, device, dtype, vae.process_input, vae.output_channels, frames=vae.latent_dim == 3)


def encoding_bytes(vae, request: MemoryRequest) -> tuple[int, int]:
    """Count what encoding the images of a micro batch takes, without the weights: (resident, peak) bytes. The first
    wait for the backward pass while the model is evaluated, and forward and backward pass take at most the others
    beyond."""
    count = request.images or request.rows
    try:
        encoder = encoder_on(vae, torch.device("meta"))
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
    """Stand for attention where only memory is counted: GPUs' kernels keep their inputs and the result, as this does,
    and no weight for each two places, as they do on the CPU."""
    return q * k * v
