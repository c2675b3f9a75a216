"""Run by ComfyUI's Python: the differentiable copy of a CLIP vision model beside the host's own, within inference mode as
nodes run.

Arguments: the project, a safetensors file with "images" [B, 3, H, W], where to write what is found."""

import json
import sys
from pathlib import Path

from in_host import start

project, given, target = sys.argv[1:4]
start(project)

import comfy.clip_vision
import torch
from project.nodes import clip_space
from project.nodes.host.clip_vision import HostClipVision
from project.nodes.host.native_miniature import load_clip_vision
from safetensors.torch import load_file, save_file

images = load_file(given)["images"]
STEP = 1e-2


def large():
    """A model of real CLIP's pixels, patches and words, with two layers of random numbers in half precision."""
    config = {
        "model_type": "clip_vision_model", "image_size": 224, "patch_size": 32, "num_channels": 3, "hidden_size": 64,
        "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "hidden_act": "quick_gelu",
        "projection_dim": 32,
    }  # fmt: skip
    path = Path(target).with_name("config.json")
    path.write_text(json.dumps(config))
    made = comfy.clip_vision.ClipVisionModel(str(path))
    random = torch.Generator().manual_seed(1)
    state = made.model.state_dict()
    made.load_sd({name: 0.2 * torch.randn(value.shape, generator=random) for name, value in state.items()})
    return made


found, notes = {}, {}
with torch.inference_mode():
    models = {"miniature": load_clip_vision(), "large": large()}
    for name, model in models.items():
        found[f"{name} expected"] = clip_space.image_embeddings(model, images)
        notes[f"{name} inference"] = str(next(model.model.parameters()).is_inference())
        encoder, same = HostClipVision(model).copied(), HostClipVision(model).digest
        notes[f"{name} digest"] = str(encoder.digest == same)
        with torch.inference_mode(False), torch.enable_grad():
            kept, beyond = encoder.memory(torch.empty(2, 3, 96, 64, device="meta"))
            notes[f"{name} kept"], notes[f"{name} beyond"] = str(kept), str(beyond)
            x = images.clone().requires_grad_()
            embeds = encoder(x)
            pull = torch.ones_like(embeds)
            found[f"{name} embeds"] = embeds.detach()
            (gradient,) = torch.autograd.grad(embeds, x, pull)
            found[f"{name} gradient"] = gradient
            with torch.no_grad():
                steepest = gradient / gradient.norm()
                ahead, behind = (encoder(images + side * STEP * steepest) for side in (1, -1))
                found[f"{name} slope"] = (ahead.double() - behind.double()).sum() / (2 * STEP)
        found[f"{name} after"] = clip_space.image_embeddings(model, images)

save_file({name: value.clone().contiguous() for name, value in found.items()}, target, notes)
