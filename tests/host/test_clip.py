"""CLIP Directional in a real ComfyUI: the copied CLIP vision model's gradients, trainings by it, and what does not fit."""

import json

import graphs
import pytest
import torch
from comfyui_stylegan_fusion.metrics.clip import ImageEncoder
from comfyui_stylegan_fusion.miniature import WEIGHTS
from guided_graphs import same, trained
from host_trainings import assert_same, run_until, weights, went_on
from safetensors import safe_open
from safetensors.torch import load_file, save_file

NODE = "StyleGANFusionCLIPDirectional"
TEXTS = {"source_text": "a portrait of a person", "target_text": "a portrait of a fox"}


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9


@pytest.fixture(scope="module")
def in_host(images, tmp_path_factory, run_in_host):
    place = tmp_path_factory.mktemp("clip")
    save_file({"images": images}, place / "given.safetensors")
    run_in_host("clip_in_host.py", place / "given.safetensors", place / "found.safetensors")
    with safe_open(place / "found.safetensors", "pt") as file:
        return load_file(place / "found.safetensors"), file.metadata()


@pytest.mark.parametrize("name", ["miniature", "large"])
def test_the_copy_embeds_as_the_host_does_and_leaves_it_as_it_was(in_host, name):
    found, notes = in_host
    expected = found[f"{name} expected"]
    # The host rounds pixels to 8 bits, which no gradient passes.
    torch.testing.assert_close(found[f"{name} embeds"], expected, rtol=0, atol=0.02 * expected.abs().max().item())
    assert torch.equal(found[f"{name} after"], expected)
    assert notes[f"{name} inference"] == notes[f"{name} digest"] == "True"
    assert int(notes[f"{name} beyond"]) > 0 and int(notes[f"{name} kept"]) > 4 * 60_000


@pytest.mark.parametrize("name", ["miniature", "large"])
def test_gradients_follow_the_slope(in_host, name):
    found, _ = in_host
    assert found[f"{name} gradient"].norm().item() == pytest.approx(found[f"{name} slope"].item(), rel=0.02)


def test_gradients_are_those_of_transformers(in_host, images):
    from transformers import CLIPVisionModelWithProjection

    vision = CLIPVisionModelWithProjection.from_pretrained(WEIGHTS / "clip" / "vision", dtype=torch.float32)
    x = images.clone().requires_grad_()
    embeds = ImageEncoder(vision, 64, [0.5] * 3, [0.5] * 3)(x)
    (expected,) = torch.autograd.grad(embeds, x, torch.ones_like(embeds))
    found = in_host[0]["miniature gradient"]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def by_clip(prefix, steps=2, alone=True, **changes):
    """The miniature's generator, trained by CLIP: alone, or beside the guidance."""
    graph = graphs.training(steps, **{"save.filename_prefix": prefix})
    inputs = {"clip_vision": ["miniature", 4], "clip": ["miniature", 1], **TEXTS, "weight": 1.0, "templates": False}
    graph["nada"] = {"class_type": NODE, "inputs": inputs}
    train = graph["train"]["inputs"]
    train["regularizer"] = ["nada", 0]
    if alone:
        del train["guidance"]
        for name in ("guidance", "positive", "negative"):
            del graph[name]
    else:
        inputs["previous"] = ["regularizer", 0]
    if alone:
        del graph["regularizer"]
    for name, value in changes.items():
        node, key = name.split(".")
        graph[node]["inputs"][key] = value
    return graph


def test_a_training_by_clip_alone_needs_no_guidance(host):
    fox, metadata = trained(host, by_clip("nada"))
    (term,) = json.loads(metadata["settings"])["terms"]
    assert term.pop("clip") and term == {
        "term": "clip directional", "weight": 1.0, "phrasings": 1, "source": TEXTS["source_text"],
        "target": TEXTS["target_text"],
    }  # fmt: skip
    assert metadata["prompt"] == TEXTS["target_text"]
    other, _ = trained(host, by_clip("nada-other", **{"nada.target_text": "a portrait of a robot"}))
    assert not same(fox, other)


def test_beside_score_distillation_both_pull(host):
    graph = by_clip("nada-both", alone=False, **{"nada.weight": 0.5})
    sds = {"term": "sds", "weight": 1.0}
    graph["sds"] = {
        "class_type": "StyleGANFusionDistillationTerm",
        "inputs": {"term": "sds", "weight": 1.0, "previous": ["nada", 0]},
    }
    graph["train"]["inputs"]["regularizer"] = ["sds", 0]
    _, metadata = trained(host, graph)
    terms = {term["term"]: term for term in json.loads(metadata["settings"])["terms"]}
    assert [*terms] == ["clip directional", "sds", "directional"] and terms["sds"] == sds


def test_it_goes_on_after_a_cancel(host):
    assert host.run(by_clip("nada-whole", steps=6)).succeeded
    graph = by_clip("nada-cancelled", steps=6, **{"train.save_every": 2})
    assert run_until(host, graph, 3, host.interrupt).interrupted
    run = host.run(graph)
    assert run.succeeded and went_on(run) >= 3
    assert_same(weights(host, "nada-cancelled"), weights(host, "nada-whole"))


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"nada.source_text": TEXTS["target_text"]}, "are the same; write what the generator draws as it is"),
        ({"nada.target_text": " "}, "The target text is empty"),
        ({"nada.weight": 0.0}, "every term has the weight 0"),
    ],
)
def test_what_does_not_fit_gets_a_sentence(host, changes, sentence):
    assert sentence in host.run(by_clip("nada-wrong", **changes)).error["exception_message"]
