"""Run by ComfyUI's Python in ComfyUI's folder: the encoders' copies beside the autoencoders of ComfyUI.

Arguments: the project's folder, a safetensors file with images, and the file to write.
"""

import sys

from in_host import start

project, source, target = sys.argv[1:]
# Pytorch's attention runs without data, so that memory can be counted on the meta device.
start(project, "--use-pytorch-cross-attention")

import comfy.latent_formats
import comfy.ldm.wan.vae2_2
import comfy.sd
import comfy.taesd.taesd
import torch
from project.nodes.host.encoding import copied_encoder, encoder_on
from project.nodes.host.families import downscale_of
from project.training.memory import transient_bytes
from safetensors.torch import load_file, save_file
from zoo import vaes, weights

given, found, notes = load_file(source), {}, {}
images = given["images"]
STEP = 1e-2


def small(channels):
    """A tiny autoencoder, as people use for previews."""
    made = comfy.sd.VAE(sd=comfy.taesd.taesd.TAESD(latent_channels=channels).state_dict(), dtype=torch.float32)
    weights.fill(made.first_stage_model, 0)
    return made


def of_films(stage, channels, ratio):
    """A video autoencoder in the place of another one."""
    made = vaes.vae("wan", 0)
    made.first_stage_model = stage.eval()
    made.patcher = weights.PATCHER(stage, load_device=made.device, offload_device=torch.device("cpu"))
    made.latent_channels, made.downscale_ratio = channels, (made.downscale_ratio[0], ratio, ratio)
    weights.fill(stage, 0)
    return made


def wan22():
    settings = {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 1, "attn_scales": []}
    stage = comfy.ldm.wan.vae2_2.WanVAE(dim=8, z_dim=48, temperal_downsample=[False, True, True], **settings)
    return of_films(stage, 48, 16)


def films():
    from comfy.ldm.models.autoencoder import AutoencoderKL

    return of_films(
        AutoencoderKL(ddconfig=vaes.settings(16) | {"conv3d": True, "time_compress": 4}, embed_dim=16), 16, 8
    )


MADE = {
    kind: (lambda kind=kind: vaes.vae(kind, 0))
    for kind in ("kl", "bare", "packed", "wan", "hunyuan image", "cascade", "cascade pixels", "pixels")
}
MADE |= {"tiny 4": lambda: small(4), "tiny 16": lambda: small(16), "wan 2.2": wan22, "films": films}

if not hasattr(comfy.latent_formats, "Flux2"):  # older hosts
    del MADE["packed"]

for kind, make in MADE.items():
    with torch.inference_mode():  # as nodes run
        vae = make()
        pixels = (images.movedim(1, -1) + 1) / 2
        # A film's autoencoder takes all images of a call for one film.
        alone = [vae.encode(pixels[k : k + 1]) for k in range(len(pixels))]
        found[f"{kind} expected"] = torch.cat(alone).reshape(len(pixels), vae.latent_channels, *alone[0].shape[-2:])
    with torch.inference_mode(False), torch.enable_grad():
        encoder = copied_encoder(vae, torch.device("cpu"))
        for name, recompute in (("", False), (" recomputed", True)):
            x = images.clone().requires_grad_()
            z = encoder(x, recompute)
            found[f"{kind} latents{name}"] = z
            (found[f"{kind} gradient{name}"],) = torch.autograd.grad(z, x, torch.ones_like(z))
        with torch.no_grad():
            steepest = found[f"{kind} gradient"] / found[f"{kind} gradient"].norm()
            ahead, behind = (encoder(images + side * STEP * steepest) for side in (1, -1))
            found[f"{kind} slope"] = (ahead.double() - behind.double()).sum() / (2 * STEP)
        notes[f"{kind} ratio"] = str(downscale_of(vae))
        meta = encoder_on(vae, torch.device("meta"))

        def encode_and_back(recompute, meta=meta):
            x = torch.empty(1, 3, 256, 256, device="meta", requires_grad=True)
            z = meta(x, recompute)
            torch.autograd.grad(z, x, torch.empty_like(z))

        for name, recompute in (("kept", False), ("recomputed", True)):
            notes[f"{kind} {name}"] = str(transient_bytes(lambda c=recompute: encode_and_back(c)))

save_file({name: value.detach().clone().contiguous() for name, value in found.items()}, target, notes)
