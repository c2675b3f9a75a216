"""Run by ComfyUI's Python in ComfyUI's folder: a domain that guides the miniature inside ComfyUI, and a copy that learns.

Arguments: the project's folder, a domain file, a safetensors file with z and eps, the file to write, and as JSON the
prompts, scales and timesteps."""

import json
import sys
from pathlib import Path

from in_host import start

project, domain_file, source, target, request = sys.argv[1:]
request = json.loads(request)
start(project)

import comfy.samplers
import torch
from project.domain.files import load_domain, save_domain
from project.domain.images import Pictures
from project.domain.learning import learn_domain
from project.domain.settings import DomainSettings
from project.domain.text_free import NotTextFree
from project.nodes.host import native_miniature
from project.nodes.host.domain_guider import DomainGuider
from project.nodes.host.guiders import Extra
from project.nodes.host.prior import ComfyPrior
from project.nodes.host.text_free import HostTextFreeScore, base_of, domain_patcher
from project.training.memory import MemoryRequest
from safetensors.torch import load_file, save_file
from variants.files import control_net
from zoo.families import FAMILIES
from zoo.tiny import conditioning
from zoo.tiny import model as tiny_model

from nodes import ControlNetApply

given, found, said = load_file(source), {}, {}
with torch.inference_mode():  # as nodes run
    model, clip, vae = native_miniature.load_model(), native_miniature.load_clip(), native_miniature.load_vae()
    empty, positive, negative, extra = (
        clip.encode_from_tokens_scheduled(clip.tokenize(text))
        for text in ("", request["prompt"], request["negative_prompt"], "a hat")
    )
    domain = load_domain(Path(domain_file))
    copy = domain_patcher(model, domain)

    def guider(domain_scale, text_scale, positive=positive, **more):
        return DomainGuider(model, copy, domain.pooled, positive, negative, domain_scale, text_scale, **more)

    def sampled(one, seed=1):
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 4)
        noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
        sampler = comfy.samplers.sampler_object("euler")
        return one.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=seed)

    def of_the_host(positive):
        cfg = comfy.samplers.CFGGuider(model)
        cfg.set_conds(positive, negative)
        cfg.set_cfg(request["text_scale"])
        return cfg

    found["host"] = sampled(of_the_host(positive))
    found["without domain"] = sampled(guider(0.0, request["text_scale"]))
    found["out of range"] = sampled(guider(2.0, request["text_scale"], domain_range=(0.9, 0.901)))
    found["with domain"] = sampled(guider(2.0, request["text_scale"]))
    found["early"] = sampled(guider(2.0, request["text_scale"], domain_range=(0.0, 0.3)))
    hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(4))
    controlled = ControlNetApply().apply_controlnet(positive, control_net(model), hint, 0.8)[0]
    found["host with control"] = sampled(of_the_host(controlled))
    found["control without domain"] = sampled(guider(0.0, request["text_scale"], controlled))
    found["control with domain"] = sampled(guider(2.0, request["text_scale"], controlled))
    said["devices"] = [str(copy.load_device), str(copy.offload_device)]
    said["base stays"] = base_of(model)

    # Each prediction at each timestep, as a training asks for it.
    more = {"extras": [Extra("hat", extra, -0.7)]}
    for name, one in {
        "both": guider(request["domain_scale"], request["text_scale"]),
        "domain alone": guider(1.0, 0.0),
        "with extra": guider(request["domain_scale"], request["text_scale"], **more),
    }.items():
        prior = ComfyPrior(one, vae)

        def evaluate(prior=prior, name=name):
            for t in request["timesteps"]:
                alpha, sigma = prior.schedule(t)
                z_t = alpha * given["z"] + sigma * given["eps"]
                found[f"{name} {t}"] = prior.guided(z_t, t)
                found[f"{name} {t} scaled"] = prior.guided(z_t, t, 0.5)
                found[f"{name} {t} both"], parts = prior.guided_and_conditions(z_t, t)
                said[f"{name} conditions"] = sorted(parts)

        with torch.inference_mode(False):
            prior.session.run(evaluate, MemoryRequest(rows=len(given["z"]), height=64, width=64))

    with torch.inference_mode(False):
        score = HostTextFreeScore(model, empty)
        with torch.no_grad():
            for t in request["timesteps"]:
                alpha, sigma = score.schedule(t)
                found[f"empty {t}"] = score.eps(alpha * given["z"] + sigma * given["eps"], t)
        before = {name: value.clone() for name, value in model.model.diffusion_model.state_dict().items()}
        removals = score.take_out_text(given["z"])
        with torch.no_grad():
            for t in request["timesteps"]:
                alpha, sigma = score.schedule(t)
                found[f"text-free {t}"] = score.eps(alpha * given["z"] + sigma * given["eps"], t)
        pictures = Pictures((given["z"][:, None],), 64)
        for rank in (0, 2):
            score = HostTextFreeScore(model, empty)
            removals = score.take_out_text(given["z"])
            settings = DomainSettings(
                steps=6, batch_size=4, learning_rate=2e-3, rank=rank, average=0, recompute=rank > 0
            )
            learned = learn_domain(score, pictures, settings)
            said[f"losses {rank}"] = learned.losses
            path = Path(target).with_name(f"learned-{rank}.safetensors")
            save_domain(score.domain(removals, learned.weights, {}), path)
            with torch.no_grad():
                found[f"learned {rank}"] = score.eps(given["z"], 0.4)
            again = domain_patcher(model, load_domain(path))
            said[f"kept {rank}"] = type(again).__name__
        after = model.model.diffusion_model.state_dict()
        said["the model stays"] = all(torch.equal(value, after[name]) for name, value in before.items())

    # Families: those with cross-attention apart learn a step, the others get a sentence.
    for name, family in FAMILIES.items():
        with torch.inference_mode(False):
            try:
                tiny = tiny_model(family, 0)
            except AttributeError:  # a family that this host does not have
                continue
            try:
                channels = tiny.get_model_object("latent_format").latent_channels
                score = HostTextFreeScore(tiny, conditioning(family, 0))
                z = torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(0))
                removals = score.take_out_text(z)
                learned = learn_domain(
                    score, Pictures((z[:, None],), 64), DomainSettings(steps=2, batch_size=2, average=0)
                )
                said[f"family {name}"] = f"learned {score.prediction}"
                fresh = domain_patcher(tiny, score.domain(removals, learned.weights, {}))
            except NotTextFree as error:
                said[f"family {name}"] = str(error)
            except Exception as error:
                said[f"family {name}"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"

save_file({name: value.contiguous() for name, value in found.items()}, target, {"said": json.dumps(said)})
