"""Run by ComfyUI's Python in ComfyUI's folder: what users hang on MODEL and CONDITIONING, built with ComfyUI's own nodes.

Of each variant, at each size and timestep: the latent gradient, and what ComfyUI itself samples in one step from the same
noisy latents. Arguments: the project's folder, a folder to work in, the file to write, and as JSON the timesteps of each
size of latents ("16x12": width by height) of each variant, and of "plain", which has nothing hung on it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from in_host import start

project, place, target, request = sys.argv[1:]
request = json.loads(request)
start(project)

import torch
from project.nodes.host import native_miniature
from project.nodes.host.guiders import text_guider
from project.nodes.host.prior import ComfyPrior
from project.sds.objective import Objective
from project.sds.terms import ScoreDistillation
from project.training.memory import MemoryRequest
from safetensors.torch import save_file
from variants import VARIANTS, Graph, save_files
from variants.conditionings import LONG, PROMPT

ROWS = 2


def by_prior(graph: Graph, name: str, times: dict[str, list[float]]) -> None:
    """Latent gradients, in one training run for each size."""
    guider = graph.guider
    if guider is None:
        guider = text_guider(graph.model, graph.positive, graph.negative, graph.scale, graph.extras)
    prior = ComfyPrior(guider, vae)
    objective = Objective(prior, [ScoreDistillation()], gradient_clamp=None, image_clamp_quantile=None)
    for size, timesteps in times.items():

        def body(size=size, timesteps=timesteps):
            for t in timesteps:
                torch.manual_seed(0)  # token merging and tiling draw
                gradient, _ = objective.latent_gradient(
                    objective.view(latents[size].clone(), None, t, noise[size].clone())
                )
                found[f"{name}/{size}/{t}/gradient"] = gradient

        width, height = (4 * int(side) for side in size.split("x"))
        with torch.inference_mode(False), torch.enable_grad():
            prior.session.run(body, MemoryRequest(rows=ROWS, height=height, width=width))


def by_host(graph: Graph, name: str, times: dict[str, list[float]]) -> None:
    """The noise in what ComfyUI samples in one step of Euler's method to 0, which is its denoised estimate D:
    eps_hat = (x - D) / sigma, with the host's x = z_t / alpha_t and sigma = sigma_t / alpha_t."""
    patcher = graph.model if graph.guider is None else graph.guider.model_patcher
    table = patcher.get_model_object("model_sampling").sigmas
    for size, timesteps in times.items():
        for t in timesteps:
            sigma = table[round(t * (len(table) - 1))]
            x = latents[size] + sigma * noise[size]
            torch.manual_seed(0)
            # A sampler starts from sigma times the noise that it is given.
            latent = graph.sampled(x / sigma, torch.stack([sigma, torch.zeros_like(sigma)]))
            found[f"{name}/{size}/{t}/sampled"] = (x - patcher.model.process_latent_in(latent)) / sigma
            found[f"{name}/{size}/{t}/sigma"] = sigma


found, lacking = {}, []
with torch.inference_mode():  # as nodes run
    save_files(Path(place))
    model, clip, vae = native_miniature.load_model(), native_miniature.load_clip(), native_miniature.load_vae()
    plain = Graph(model, clip, None, None, Path(place))
    plain = replace(plain, positive=plain.says(PROMPT), negative=plain.says(""))
    times = request.pop("plain")
    generator = torch.Generator().manual_seed(1)
    latents, noise = (
        {size: torch.randn(ROWS, 4, *map(int, size.split("x")[::-1]), generator=generator) for size in times}
        for _ in range(2)
    )
    found |= {f"eps/{size}": value for size, value in noise.items()}
    found["length of the long prompt"] = torch.tensor(plain.says(LONG)[0][0].shape[1])
    by_host(plain, "plain", times)
    by_prior(plain, "plain", times)
    assert set(request) == set(VARIANTS), set(request) ^ set(VARIANTS)
    for name, times in request.items():
        graph = VARIANTS[name](plain)
        if graph is None:
            lacking.append(name)
            continue
        by_host(graph, name, times)
        by_prior(graph, name, times)
        once = {size: timesteps[:1] for size, timesteps in list(times.items())[:1]}
        by_host(graph, f"{name}, after", once)
        by_prior(plain, f"plain after {name}", once)
tensors = {name: value.detach().clone().contiguous() for name, value in found.items()}
save_file(tensors, target, {"lacking": json.dumps(lacking)})
