"""Run by ComfyUI's Python in ComfyUI's folder: prompts, LoRAs and single-file checkpoints, as ComfyUI reads them.

Arguments: the project's folder, a folder to write into, and as JSON the prompts, the LoRA files with strengths, the
families and the timestep. Writes FAMILY.safetensors, checkpoints as its own node writes them, found.safetensors, tokens.json and sizes.json."""

import json
import sys
from pathlib import Path

from in_host import start

project, folder, request = sys.argv[1:]
folder, request = Path(folder), json.loads(request)
start(project)

import comfy.model_base
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import comfy.text_encoders.sd2_clip
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.supported_models_base import ClipTarget
from project.nodes.host import native_miniature
from project.nodes.host.guiders import text_guider
from project.nodes.host.prior import ComfyPrior
from project.training.memory import MemoryRequest
from safetensors.torch import load_file, save_file
from zoo import tiny, vaes
from zoo.families import Family
from zoo.sizes import unet
from zoo.weights import fill

given, found, tokens = load_file(folder / "given.safetensors"), {}, {}
T = request["t"]
WIDTH = 64  # of a token of each text encoder
SMALL = {"hidden_size": WIDTH, "intermediate_size": 96, "num_attention_heads": 1, "num_hidden_layers": 3}
OPTIONS = {"dtype": torch.float32} | {f"clip_{name}_model_config": SMALL for name in "lhg"}
FAMILIES = {
    "SD1": ("SD15", unet(WIDTH, linear=False), comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
    "SD2": (
        "SD20",
        unet(WIDTH),
        comfy.text_encoders.sd2_clip.SD2Tokenizer,
        comfy.text_encoders.sd2_clip.SD2ClipModel,
    ),
    "SDXL": (
        "SDXL",
        unet(2 * WIDTH, adm=WIDTH + 6 * 256),
        comfy.sdxl_clip.SDXLTokenizer,
        comfy.sdxl_clip.SDXLClipModel,
    ),
}


def evaluated(name, model, clip, vae, prompt, negative, size=0):
    conditionings = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, negative)]
    for side, ((states, options),) in zip(("text", "unconditional"), conditionings, strict=True):
        found[f"{name} states of {side}"] = states[0]
        if options.get("pooled_output") is not None:
            found[f"{name} pooled of {side}"] = options["pooled_output"][0]
    prior = ComfyPrior(text_guider(model, *conditionings, request["guidance_scale"]), vae, size)

    def evaluate():
        images, z_t = given["images"], given["z_t"] if size == 0 else given["z_t"][:, :, :8, :8]
        found[f"{name} z"] = prior.encode(images)
        found[f"{name} schedule"] = torch.tensor(prior.schedule(T), dtype=torch.float64)
        for side, eps in prior.conditions(z_t, T).items():
            found[f"{name} eps of {side}"] = eps
        found[f"{name} guided"] = prior.guided(z_t, T)

    with torch.inference_mode(False), torch.enable_grad():
        prior.session.run(evaluate, MemoryRequest(rows=2, height=64, width=64))


with torch.inference_mode():  # as nodes run
    model, clip, vae = native_miniature.load_model(), native_miniature.load_clip(), native_miniature.load_vae()
    for name, (prompt, negative) in request["prompts"].items():
        evaluated(name, model, clip, vae, prompt, negative)
    for name, (file, strength) in request["loras"].items():
        changed = comfy.sd.load_lora_for_models(model, clip, load_file(file), strength, strength)
        evaluated(name, *changed, vae, *request["prompts"]["plain"])

    for name, (config, settings, tokenizer, encoder) in FAMILIES.items():
        for velocity in (False, True):
            marks = {"v_pred": []} if velocity and name == "SDXL" else {}
            made = tiny.model(Family(config, settings, WIDTH, marks=marks), 1)
            if name == "SD2":  # a bias tells ComfyUI what is predicted; the small UNet has it at another place
                spread = torch.linspace(-1, 1, 128) * (0.3 if velocity else 0.1)
                blocks = made.model.diffusion_model.output_blocks
                blocks[1][1].transformer_blocks[0].norm1.bias.copy_(spread)
                marks = {"output_blocks.11.1.transformer_blocks.0.norm1.bias": spread.tolist()}
                made.model.model_type = made.model.model_config.model_type(
                    {k: torch.tensor(v) for k, v in marks.items()}
                )
                made.model.model_sampling = comfy.model_base.model_sampling(
                    made.model.model_config, made.model.model_type
                )
            elif velocity and not marks:
                continue  # there is no such SD 1
            embeddings = str(folder / "embeddings")
            text = comfy.sd.CLIP(ClipTarget(tokenizer, encoder), embeddings, model_options=OPTIONS)
            fill(text.cond_stage_model, 2)
            autoencoder = vaes.vae("kl", 3)
            called = f"{name} v" if velocity else name
            evaluated(called, made, text, autoencoder, *request["prompts"]["long"], size=64)
            evaluated(f"{called} named", made, text, autoencoder, *request["named"], size=64)
            comfy.sd.save_checkpoint(str(folder / f"{called}.safetensors"), made, text, autoencoder)

    real = comfy.sd1_clip.SDTokenizer()
    tokens = {text: real.tokenize_with_weights(text) for text in request["texts"]}


def full_size(depths, out, middle, linear=True, widths=(1, 2, 4), **more):
    """Settings of a UNet of full size, of which memory is taken for no weight."""
    rows = len(depths) // len(widths)
    return {
        **unet(768, channels=320, linear=linear),
        "channel_mult": list(widths),
        "num_res_blocks": [rows] * len(widths),
        "transformer_depth": depths,
        "transformer_depth_output": out,
        "transformer_depth_middle": middle,
        **({"num_head_channels": 64} if linear else {"num_heads": 8}),
        **more,
    }


XL = {"context_dim": 2048, "adm_in_channels": 2816, "num_classes": "sequential"}
SD = {"depths": [1] * 6 + [0] * 2, "out": [1] * 9 + [0] * 3, "middle": 1, "widths": (1, 2, 4, 4)}
FULL = {
    "SD 1.5": full_size(**SD, linear=False),
    "SD 2.1": full_size(**SD, context_dim=1024),
    "SDXL": full_size([0, 0, 2, 2, 10, 10], [0, 0, 0, 2, 2, 2, 10, 10, 10], 10, **XL),
    "SSD-1B": full_size([0, 0, 2, 2, 4, 4], [0, 0, 0, 1, 1, 2, 10, 4, 4], -1, **XL),
    "Segmind Vega": full_size([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1, 2, 2, 2], -1, **XL),
    "KOALA 700M": full_size([0, 2, 5], [0, 0, 2, 2, 5, 5], -2, **XL),
    "KOALA 1B": full_size([0, 2, 6], [0, 0, 2, 2, 6, 6], 6, **XL),
}
sizes = {}
for name, settings in FULL.items():
    whole = UNetModel(**settings, device="meta", operations=comfy.ops.disable_weight_init)
    sizes[name] = {weight: list(value.shape) for weight, value in whole.state_dict().items()}
(folder / "sizes.json").write_text(json.dumps(sizes))
save_file({name: value.detach().clone().contiguous() for name, value in found.items()}, folder / "found.safetensors")
(folder / "tokens.json").write_text(json.dumps(tokens))
