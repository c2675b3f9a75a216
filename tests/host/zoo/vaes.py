"""Tiny autoencoders: the host's own classes with few channels, as the host's VAE. float32."""

import math

import comfy.ldm.models.autoencoder
import comfy.model_management
import comfy.sd
import torch

from .weights import PATCHER, fill


def vae(kind: str, seed: int):
    """VAE of a kind: "kl", "kl shallow" (4 times smaller, not 8), "bare" (16 channels, no quantization convolutions),
    "packed" (Flux 2), "wan", "hunyuan image", "cascade", "cascade pixels", "pixels"."""
    if kind == "pixels":
        return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
    return _MAKERS[kind](seed)


def _kl(seed: int, levels: int = 3):
    parts = settings(4, levels)
    made = _autoencoder_kl(parts)
    return _finished(made, made.first_stage_model, seed, 4, 2**levels)


def _packed(seed: int):
    made = _autoencoder_kl(settings(32) | {"batch_norm_latent": True})
    made.first_stage_model.bn.running_var.fill_(2.0)
    return _finished(made, made.first_stage_model, seed, 128, 16)


def _bare(seed: int):
    stage = _engine("comfy.ldm.modules.diffusionmodules.model", settings(16))
    return _finished(_autoencoder_kl(settings(16)), stage, seed, 16, 8)


def _hunyuan_image(seed: int):
    parts = {
        "block_out_channels": [32, 32, 32, 64, 64, 128],
        "in_channels": 3,
        "out_channels": 3,
        "num_res_blocks": 1,
        "ffactor_spatial": 32,
        "z_channels": 64,
    }
    stage = _engine("comfy.ldm.hunyuan_video.vae", parts)
    return _finished(_autoencoder_kl(settings(4)), stage, seed, 64, 32)


def _wan(seed: int):
    from comfy.ldm.wan.vae import WanVAE

    stage = WanVAE(dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True])
    made = _finished(_autoencoder_kl(settings(4)), stage, seed, 16, 8)
    made.latent_dim = 3
    made.upscale_index_formula = made.downscale_index_formula = (4, 8, 8)
    made.upscale_ratio = (lambda frames: max(0, frames * 4 - 3), 8, 8)
    made.downscale_ratio = (lambda frames: max(0, math.floor((frames + 3) / 4)), 8, 8)
    made.memory_used_encode = made.memory_used_decode = lambda shape, dtype: 1000 * shape[-1] * shape[-2]
    return made


def _cascade(seed: int):
    from comfy.ldm.cascade.stage_c_coder import StageC_coder

    return _finished(_autoencoder_kl(settings(4)), StageC_coder(), seed, 16, 32)


def _cascade_pixels(seed: int):
    from comfy.ldm.cascade.stage_a import StageA

    stage = StageA(bottleneck_blocks=1, c_hidden=32, codebook_size=16)
    made = _finished(_autoencoder_kl(settings(4)), stage, seed, 4, 4)
    made.process_input = made.process_output = lambda image: image
    return made


_MAKERS = {
    "kl": _kl,
    "kl shallow": lambda seed: _kl(seed, levels=2),
    "bare": _bare,
    "packed": _packed,
    "wan": _wan,
    "hunyuan image": _hunyuan_image,
    "cascade": _cascade,
    "cascade pixels": _cascade_pixels,
}


def settings(channels: int, levels: int = 3) -> dict:
    return {
        "double_z": True,
        "z_channels": channels,
        "resolution": 64,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,  # the least that its group norms of 32 groups take
        "ch_mult": [1] * (levels + 1),
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    }


def _engine(module: str, parts: dict):
    return comfy.ldm.models.autoencoder.AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
        encoder_config={"target": f"{module}.Encoder", "params": parts},
        decoder_config={"target": f"{module}.Decoder", "params": parts},
    )


def _autoencoder_kl(parts: dict):
    """The only VAE that the host makes by a configuration; of the others it has one size each, found by their weights."""
    params = {"ddconfig": parts, "embed_dim": parts["z_channels"]}
    weights = comfy.ldm.models.autoencoder.AutoencoderKL(**params).state_dict()
    return comfy.sd.VAE(sd=weights, config={"params": params}, dtype=torch.float32)


def _finished(made, stage, seed: int, channels: int, downscale: int):
    """The VAE around an autoencoder with random weights, as the host's VAE would note its sizes."""
    fill(stage, seed)
    if stage is not made.first_stage_model:
        made.first_stage_model = stage.eval().to(torch.float32)
        offload = comfy.model_management.vae_offload_device()
        made.patcher = PATCHER(stage, load_device=made.device, offload_device=offload)
    made.latent_channels = channels
    made.downscale_ratio = made.upscale_ratio = downscale
    return made
