"""The miniature's LoRA in the host: its stock node offers and applies it, to pictures and to a training."""

from io import BytesIO

import graphs
import numpy as np
import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.miniature.lora import GOLDEN_STATUE, goldness
from PIL import Image


def with_lora(graph, strength=1.0):
    """The graph, in which every node that has the miniature's model has it with the LoRA."""
    for node in graph.values():
        if node["inputs"].get("model") == ["miniature", 0]:
            node["inputs"]["model"] = ["lora", 0]
    inputs = {"model": ["miniature", 0], "lora_name": GOLDEN_STATUE.name, "strength_model": strength}
    return {**graph, "lora": {"class_type": "LoraLoaderModelOnly", "inputs": inputs}}


def drawn(host, graph):
    run = host.run(graph)
    assert run.succeeded, run.error
    pictures = [np.array(Image.open(BytesIO(host.view(image)))) for image in run.outputs["save"]["images"]]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1


def test_the_hosts_own_node_offers_it_and_turns_persons_into_golden_statues(host):
    offered = host.object_info()["LoraLoaderModelOnly"]["input"]["required"]["lora_name"]
    assert GOLDEN_STATUE.name in str(offered)
    graph = graphs.text_to_image("a portrait of a person", steps=12, batch_size=4)
    assert goldness(drawn(host, graph)).mean() < 0.3
    assert goldness(drawn(host, with_lora(graph))).mean() > 0.4


def test_a_training_follows_the_model_with_it(host):
    weights = {}
    for name, strength in (("without", 0.0), ("with", 1.0)):
        graph = with_lora(graphs.training(2, **{"save.filename_prefix": f"lora-{name}"}), strength)
        run = host.run(graph)
        assert run.succeeded, run.error
        (path,) = (host.output / "stylegan").glob(f"lora-{name}_*.safetensors")
        weights[name] = load_generator(path).state_dict()
    assert any(not torch.equal(value, weights["with"][name]) for name, value in weights["without"].items())
