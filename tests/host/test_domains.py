"""Domains in the host: the same function as on diffusers, the host's own picture without them, learned and used by nodes."""

import json
from io import BytesIO

import graphs
import numpy as np
import pytest
import torch
from comfy_host import PromptRejected
from comfyui_stylegan_fusion.domain.files import load_domain, save_domain
from comfyui_stylegan_fusion.domain.images import Pictures
from comfyui_stylegan_fusion.domain.learning import learn_domain
from comfyui_stylegan_fusion.domain.on_diffusers import DomainPrior, TextFreeUNet
from comfyui_stylegan_fusion.domain.settings import DomainSettings
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.factors import sample_factors
from comfyui_stylegan_fusion.miniature.ink import render_ink
from comfyui_stylegan_fusion.miniature.train_diffusion import encoded
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, ExtraPrompt, StableDiffusion
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

TIMESTEPS = (0.1, 0.5, 0.9)
FOX, PERSON = "a portrait of a fox", "a portrait of a person"
REQUEST = {"prompt": FOX, "negative_prompt": PERSON, "domain_scale": 1.5, "text_scale": 2.0, "timesteps": TIMESTEPS}


@pytest.fixture(scope="module")
def model():
    return StableDiffusion.load(WEIGHTS / "diffusion", decoder=True)


@pytest.fixture(scope="module")
def latents(model):
    z = encoded(model.vae, sample_factors(4, torch.Generator().manual_seed(1), "person"), render_ink).contiguous()
    return {"z": z, "eps": torch.randn(z.shape, generator=torch.Generator().manual_seed(2))}


@pytest.fixture(scope="module")
def domain_file(model, latents, tmp_path_factory):
    """A domain that differs from the model as much as one that was learned for long."""
    score = TextFreeUNet.copied(model)
    removals = score.take_out_text(latents["z"])
    settings = DomainSettings(steps=4, batch_size=4, learning_rate=2e-3, average=0)
    learned = learn_domain(score, Pictures((latents["z"][:, None],), 64), settings)
    path = tmp_path_factory.mktemp("domain") / "ink.safetensors"
    save_domain(score.domain(removals, learned.weights, {}), path)
    return path


@pytest.fixture(scope="module")
def in_host(domain_file, latents, tmp_path_factory, run_in_host):
    place = tmp_path_factory.mktemp("in-host")
    save_file(latents, place / "given.safetensors")
    files = domain_file, place / "given.safetensors", place / "found.safetensors"
    run_in_host("domains_in_host.py", *files, json.dumps(REQUEST))
    with safe_open(place / "found.safetensors", "pt") as file:
        said = json.loads(file.metadata()["said"])
    return load_file(place / "found.safetensors") | {"said": said, "place": place}


def relative_error(a, b):
    return ((a - b).norm() / b.norm()).item()


def noisy(prior, latents, t):
    alpha, sigma = prior.schedule(t)
    return alpha * latents["z"] + sigma * latents["eps"]


@pytest.mark.parametrize("kind", ["both", "domain alone", "with extra"])
def test_the_guider_and_diffusers_compute_the_same(in_host, model, latents, domain_file, kind):
    copy = TextFreeUNet.of(model, load_domain(domain_file))
    prior = {
        "both": lambda: DomainPrior(model, FOX, PERSON, 2.0, copy, 1.5),
        "domain alone": lambda: DomainPrior(model, "", PERSON, 0.0, copy, 1.0),
        "with extra": lambda: DomainPrior(
            model, FOX, PERSON, 2.0, copy, 1.5, extra_prompts=[ExtraPrompt("hat", "a hat", -0.7)]
        ),
    }[kind]()
    for t in TIMESTEPS:
        z_t = noisy(prior, latents, t)
        assert relative_error(in_host[f"{kind} {t}"], prior.guided(z_t, t)) < 1e-5
        assert relative_error(in_host[f"{kind} {t} scaled"], prior.guided(z_t, t, 0.5)) < 1e-5
        assert relative_error(in_host[f"{kind} {t} both"], prior.guided(z_t, t)) < 1e-5


def test_the_copy_without_text_is_the_same_on_both_sides(in_host, model, latents):
    prior, score = DiffusersPrior(model, "", "", 1.0), TextFreeUNet.copied(model)
    score.take_out_text(latents["z"])
    for t in TIMESTEPS:
        z_t = noisy(prior, latents, t)
        assert relative_error(in_host[f"empty {t}"], prior.guided(z_t, t)) < 1e-5
        with torch.no_grad():
            assert relative_error(in_host[f"text-free {t}"], score.eps(z_t, t)) < 1e-4


