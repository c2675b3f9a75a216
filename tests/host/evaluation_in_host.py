"""Run by ComfyUI's Python: what the miniature's CLIP makes of texts and images in the host's own classes, and what is
said of pairs that do not belong together.

Arguments: the project, a safetensors file with "images" [B, 3, H, W], where to write what is found."""

import sys

from in_host import start

project, given, target = sys.argv[1:4]
start(project)

import torch
from project.nodes import clip_space
from project.nodes.host.native_miniature import load_clip, load_clip_vision
from safetensors.torch import load_file, save_file

TEXTS = ("a portrait of a fox", "a robot with gold metal, on a pink background")
clip, vision = load_clip(), load_clip_vision()
projection = clip.cond_stage_model.clip_common.transformer.text_projection
found, notes = {}, {}


def conditioning():
    return [clip.encode_from_tokens(clip.tokenize(text), return_pooled=True) for text in TEXTS]


def refusal(width=64):
    try:
        clip_space.text_embedding(clip, TEXTS[0], width)
    except clip_space.NotOneSpace as error:
        return str(error)
    return ""


with torch.inference_mode():
    found["images"] = clip_space.image_embeddings(vision, load_file(given)["images"])
    found["texts"] = torch.stack([clip_space.text_embedding(clip, text, 64) for text in TEXTS])
    notes["width"] = str(clip_space.width_of(vision))
    notes["colours"] = str(clip_space.colours_named_alike(clip, vision)[0])
    before = conditioning()
    notes["other width"] = refusal(768)
    learned = projection.weight.detach().clone()
    projection.weight.data = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    notes["colours of strangers"] = str(clip_space.colours_named_alike(clip, vision)[0])
    same = all(
        torch.equal(a, b) for x, y in zip(before, conditioning(), strict=True) for a, b in zip(x, y, strict=True)
    )
    notes["conditioning is the same"] = str(same)
    for name, weight in {"zeros": 0 * learned, "identity": torch.eye(64), "not finite": learned / 0}.items():
        projection.weight.data = weight
        notes[name] = refusal()

save_file({name: value.clone().contiguous() for name, value in found.items()}, target, notes)
