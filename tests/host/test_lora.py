"""The miniature's LoRA in the host: a node of ours applies it, to pictures and to a training, and stands in for the host's
own in graphs of before."""

from io import BytesIO

import graphs
import numpy as np
import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.miniature.lora import GOLDEN_STATUE, goldness
from PIL import Image


def with_lora(graph, strength=1.0):
    """The graph, in which every node that has the miniature's model has it with the LoRA."""
    node = {"class_type": "StyleGANFusionMiniatureLoRA", "inputs": {"model": ["miniature", 0], "strength": strength}}
    return _with(graph, node)


def with_lora_of_before(graph):
    """The same by the host's own node, as graphs were saved when the LoRA stood in its list."""
    inputs = {"model": ["miniature", 0], "clip": ["miniature", 1], "lora_name": GOLDEN_STATUE.name}
    node = {"class_type": "LoraLoader", "inputs": {**inputs, "strength_model": 1.0, "strength_clip": 1.0}}
    graph = _with(graph, node)
    for encoder in ("positive", "negative"):
        graph[encoder]["inputs"]["clip"] = ["lora", 1]
    return graph


def _with(graph, lora):
    for node in graph.values():
        if node["inputs"].get("model") == ["miniature", 0]:
            node["inputs"]["model"] = ["lora", 0]
    return {**graph, "lora": lora}


def drawn(host, graph):
    run = host.run(graph)
    assert run.succeeded, run.error
    pictures = [np.array(Image.open(BytesIO(host.view(image)))) for image in run.outputs["save"]["images"]]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1


def test_it_turns_persons_into_golden_statues_and_leaves_the_hosts_lists_alone(host):
    offered = host.object_info()["LoraLoaderModelOnly"]["input"]["required"]["lora_name"]
    assert GOLDEN_STATUE.name not in str(offered)
    graph = graphs.text_to_image("a portrait of a person", steps=12, batch_size=4)
    assert goldness(drawn(host, graph)).mean() < 0.3
    statues = drawn(host, with_lora(graph))
    assert goldness(statues).mean() > 0.4
    before = graphs.text_to_image("a portrait of a person", steps=12, batch_size=4)
    assert torch.equal(drawn(host, with_lora_of_before(before)), statues), "graphs of before run as they did"


def test_a_training_follows_the_model_with_it(host):
    weights = {}
    for name, strength in (("without", 0.0), ("with", 1.0)):
        graph = with_lora(graphs.training(2, **{"save.filename_prefix": f"lora-{name}"}), strength)
        run = host.run(graph)
        assert run.succeeded, run.error
        (path,) = (host.output / "stylegan").glob(f"lora-{name}_*.safetensors")
        weights[name] = load_generator(path).state_dict()
    assert any(not torch.equal(value, weights["with"][name]) for name, value in weights["without"].items())