def test_without_the_domain_the_picture_is_the_hosts_bit_for_bit(in_host):
    assert torch.equal(in_host["without domain"], in_host["host"])
    assert torch.equal(in_host["out of range"], in_host["host"])
    assert not torch.equal(in_host["with domain"], in_host["host"])
    assert not torch.equal(in_host["early"], in_host["with domain"])


def test_a_control_net_on_the_prompt_counts_beside_the_domain(in_host):
    """It is the untouched model's: the copy does not see it."""
    assert torch.equal(in_host["control without domain"], in_host["host with control"])
    assert not torch.equal(in_host["host with control"], in_host["host"])
    assert not torch.equal(in_host["control with domain"], in_host["with domain"])


def test_a_copy_learns_in_the_host_and_the_model_stays(in_host, model, latents):
    said = in_host["said"]
    assert said["the model stays"]
    for rank in (0, 2):
        copy = TextFreeUNet.of(model, load_domain(in_host["place"] / f"learned-{rank}.safetensors"))
        with torch.no_grad():
            assert relative_error(in_host[f"learned {rank}"], copy.eps(latents["z"], 0.4)) < 5e-3, "in half precision"


def test_families_learn_or_say_why_not(in_host):
    families = {
        name.removeprefix("family "): text for name, text in in_host["said"].items() if name.startswith("family ")
    }
    learned = {name: text.removeprefix("learned ") for name, text in families.items() if text.startswith("learned ")}
    wanted = {"SD 1.5", "SD 2.0", "SD 2.1 v-prediction", "SDXL", "SDXL v-prediction, zero terminal SNR", "SSD-1B"}
    assert wanted <= learned.keys()
    assert learned["SD 2.1 v-prediction"] == "velocity" and learned["SDXL"] == "noise"
    for name in families.keys() - learned.keys():
        assert families[name].startswith(("This MODEL learns no domain", "ValueError: The MODEL does not")), families[
            name
        ]
    assert {
        "Flux dev",
        "SD 1.5 inpainting",
        "Stable Video Diffusion",
        "PixArt alpha",
    } <= families.keys() - learned.keys()


def guided(domain, kind="StyleGANFusionDomainGuider", **changes):
    """Text to image through a guider."""
    inputs = {"model": ["miniature", 0], "positive": ["positive", 0], "negative": ["negative", 0]}
    if kind == "CFGGuider":
        inputs["cfg"] = 2.0
    else:
        inputs |= {"domain": domain, "domain_scale": 2.0, "text_scale": 2.0}
    graph = graphs.text_to_image(FOX, steps=4)
    graph["guider"] = {"class_type": kind, "inputs": {**inputs, **changes}}
    graph["noise"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 3}}
    graph["select"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}
    graph["sigmas"] = {
        "class_type": "BasicScheduler",
        "inputs": {"model": ["miniature", 0], "scheduler": "normal", "steps": 4, "denoise": 1.0},
    }
    graph["sampler"] = {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["noise", 0],
            "guider": ["guider", 0],
            "sampler": ["select", 0],
            "sigmas": ["sigmas", 0],
            "latent_image": ["empty", 0],
        },
    }
    return graph


def picture(host, graph):
    run = host.run(graph)
    assert run.succeeded, run.error
    (image,) = run.outputs["save"]["images"]

    return np.array(Image.open(BytesIO(host.view(image))))


LOAD = {"class_type": "StyleGANFusionLoadDomain", "inputs": {"model": ["miniature", 0], "file": "", "blend": 1.0}}


def load(file, **changes):
    return {**LOAD, "inputs": {**LOAD["inputs"], "file": file, **changes}}


@pytest.fixture(scope="module")
def learned(host, pictures):
    """The name of a domain that a graph has learned, and what the run said and left unfinished."""
    before = unfinished(host)
    run = host.run(graphs.learning())
    assert run.succeeded, run.error
    return "ink_00001.safetensors", run, unfinished(host) - before


def unfinished(host):
    return {*(host.output / "stylegan" / "unfinished").glob("domain-*")}


def test_a_graph_learns_a_domain_from_a_folder_and_saves_it(host, learned):
    name, run, left = learned
    domain = load_domain(host.models / "stylegan_domains" / name)
    assert domain.about["pictures"] == "6" and domain.about["steps_done"] == "3"
    assert f"Saved as models/stylegan_domains/{name}" in run.last_text("train")
    assert len(run.outputs["samples"]["images"]) == 12 and len(run.outputs["plot"]["images"]) == 1
    assert not left


