"""Training in ComfyUI: cancelling, LoRAs, and input that cannot work."""

import re
from datetime import date
from urllib.parse import quote

import graphs
import pytest
import torch
from comfy_host import PromptRejected
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.stylegan import read_metadata
from safetensors.torch import load_file, save_file

LORA_KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def saved(host, pattern):
    return sorted((host.output / "stylegan").glob(pattern))


def test_cancelling_half_way_keeps_what_was_trained(host):
    steps, before = 200, set(saved(host, "recovered_*.safetensors"))
    prompt = host.submit(graphs.training(steps, **{"train.seed": 5}))
    reached = []

    def cancel(kind, data):
        if kind == "progress" and data["max"] == steps:
            reached.append(data["value"])
            if data["value"] == 6:
                host.interrupt()

    run = host.follow(prompt, cancel)
    assert run.interrupted and not run.succeeded and run.error is None
    assert max(reached) < 20
    (path,) = set(saved(host, "recovered_*.safetensors")) - before
    done = int(read_metadata(path)["steps_done"])
    assert max(reached) <= done <= max(reached) + 1
    recovered, original = load_generator(path), load_generator("miniature")
    assert not all(
        torch.equal(a, b) for a, b in zip(recovered.state_dict().values(), original.state_dict().values(), strict=True)
    )
    assert f"output/stylegan/{path.name}" in host.log
    # The queue goes on as before.
    assert host.run(graphs.training(1, **{"train.seed": 6})).succeeded


def test_a_training_from_a_pool_goes_on_after_a_cancel_to_the_same_weights(host):
    def graph(name, **pools):
        graph = graphs.training(60, **pools, **{"train.seed": 31, "save.filename_prefix": name})
        graph["train"]["inputs"]["samples"] = 2 + (name == "broken")  # so that the host computes both
        return graph

    def cancel(kind, data):
        if kind == "progress" and data["max"] == 60 and data["value"] == 6:
            host.interrupt()

    pools = {"train.latent_pool": 3, "train.noise_pool": 2}
    assert host.run(graph("unbroken", **pools)).succeeded
    assert host.run(graph("broken", **pools), on_event=cancel).interrupted
    again = host.run(graph("broken", **pools))
    assert again.succeeded and min(value for value, most in again.progress if most == 60) > 5
    assert host.run(graph("new")).succeeded
    whole, broken, new = (load_file(saved(host, f"{name}_*")[-1]) for name in ("unbroken", "broken", "new"))
    assert all(torch.equal(value, broken[name]) for name, value in whole.items())
    assert any(not torch.equal(value, new[name]) for name, value in whole.items())


def trained(host, prefix, lora=None):
    graph = graphs.training(2, **{"save.filename_prefix": prefix})
    if lora is not None:
        graph["lora"] = {
            "class_type": "LoraLoaderModelOnly",
            "inputs": {"model": ["miniature", 0], "lora_name": "test.safetensors", "strength_model": lora},
        }
        graph["guidance"]["inputs"]["model"] = ["lora", 0]
    run = host.run(graph)
    assert run.succeeded, run.error
    return load_file(saved(host, f"{prefix}_*.safetensors")[-1])


def test_a_lora_on_the_model_changes_the_guidance(host):
    unet = load_file(WEIGHTS / "diffusion/unet/diffusion_pytorch_model.safetensors")
    weight = unet["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"]
    generator = torch.Generator().manual_seed(0)
    lora = {
        f"{LORA_KEY}.lora_up.weight": 0.2 * torch.randn(weight.shape[0], 4, generator=generator),
        f"{LORA_KEY}.lora_down.weight": 0.2 * torch.randn(4, weight.shape[1], generator=generator),
        f"{LORA_KEY}.alpha": torch.tensor(4.0),
    }
    (host.models / "loras").mkdir(exist_ok=True)
    save_file(lora, host.models / "loras" / "test.safetensors")
    plain, with_lora = trained(host, "plain"), trained(host, "lora", 1.0)
    off = trained(host, "off", 0.0)
    assert any(not torch.equal(plain[name], with_lora[name]) for name in plain)
    # The same seed gives the same weights, and the LoRA is gone again with its strength.
    assert all(torch.equal(plain[name], off[name]) for name in plain)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"layers.k": 12}, "Cannot select 12 layers: this generator has 9 synthesis convolutions"),
        (
            {"layers.mode": "list", "layers.layers": "1, 30"},
            "There is no layer 30: this generator's layers are numbered 0 to 8",
        ),
        ({"train.noise_pool": 4}, "set latent_pool, too"),
    ],
)
def test_input_that_cannot_work_gets_a_sentence(host, changes, sentence):
    run = host.run(graphs.training(1, **changes))
    assert not run.succeeded
    assert sentence in run.error["exception_message"]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"guidance.t_min": 0.6, "guidance.t_max": 0.5}, "The timestep range 0.6 to 0.5 is empty"),
        ({"guidance.t_max": 1.5}, "The timestep range 0.02 to 1.5 leaves the schedule"),
        ({"layers.mode": "list", "layers.layers": "1, two"}, "write for example 0-3, 6"),
        ({"layers.mode": "lists"}, "There is no mode 'lists'; choose from top k, list, all"),
        ({"train.also_train": "mapping"}, "There is no parameter group 'mapping'; choose from"),
    ],
)
def test_what_cannot_work_is_found_before_anything_runs(host, changes, sentence):
    with pytest.raises(PromptRejected, match=re.escape(sentence)):
        host.submit(graphs.training(1, **changes))


