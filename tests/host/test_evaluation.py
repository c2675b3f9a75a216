"""Evaluate Generator in a real ComfyUI: its numbers tell foxes from persons, and what does not fit gets a sentence."""

import math

import pytest
import torch
from comfy_host import PromptRejected
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.factors import sample_factors
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.stages import seeded
from graphs import MINIATURE, text_to_image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

NODE = "StyleGANFusionEvaluateGenerator"
FOX = "a portrait of a fox"
DEFAULTS = {"text": FOX, "count": 24, "seed": 0, "truncation_psi": 1.0, "features": "miniature"}


@pytest.fixture(scope="module")
def images():
    """Of 8 bits, as ComfyUI rounds them for CLIP vision."""
    pictures = render(sample_factors(5, seeded(1)))
    return (pictures * 127.5 + 127.5).round() / 127.5 - 1


@pytest.fixture(scope="module")
def in_host(images, tmp_path_factory, run_in_host):
    place = tmp_path_factory.mktemp("evaluation")
    save_file({"images": images}, place / "given.safetensors")
    run_in_host("evaluation_in_host.py", place / "given.safetensors", place / "found.safetensors")
    with safe_open(place / "found.safetensors", "pt") as file:
        return load_file(place / "found.safetensors"), file.metadata()


@torch.no_grad()
def test_embeddings_are_those_of_transformers(in_host, images):
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

    found, notes = in_host
    vision = CLIPVisionModelWithProjection.from_pretrained(WEIGHTS / "clip" / "vision", dtype=torch.float32)
    expected = vision.eval()(pixel_values=images).image_embeds
    torch.testing.assert_close(found["images"], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert notes["width"] == str(expected.shape[1])

    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "diffusion" / "tokenizer", local_files_only=True)
    text = CLIPTextModelWithProjection.from_pretrained(WEIGHTS / "clip" / "text", dtype=torch.float32).eval()
    lines = [FOX, "a robot with gold metal, on a pink background"]
    expected = text(tokenizer(lines, padding="max_length", max_length=77, return_tensors="pt").input_ids).text_embeds
    torch.testing.assert_close(found["texts"], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_the_text_encoder_of_the_score_leaves_the_conditioning_alone(in_host):
    assert in_host[1]["conditioning is the same"] == "True"


def test_a_text_encoder_that_does_not_belong_to_the_vision_model_is_found_out(in_host):
    notes = in_host[1]
    assert "gives 768 numbers and the text encoders of clip 128, 64." in notes["other width"]
    for name in ("zeros", "identity", "not finite"):
        assert "came without its text projection" in notes[name] and "clip_l.safetensors" in notes[name]
    assert int(notes["colours"]) >= 6 and int(notes["colours of strangers"]) < 4


def graph(**inputs):
    """Evaluate the miniature's generator; inputs of the node, None leaves one out."""
    given = {
        "generator": ["miniature", 3],
        "clip": ["miniature", 1],
        "clip_vision": ["miniature", 4],
        **DEFAULTS,
        **inputs,
    }
    drawn = text_to_image(FOX, seed=3, steps=8, batch_size=24)
    del drawn["save"]
    node = {"class_type": NODE, "inputs": {name: value for name, value in given.items() if value is not None}}
    picture = {"class_type": "PreviewImage", "inputs": {"images": ["evaluate", 1]}}
    return {**drawn, "evaluate": node, "picture": picture}


def told(run):
    """The numbers of a run by measure and set, and the whole text."""
    assert run.succeeded, run.error
    (text,) = run.outputs["evaluate"]["text"]
    numbers = {}
    for line in text.splitlines():
        name, _, rest = line.partition(": ")
        if "; " in rest:
            now, _, others = rest.rpartition("; ")[0].partition(" (")
            parts = {"now": now, **dict(part.split(" ", 1) for part in others.rstrip(")").split(", ") if part)}
            numbers[name] = {which: float(value.split()[0]) for which, value in parts.items()}
    return numbers, text


@pytest.fixture(scope="module")
def compared(host):
    """The diffusion model's foxes as "generator", the generator of persons before, other foxes as the reference."""
    foxes = graph(generator=["decode", 0], before=["miniature", 3], reference=["others", 0])
    foxes["more"] = {**foxes["sampler"], "inputs": {**foxes["sampler"]["inputs"], "seed": 4}}
    foxes["others"] = {"class_type": "VAEDecode", "inputs": {"samples": ["more", 0], "vae": ["miniature", 2]}}
    return host.run(foxes)


def test_foxes_fit_the_text_and_are_nearer_to_other_foxes_than_persons(compared):
    numbers, _ = told(compared)
    score, frechet, kernel = (numbers[name] for name in ("CLIP score", "Fréchet distance", "Kernel distance x 1000"))
    assert score["now"] > score["before"] + 10 and score["reference"] == pytest.approx(score["now"], abs=10)
    assert frechet["now"] < 0.5 * frechet["before"] and kernel["now"] < 0.5 * kernel["before"]
    assert numbers["Diversity"]["before"] > 0.3 * numbers["Diversity"]["reference"] > 0


def test_the_report_says_how_to_read_it_and_there_is_a_picture(compared):
    _, text = told(compared)
    assert "Images: 24 (now), 24 (before), 24 (reference)" in text and "They do not compare with FID" in text
    assert "too large with few images (24, and the network has 64 features)" in text
    assert len(compared.outputs["picture"]["images"]) == 1


def test_without_clip_vision_the_features_of_lpips_tell_the_distance(host):
    numbers, text = told(host.run(graph(clip=None, clip_vision=None, reference=["decode", 0], text="")))
    assert set(numbers) == {"Fréchet distance", "Kernel distance x 1000", "Diversity"}
    assert "features of the miniature" in text and "No CLIP score" not in text


def test_a_generator_alone_is_enough_and_the_seed_is_what_is_measured(host):
    alone = dict(clip=None, clip_vision=None, text="", count=8)
    runs = [told(host.run(graph(**alone, seed=seed)))[0]["Diversity"]["now"] for seed in (1, 2)]
    assert runs[0] != runs[1] and all(math.isfinite(value) and value > 0 for value in runs)


def test_phrases_are_scored_by_themselves_those_of_the_text_or_others(host):
    _, text = told(host.run(graph(count=4, text="a portrait of a person, with a hat")))
    assert "CLIP score of each phrase:\n  a portrait of a person: " in text and "\n  with a hat: " in text
    numbers, text = told(host.run(graph(count=4, text="", phrases="a portrait of a fox\na portrait of a person")))
    assert "CLIP score" not in numbers
    assert numbers["  a portrait of a person"]["now"] > numbers["  a portrait of a fox"]["now"] + 10


def test_what_is_missing_for_clip_score_is_named(host):
    _, text = told(host.run(graph(clip=None, count=4)))
    assert "No CLIP score: it also needs clip." in text


def test_what_does_not_fit_gets_a_sentence(host):
    one = graph(generator=["single", 0])
    one["single"] = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}}
    message = host.run(one).error["exception_message"].strip()
    assert message == "Evaluate Generator needs 2 images or more as generator; join images with Batch Images."
    with pytest.raises(PromptRejected, match="There is no file"):
        host.submit(graph(features="missing.pth"))


def test_the_miniature_still_has_its_outputs_in_their_places(host):
    info = host.object_info()[MINIATURE["class_type"]]
    first = ["MODEL", "CLIP", "VAE", "STYLEGAN_FUSION_GENERATOR", "CLIP_VISION", "STYLEGAN_FUSION_GENERATOR"]
    assert info["output"][: len(first)] == first