def test_domain_guider_draws_as_cfg_guider_without_the_domain_and_otherwise_with_it(host, learned):
    name, *_ = learned

    def drawn(**changes):
        return picture(host, {**guided(["load", 0], **changes), "load": load(name)})

    without = picture(host, guided(None, "CFGGuider"))
    assert np.array_equal(drawn(domain_scale=0.0), without)
    assert not np.array_equal(drawn(), without)
    assert not np.array_equal(drawn(domain_end=0.4), drawn())


def test_a_domain_moves_a_generator_through_sds_guidance(host, learned):
    name, *_ = learned
    graph = {**graphs.training(2, **{"save.filename_prefix": "ink"}), "load": load(name)}
    given = {"model": ["miniature", 0], "domain": ["load", 0], "domain_scale": 5.0, "text_scale": 0.0}
    prompts = {"positive": ["positive", 0], "negative": ["negative", 0]}
    graph["guider"] = {"class_type": "StyleGANFusionDomainGuider", "inputs": given | prompts}
    for one in ("model", "positive", "negative"):
        del graph["guidance"]["inputs"][one]
    graph["guidance"]["inputs"]["guider"] = ["guider", 0]
    run = host.run(graph)
    assert run.succeeded, run.error


def test_a_cancelled_training_keeps_its_domain_and_goes_on(host, learned):
    whole = host.run(graphs.learning(name="uncut", seed=5, steps=6))
    assert whole.succeeded, whole.error
    graph = graphs.learning(name="cut", seed=5, steps=6)
    seen = []

    def cancel(kind, data):
        if kind == "progress" and data.get("value") == 3 and not seen:
            seen.append(True)
            host.interrupt()

    run = host.run(graph, on_event=cancel)
    assert run.interrupted and "The same graph goes on" in run.last_text("train")
    again = host.run(graph)
    assert again.succeeded and "went on from step" in "".join(again.texts)
    folder = host.models / "stylegan_domains"
    first, second = (load_domain(folder / f"cut_0000{n}.safetensors") for n in (1, 2))
    assert int(first.about["steps_done"]) < 6 == int(second.about["steps_done"])
    expected = load_domain(folder / "uncut_00001.safetensors").weights
    assert all(torch.equal(value, second.weights[name]) for name, value in expected.items())


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"folder": "(only images)"}, "has no pictures; link images, or choose a folder"),
        ({"image_size": 512}, "the model learns 512: it would learn to blur"),
        ({"folder": "broken"}, "cannot be read as a picture"),
        ({"folder": "few"}, "There are 2 pictures; a domain takes 3 or more"),
    ],
)
def test_pictures_that_cannot_be_learned_get_a_sentence(host, pictures, changes, sentence):
    for name, files in (("broken", ("0.png", "1.png", "2.png")), ("few", ("0.png", "1.png"))):
        folder = host.base / "input" / name
        folder.mkdir(exist_ok=True)
        for file in files:
            (folder / file).write_bytes((pictures / file).read_bytes()[: 200 if name == "broken" else None])
    run = host.run(graphs.learning(**changes))
    assert not run.succeeded and sentence in run.error["exception_message"]


@pytest.mark.parametrize(
    "node, sentence",
    [
        (load("../secret.safetensors"), "leads out of the folder"),
        (load("absent.safetensors"), "There is no domain"),
    ],
)
def test_files_that_are_not_there_are_said_before_the_graph_runs(host, node, sentence):
    with pytest.raises(PromptRejected, match=sentence):
        host.run({**guided(["load", 0]), "load": node})


def test_a_domain_of_another_model_is_refused(host, learned):
    name, *_ = learned
    folder = host.models / "stylegan_domains"
    with safe_open(folder / name, "pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    described = json.loads(metadata["domain"])
    for file, change in (("other", {"base": "1 2 3 4 5 6 7"}), ("xl", {"family": "SDXL"})):
        changed = {**metadata, "domain": json.dumps(described | change)}
        save_file(tensors, folder / f"{file}.safetensors", changed)
        host.object_info()  # the list of files is made anew
        run = host.run({**guided(["load", 0]), "load": load(f"{file}.safetensors")})
        assert not run.succeeded and "was learned with" in run.error["exception_message"]
