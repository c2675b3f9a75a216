"""Short trainings by guidance of every kind, and what comes of them."""

import graphs
import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.stylegan import read_metadata

PROMPTS = ("model", "positive", "negative")


def training(prefix, **changes):
    return graphs.training(2, **{"save.filename_prefix": prefix, "guidance.guidance_scale": 7.5, **changes})


def with_guider(prefix, kind="CFGGuider", **changes):
    """A graph whose guidance comes from one of the host's guider nodes."""
    graph = training(prefix, **changes)
    inputs = graph["guidance"]["inputs"]
    links = {name: inputs.pop(name) for name in PROMPTS}
    if kind == "CFGGuider":
        links["cfg"] = 7.5
    else:
        links = {"model": links["model"], "conditioning": links["positive"]}
    graph["guider"] = {"class_type": kind, "inputs": links}
    inputs["guider"] = ["guider", 0]
    return graph


def with_extra(graph, text, scale, previous=None, name="extra"):
    graph[f"{name} text"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["miniature", 1], "text": text}}
    inputs = {"conditioning": [f"{name} text", 0], "scale": scale}
    if previous:
        inputs["previous"] = [previous, 0]
    graph[name] = {"class_type": "StyleGANFusionExtraPrompt", "inputs": inputs}
    graph["guidance"]["inputs"]["extra_prompts"] = [name, 0]
    return graph


def trained(host, graph):
    run = host.run(graph)
    assert run.succeeded, run.error
    prefix = graph["save"]["inputs"]["filename_prefix"]
    path = sorted((host.output / "stylegan").glob(f"{prefix}_*.safetensors"))[-1]
    return load_generator(path).state_dict(), read_metadata(path)


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)
