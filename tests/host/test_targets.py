"""Targets in ComfyUI: seen before training, made, edited by hand, brought along, trained towards, interrupted."""

import io
import json
import time

import graphs
import numpy as np
import pytest
import torch
from comfy_host import PromptRejected
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.miniature import GENERATOR
from comfyui_stylegan_fusion.sds import TargetsFolder
from comfyui_stylegan_fusion.stylegan import read_metadata
from host_trainings import run_until, went_on
from PIL import Image

COUNT = 6


def with_targets(prefix, steps=3, **changes):
    """The miniature's generator, trained towards a few targets of the guidance's prompt."""
    graph = graphs.training(steps, **{"negative.text": "a portrait of a person", "save.filename_prefix": prefix})
    graph["make"] = {
        "class_type": "StyleGANFusionMakeTargets",
        "inputs": {
            "generator": ["miniature", 3],
            "guidance": ["guidance", 0],
            "guidance_scale": 2.0,
            "count": COUNT,
            "strength": 0.8,
            "levels": 2,
            "inversion": "ddim",
            "seed": 5,
            "batch_size": 2,
        },
    }
    del graph["regularizer"], graph["train"]["inputs"]["regularizer"], graph["plot"]
    graph["train"]["inputs"]["targets"] = ["make", 0]
    graph["samples"] = {"class_type": "SaveImage", "inputs": {"images": ["make", 1], "filename_prefix": "samples"}}
    graph["pictures"] = {"class_type": "SaveImage", "inputs": {"images": ["make", 2], "filename_prefix": "pictures"}}
    for name, value in changes.items():
        node, key = name.split(".")
        graph[node]["inputs"][key] = value
    return graph


def trained(host, graph):
    run = host.run(graph)
    assert run.succeeded, run.error
    path = sorted((host.output / "stylegan").glob(f"{graph['save']['inputs']['filename_prefix']}_*.safetensors"))[-1]
    return load_generator(path).state_dict(), read_metadata(path), run


def images_of(host, run, node):
    return [Image.open(io.BytesIO(host.view(image))) for image in run.outputs[node]["images"]]


def pixels(images):
    return torch.stack([torch.from_numpy(np.array(image.convert("RGB"))).float() for image in images])


def folder_of(host, run):
    (said,) = {text for text in run.texts if "targets in output/stylegan/targets/" in text}
    return host.output / "stylegan" / "targets" / said.rpartition("/")[2]


def test_targets_are_made_and_trained_towards_without_asking_the_model_again(host):
    weights, metadata, run = trained(host, with_targets("toward"))
    assert len(images_of(host, run, "samples")) == len(images_of(host, run, "pictures")) == COUNT
    (term,) = json.loads(metadata["settings"])["terms"]
    assert term["term"] == "targets" and metadata["prompt"] == "a portrait of a fox"
    frozen = load_generator(GENERATOR).state_dict()
    assert any(not torch.equal(weights[name], frozen[name]) for name in frozen)
    assert len([*folder_of(host, run).glob("*.png")]) == COUNT


def test_the_same_graph_runs_nothing_again(host):
    graph = with_targets("again", **{"make.seed": 6})
    assert host.run(graph).succeeded
    assert {"make", "train"} <= set(host.run(graph).of("execution_cached")[0]["nodes"])


def test_a_picture_edited_in_the_folder_is_read_as_edited(host):
    graph = with_targets("edited", **{"make.seed": 7})
    weights, _, run = trained(host, graph)
    folder = folder_of(host, run)
    Image.new("RGB", (64, 64), "red").save(folder / "00003.png")
    (folder / "00004.png").unlink()
    others, _, run = trained(host, graph)
    pictures = images_of(host, run, "pictures")
    assert len(pictures) == COUNT - 1 and pictures[3].getpixel((5, 5)) == (255, 0, 0)
    assert any(not torch.equal(weights[name], others[name]) for name in weights)


def test_making_targets_goes_on_after_a_cancel(host):
    graph, acted = with_targets("cancelled", **{"make.seed": 8}), []

    def watch(kind, data):
        if kind == "progress" and data["max"] == COUNT and data["value"] >= 2 and not acted:
            acted.append(host.interrupt())

    assert host.follow(host.submit(graph), watch).interrupted
    run = host.run(graph)
    first, *_ = [data["value"] for data in run.of("progress") if data["max"] == COUNT]
    assert run.succeeded and first > 2  # what was there was not made again


def test_training_towards_targets_goes_on_after_a_cancel_to_the_same_weights(host):
    whole, _, _ = trained(host, with_targets("whole", steps=8, **{"make.seed": 9}))
    graph = with_targets("parts", steps=8, **{"make.seed": 9, "train.seed": 1})
    graph["train"]["inputs"]["save_every"] = 2
    assert run_until(host, graph, 4, host.interrupt).interrupted
    weights, _, run = trained(host, graph)
    assert went_on(run) and all(torch.equal(weights[name], whole[name]) for name in whole)