def test_an_option_that_is_not_there_is_named(host):
    """Before anything runs, or, where the host does not look at options, by the node."""
    try:
        said = host.run(graphs.training(1, **{"train.when_collapsed": "sleep"})).error["exception_message"]
    except PromptRejected as rejected:
        said = str(rejected)
    assert "sleep" in said


def test_what_comes_through_links_is_checked_when_it_is_there(host):
    graph = graphs.training(1, **{"guidance.t_min": ["t", 0]})
    graph["t"] = {"class_type": "PrimitiveFloat", "inputs": {"value": 0.9}}
    assert "The timestep range 0.9 to 0.8 is empty" in host.run(graph).error["exception_message"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("", ""), "The prompt is empty"),
        (("a portrait of a fox", "a portrait of a fox"), "The positive and the negative prompt are the same"),
        (("a portrait of a (werewolf:1.2)", ""), 'The miniature never learned "werewolf"'),
    ],
)
def test_what_is_odd_about_prompts_is_said_before_training(host, words, sentence):
    changes = {"positive.text": words[0], "negative.text": words[1], "train.panel": f"odd {words[0]}"}
    run = host.run(graphs.training(1, **changes))
    assert run.succeeded, run.error
    assert sentence in "".join(text for node, text in run.shown if node == "guidance")
    assert sentence in "".join(host.get(f"/stylegan_fusion/panels/{quote(changes['train.panel'])}")["warnings"])


def test_an_error_s_type_is_told_without_a_path(host):
    (host.models / "stylegan").mkdir(exist_ok=True)
    (host.models / "stylegan" / "no generator.safetensors").write_bytes(b"\0" * 64)
    error = host.run(load_and_sample("no generator.safetensors")).error
    assert error["exception_type"] == "stylegan_fusion.CheckpointError"


def test_placeholders_in_a_prefix_are_filled(host):
    graph = graphs.training(
        1, **{"save.filename_prefix": "%date%/fox_%Trainer.seed%_%StyleGANFusionSDSGuidance.t_max%"}
    )
    graph["train"]["_meta"] = {"title": "Trainer"}
    assert host.run(graph).succeeded
    assert (host.output / "stylegan" / date.today().isoformat() / "fox_1_0.8_00001.safetensors").exists()


@pytest.mark.parametrize("name", ["../../fox", "/fox", "C:/fox", "animals/", "Unfinished/fox"])
def test_a_name_to_save_under_is_refused_before_training(host, name):
    graph = graphs.training(1, **{"save.filename_prefix": name})
    for other in ("before", "after", "plot"):  # with these ComfyUI would run the rest and only show the error
        del graph[other]
    with pytest.raises(
        PromptRejected, match=r"leads out of the folder stylegan|names a folder|where unfinished trainings are kept"
    ):
        host.submit(graph)


def load_and_sample(name):
    return {
        "load": {"class_type": "StyleGANFusionLoadGenerator", "inputs": {"file": name}},
        "sample": {
            "class_type": "StyleGANFusionSampleGenerator",
            "inputs": {
                "generator": ["load", 0],
                "seed": 0,
                "count": 1,
                "truncation_psi": 1.0,
                "truncation_cutoff": 0,
                "noise": "const",
            },
        },
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["sample", 0]}},
    }


def test_a_truncated_file_gets_a_sentence(host):
    data = (WEIGHTS / "generator.safetensors").read_bytes()
    (host.models / "stylegan").mkdir(exist_ok=True)
    (host.models / "stylegan" / "cut.safetensors").write_bytes(data[: len(data) // 2])
    run = host.run(load_and_sample("cut.safetensors"))
    assert "cut.safetensors is damaged or incomplete" in run.error["exception_message"]
    assert "copy or download it again" in run.error["exception_message"]


@pytest.mark.parametrize("name", ["absent.safetensors", "../secret.safetensors", "output/../../secret.safetensors"])
def test_a_file_that_is_not_in_the_folders_is_refused(host, name):
    (host.base / "secret.safetensors").write_bytes((WEIGHTS / "generator.safetensors").read_bytes())
    with pytest.raises(PromptRejected, match=r"no generator file|leads out of the folder"):
        host.submit(load_and_sample(name))
