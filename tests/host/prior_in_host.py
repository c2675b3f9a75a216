"""Run by ComfyUI's Python in ComfyUI's folder: what the miniature's prior says inside ComfyUI.

Arguments: the project's folder, a safetensors file with images, z_t and eps, the file to write, and as JSON the prompts,
the guidance scale and the timesteps."""

import contextlib
import gc
import json
import sys
import weakref

from in_host import start

project, source, target, request = sys.argv[1:]
request = json.loads(request)
start(project)

import torch
from project.nodes.host import native_miniature
from project.nodes.host.guiders import conditioning_fingerprint, text_guider, with_views
from project.nodes.host.prior import ComfyPrior
from project.sds.objective import Objective
from project.sds.terms import ScoreDistillation
from project.sds.views import seen_from
from project.training.memory import MemoryRequest
from safetensors.torch import load_file, save_file

given, found = load_file(source), {}
with torch.inference_mode():  # as nodes run
    model, clip, vae = native_miniature.load_model(), native_miniature.load_clip(), native_miniature.load_vae()
    positive, negative = (
        clip.encode_from_tokens_scheduled(clip.tokenize(request[name])) for name in ("prompt", "negative_prompt")
    )
    prior = ComfyPrior(text_guider(model, positive, negative, request["guidance_scale"]), vae)

    def evaluate():
        guider, _ = prior._evaluation
        found["same_unet"] = torch.tensor(guider.inner_model.diffusion_model is model.model.diffusion_model)
        images = given["images"].clone().requires_grad_()
        z = prior.encode(images)
        (found["image gradient"],) = torch.autograd.grad(z, images, given["eps"])
        z = found["z"] = z.detach()
        objective = Objective(prior, [ScoreDistillation()], gradient_clamp=None, image_clamp_quantile=None)
        for t in request["timesteps"]:
            for name, eps in prior.conditions(given["z_t"], t).items():
                found[f"{t} {name}"] = eps
            found[f"{t} guided"] = prior.guided(given["z_t"], t)
            evaluations = []
            hook = model.model.diffusion_model.register_forward_hook(lambda *_, e=evaluations: e.append(True))
            found[f"{t} both"], parts = prior.guided_and_conditions(given["z_t"], t)
            hook.remove()
            found.update({f"{t} both {name}": eps for name, eps in parts.items()})
            found[f"{t} evaluations"] = torch.tensor(len(evaluations))
            found[f"{t} schedule"] = torch.tensor(prior.schedule(t), dtype=torch.float64)
            found[f"{t} gradient"] = objective.latent_gradient(objective.view(z, None, t, given["eps"]))[0]

    side = clip.encode_from_tokens_scheduled(clip.tokenize(request["side_prompt"]))
    sided = ComfyPrior(with_views(prior._guider, {"side": side}), vae)

    def evaluate_sides():
        for t in request["timesteps"]:
            found[f"{t} front"] = sided.guided(given["z_t"], t)
            seen = seen_from(sided, given["cameras"])
            found[f"{t} sides"] = seen.guided(given["z_t"], t)
            found[f"{t} sides both"], parts = seen.guided_and_conditions(given["z_t"], t)
            found.update({f"{t} sides {name}": eps for name, eps in parts.items()})

    with torch.inference_mode(False), torch.enable_grad():
        prior.session.run(evaluate, MemoryRequest(rows=3, height=64, width=64))
        sided.session.run(evaluate_sides, MemoryRequest(rows=3, height=64, width=64))
# After a run nothing of it stays, whether it ends well or in an error, without the garbage collector's help.
watched, stayed = [], {}


def watch(fails):
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    z = prior.encode(image, recompute=True)
    prior.guided(z.detach(), 0.3)
    guider, _ = prior._evaluation
    watched.extend(map(weakref.ref, (image, z, prior._encoder, guider, guider.model_patcher)))
    if fails:
        raise torch.OutOfMemoryError("in a test")


gc.collect()
gc.disable()
for fails in (False, True):
    with contextlib.suppress(torch.OutOfMemoryError), torch.inference_mode(False), torch.enable_grad():
        prior.session.run(lambda fails=fails: watch(fails), MemoryRequest(rows=1, height=64, width=64))
    stayed[f"stayed {fails}"] = str(sum(reference() is not None for reference in watched))
gc.enable()

refused = {}
with torch.inference_mode():
    wide = [[torch.zeros(1, 77, 768), {}]]
    odd_vae = native_miniature.load_vae()
    odd_vae.latent_channels = 16
    for name, (decoder, *prompts, size) in {
        "conditioning": (vae, wide, negative, 7.5, 0),
        "negative": (vae, positive, wide, 7.5, 0),
        "vae": (odd_vae, positive, negative, 7.5, 0),
        "scale": (vae, positive, negative, float("nan"), 0),
        "size": (vae, positive, negative, 7.5, 70),
    }.items():
        try:
            ComfyPrior(text_guider(model, *prompts), decoder, size)
        except ValueError as error:
            refused[name] = str(error)
with torch.inference_mode():
    again = clip.encode_from_tokens_scheduled(clip.tokenize(request["prompt"]))
    other = clip.encode_from_tokens_scheduled(clip.tokenize(request["prompt"] + " with a hat"))
    masked = [[tensor, {**options, "strength": 0.5}] for tensor, options in positive]
    refused["fingerprint of a side"] = sided.fingerprint
    for name, (prompt, scale) in {
        "itself": (positive, 7.5),
        "encoded again": (again, 7.5),
        "other words": (other, 7.5),
        "other strength": (masked, 7.5),
        "other scale": (positive, 8.0),
    }.items():
        refused[f"fingerprint of {name}"] = conditioning_fingerprint(text_guider(model, prompt, negative, scale))
save_file({name: value.detach().clone().contiguous() for name, value in found.items()}, target, refused | stayed)
