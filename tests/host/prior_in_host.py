"""Run by ComfyUI's Python in ComfyUI's folder: what the miniature's prior says inside ComfyUI.

Arguments: the project's folder, a safetensors file with images, z_t and eps, the file to write, and as JSON the prompts,
the guidance scale and the timesteps."""

import importlib.util
import json
import sys
from pathlib import Path

project, source, target, request = sys.argv[1:]
request = json.loads(request)
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options

comfy.options.enable_args_parsing()

import torch
from safetensors.torch import load_file, save_file

spec = importlib.util.spec_from_file_location(
    "project", Path(project) / "__init__.py", submodule_search_locations=[project]
)
package = importlib.util.module_from_spec(spec)
sys.modules["project"] = package
spec.loader.exec_module(package)

from project.nodes import native_miniature
from project.nodes.adapter import ComfyPrior
from project.sds.objective import Objective

given, found = load_file(source), {}
with torch.inference_mode():  # as nodes run
    model, clip, vae = native_miniature.load_model(), native_miniature.load_clip(), native_miniature.load_vae()
    positive, negative = (
        clip.encode_from_tokens_scheduled(clip.tokenize(request[name])) for name in ("prompt", "negative_prompt")
    )
    prior = ComfyPrior(model, vae, positive, negative, request["guidance_scale"])

    def evaluate():
        guider, _ = prior._evaluation
        found["same_unet"] = torch.tensor(guider.inner_model.diffusion_model is model.model.diffusion_model)
        images = given["images"].clone().requires_grad_()
        z = prior.encode(images)
        (found["image gradient"],) = torch.autograd.grad(z, images, given["eps"])
        z = found["z"] = z.detach()
        objective = Objective(prior, (), gradient_clamp=None, image_clamp_quantile=None)
        for t in request["timesteps"]:
            for name, eps in prior.conditions(given["z_t"], t).items():
                found[f"{t} {name}"] = eps
            found[f"{t} guided"] = prior.guided(given["z_t"], t)
            found[f"{t} schedule"] = torch.tensor(prior.schedule(t), dtype=torch.float64)
            found[f"{t} gradient"] = objective.latent_gradient(z, None, t, given["eps"])[0]

    with torch.inference_mode(False), torch.enable_grad():
        prior.run(evaluate, rows=3)
refused = {}
with torch.inference_mode():
    wide = [[torch.zeros(1, 77, 768), {}]]
    odd_vae = native_miniature.load_vae()
    odd_vae.latent_channels = 16
    for name, arguments in {
        "conditioning": (model, vae, wide, negative, 7.5),
        "negative": (model, vae, positive, wide, 7.5),
        "vae": (model, odd_vae, positive, negative, 7.5),
        "scale": (model, vae, positive, negative, float("nan")),
    }.items():
        try:
            ComfyPrior(*arguments)
        except ValueError as error:
            refused[name] = str(error)
save_file({name: value.detach().clone().contiguous() for name, value in found.items()}, target, refused)