def test_pictures_of_others_are_targets_without_any_diffusion_model(host):
    graph = with_targets("pairs")
    graph["latents"] = {
        "class_type": "StyleGANFusionSampleLatents",
        "inputs": {"generator": ["miniature", 3], "seed": 1, "count": 4, "truncation_psi": 1.0, "truncation_cutoff": 0},
    }
    graph["drawn"] = {
        "class_type": "StyleGANFusionDrawLatents",
        "inputs": {"generator": ["miniature", 3], "latents": ["latents", 0], "noise": "const"},
    }
    graph["inverted"] = {"class_type": "ImageInvert", "inputs": {"image": ["drawn", 0]}}
    graph["make"] = {
        "class_type": "StyleGANFusionTargetsFromPictures",
        "inputs": {"generator": ["miniature", 3], "latents": ["latents", 0], "pictures": ["inverted", 0]},
    }
    for unused in ("samples", "pictures", "guidance", "positive", "negative"):
        del graph[unused]
    del graph["train"]["inputs"]["guidance"]
    _, metadata, _ = trained(host, graph)
    assert json.loads(metadata["settings"])["terms"][0]["term"] == "targets"
    graph["latents"]["inputs"]["count"] = 3
    graph["drawn"]["inputs"]["latents"] = ["more", 0]
    graph["more"] = {"class_type": graph["latents"]["class_type"], "inputs": graph["latents"]["inputs"] | {"count": 4}}
    assert "3 latents and 4 pictures" in host.run(graph).error["exception_message"]


def test_targets_and_score_distillation_go_together(host):
    graph = with_targets("both")
    graph["term"] = {"class_type": "StyleGANFusionDistillationTerm", "inputs": {"term": "sds", "weight": 0.5}}
    graph["train"]["inputs"]["regularizer"] = ["term", 0]
    _, metadata, _ = trained(host, graph)
    assert [term["term"] for term in json.loads(metadata["settings"])["terms"]] == ["sds", "targets"]


def test_target_loss_compares_by_lpips_too(host):
    graph = with_targets("lpips")
    graph["loss"] = {
        "class_type": "StyleGANFusionTargetLoss",
        "inputs": {
            "targets": ["make", 0],
            "weight": 1.0,
            "edges": 0.5,
            "perceptual": 1.0,
            "latents": 0.3,
            "features": "miniature",
        },
    }
    graph["train"]["inputs"]["regularizer"] = ["loss", 0]
    assert "Targets are linked twice" in host.run(graph).error["exception_message"]
    del graph["train"]["inputs"]["targets"]
    term, latents = json.loads(trained(host, graph)[1]["settings"])["terms"]
    assert term["features"] == "features of the miniature" and latents["term"] == "target latents"


def test_the_optimizer_node_says_how_gradients_become_steps(host):
    default, _, _ = trained(host, with_targets("muon"))
    graph = with_targets("adam")
    inputs = {"optimizer": "adam", "average": 0.9, "precision": "float32"}
    graph["optimizer"] = {"class_type": "StyleGANFusionOptimizer", "inputs": inputs}
    graph["train"]["inputs"]["optimizer"] = ["optimizer", 0]
    adam, metadata, _ = trained(host, graph)
    settings = json.loads(metadata["settings"])
    assert settings["optimizer"] == "adam" and settings["average"] == 0.9
    assert any(not torch.equal(default[name], adam[name]) for name in adam)


def test_nothing_to_train_towards_gets_a_sentence(host):
    graph = with_targets("nothing")
    del graph["train"]["inputs"]["targets"], graph["train"]["inputs"]["guidance"]
    del graph["samples"], graph["pictures"]  # ComfyUI would run what leads to these all the same
    with pytest.raises(PromptRejected, match="link a guidance, or targets, or both"):
        host.submit(graph)
    graph["regularizer"] = {"class_type": "StyleGANFusionDirectionalRegularizer", "inputs": {"weight": 0.3}}
    graph["train"]["inputs"]["regularizer"] = ["regularizer", 0]  # targets might come with it
    assert "link a guidance, or targets, or both" in host.run(graph).error["exception_message"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("strengths", "0.5, high", "write up to 16 numbers"),
        ("strengths", "0.5, 7", "strength is 7"),
        ("guidance_scales", "", "write up"),
    ],
)
def test_lists_of_a_preview_are_checked_before_anything_runs(host, name, text, sentence):
    graph = with_targets("lists")
    inputs = {"generator": ["miniature", 3], "guidance": ["guidance", 0], "strengths": "0.5", "guidance_scales": "2"}
    preview = {"class_type": "StyleGANFusionPreviewTargets", "inputs": {**inputs, "samples": 1, "levels": 1, "seed": 0}}
    preview["inputs"][name] = text
    shown = {"class_type": "PreviewImage", "inputs": {"images": ["preview", 0]}}
    kept = {node: graph[node] for node in ("miniature", "positive", "negative", "guidance")}
    with pytest.raises(PromptRejected, match=sentence):
        host.submit({**kept, "preview": preview, "shown": shown})


@pytest.mark.parametrize("kind", ["CFGGuider", "BasicGuider"])
def test_a_guider_makes_targets_by_its_own_scale(host, kind):
    graph = with_targets(kind.lower(), **{"make.seed": 10})
    inputs = graph["guidance"]["inputs"]
    links = {name: inputs.pop(name) for name in ("model", "positive", "negative")}
    if kind == "CFGGuider":
        links["cfg"] = 2.0
    else:
        links = {"model": links["model"], "conditioning": links["positive"]}
    graph["guider"] = {"class_type": kind, "inputs": links}
    inputs["guider"] = ["guider", 0]
    _, _, run = trained(host, graph)
    assert any("one noise for all" in text for text in run.texts) == (kind == "BasicGuider")


def test_a_guider_with_the_same_prompts_and_scale_makes_the_same_pictures(host):
    graph = with_targets("by prompts", **{"make.seed": 11})
    by_prompts = pixels(images_of(host, host.run(graph), "pictures"))
    inputs = graph["guidance"]["inputs"]
    links = {name: inputs.pop(name) for name in ("model", "positive", "negative")}
    graph["guider"] = {"class_type": "CFGGuider", "inputs": {**links, "cfg": 2.0}}
    inputs["guider"] = ["guider", 0]
    assert torch.equal(pixels(images_of(host, host.run(graph), "pictures")), by_prompts)


def test_preview_targets_shows_strengths_and_scales_in_one_picture(host):
    graph = with_targets("preview")
    graph["preview"] = {
        "class_type": "StyleGANFusionPreviewTargets",
        "inputs": {
            "generator": ["miniature", 3],
            "guidance": ["guidance", 0],
            "strengths": "0.5, 0.8",
            "guidance_scales": "1, 2",
            "samples": 2,
            "levels": 2,
            "seed": 5,
        },
    }
    graph["strip"] = {"class_type": "SaveImage", "inputs": {"images": ["preview", 0], "filename_prefix": "strip"}}
    graph["each"] = {"class_type": "SaveImage", "inputs": {"images": ["preview", 1], "filename_prefix": "each"}}
    for unused in ("train", "save", "before", "after", "layers"):
        del graph[unused]
    run = host.run(graph)
    assert run.succeeded, run.error
    (strip,), each = images_of(host, run, "strip"), images_of(host, run, "each")
    assert len(each) == 2 * 2 * 2 and strip.width > 3 * 128
    made = images_of(host, run, "pictures")  # of the same seed, strength .8 at scale 2
    assert (pixels(each[3:4]) - pixels(made[:1])).abs().max() <= 3  # rounding: other rows in the batch
    graph["preview"]["inputs"]["strengths"] = "high"
    for other in ("make", "samples", "pictures"):
        del graph[other]
    with pytest.raises(PromptRejected, match="write up to 16 numbers with commas"):
        host.run(graph)


def test_a_set_of_targets_is_read_by_the_command_line_too(host):
    run = host.run(with_targets("files", **{"make.seed": 12}))
    assert len(TargetsFolder(folder_of(host, run)).read(load_generator(GENERATOR))) == COUNT


def test_targets_are_refreshed_by_the_models_while_training(host):
    graph = with_targets("refreshed", steps=4, **{"make.seed": 13})
    stay, _, _ = trained(host, graph)
    graph["make"]["inputs"] |= {"refresh": 2, "refresh_share": 0.5}
    graph["save"]["inputs"]["filename_prefix"] = "refreshed anew"
    anew, metadata, _ = trained(host, graph)
    (term,) = json.loads(metadata["settings"])["terms"]
    assert (term["refresh"], term["refresh_share"]) == (2, 0.5)
    assert any(not torch.equal(stay[name], anew[name]) for name in stay)


def test_a_training_is_stopped_while_its_targets_are_refreshed(host):
    graph = with_targets("stopped", steps=4, **{"make.seed": 14, "make.count": 40, "train.panel": "refreshing"})
    graph["make"]["inputs"] |= {"refresh": 2, "refresh_share": 1.0}
    prompt, address = host.submit(graph), "/stylegan_fusion/panels/refreshing"
    deadline = time.monotonic() + 240
    while not (shown := host.get(address)).get("refreshing"):
        assert time.monotonic() < deadline and shown.get("status") != "finished", shown
        time.sleep(0.05)
    done, count = shown["refreshing"]
    assert shown["status"] == "running" and 0 < done <= count == 40
    host.post(address, {"training": shown["training"], "action": "end"})
    assert host.follow(prompt).succeeded
    shown = host.get(address)
    assert shown["status"] == "stopped" and shown["refreshing"] is None
    assert shown["step"] == shown["kept"] == shown["moments"][-1] == 2
