"""The prior inside ComfyUI and the one on diffusers compute the same function of the miniature's weights."""

import json

import pytest
import torch
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.factors import sample_factors
from comfyui_stylegan_fusion.miniature.heads import CONFIG as HEADS
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.sds import ScoreDistillation
from comfyui_stylegan_fusion.sds.objective import Objective
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.sds.views import seen_from
from comfyui_stylegan_fusion.stylegan import turned
from safetensors import safe_open
from safetensors.torch import load_file, save_file

TIMESTEPS = (0.02, 0.3, 0.8, 1.0)
REQUEST = {
    "prompt": "a portrait of a fox, smiling",
    "side_prompt": "a portrait of a fox, smiling, from the side",
    "negative_prompt": "a person",
    "guidance_scale": 7.5,
    "timesteps": TIMESTEPS,
}


@pytest.fixture(scope="module")
def given():
    generator = torch.Generator().manual_seed(0)
    return {
        "images": render(sample_factors(3, generator)),
        "z_t": torch.randn(3, 4, 16, 16, generator=generator),
        "eps": torch.randn(3, 4, 16, 16, generator=generator),
        "cameras": turned(HEADS, [0.0, 40.0, -90.0]),
    }


@pytest.fixture(scope="module")
def in_host(given, tmp_path_factory, run_in_host):
    place = tmp_path_factory.mktemp("prior")
    save_file(given, place / "given.safetensors")
    files = place / "given.safetensors", place / "found.safetensors"
    run_in_host("prior_in_host.py", *files, json.dumps(REQUEST))
    with safe_open(place / "found.safetensors", "pt") as file:
        return load_file(place / "found.safetensors") | {"notes": file.metadata()}


@pytest.fixture(scope="module")
def prior():
    model = StableDiffusion.load(WEIGHTS / "diffusion")
    return DiffusersPrior(model, REQUEST["prompt"], REQUEST["negative_prompt"], REQUEST["guidance_scale"])


def relative_error(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("t", TIMESTEPS)
def test_both_priors_agree_on_each_noise_prediction(in_host, prior, given, t):
    assert in_host[f"{t} schedule"].tolist() == pytest.approx(prior.schedule(t), rel=1e-5)
    for name, eps in prior.conditions(given["z_t"], t).items():
        assert relative_error(in_host[f"{t} {name}"], eps) < 1e-4, name
    assert relative_error(in_host[f"{t} guided"], prior.guided(given["z_t"], t)) < 1e-4


@pytest.mark.parametrize("t", TIMESTEPS)
def test_both_priors_agree_on_the_unclamped_gradient(in_host, prior, given, t):
    z = prior.encode(given["images"])
    assert relative_error(in_host["z"], z) < 1e-4
    objective = Objective(prior, [ScoreDistillation()], gradient_clamp=None, image_clamp_quantile=None)
    gradient, _ = objective.latent_gradient(objective.view(z, None, t, given["eps"]))
    assert relative_error(in_host[f"{t} gradient"], gradient) < 1e-4


@pytest.mark.parametrize("t", TIMESTEPS)
def test_the_guided_prediction_and_its_parts_come_from_one_evaluation(in_host, t):
    assert in_host[f"{t} evaluations"] == 1
    for name in ("", " unconditional", " text"):
        torch.testing.assert_close(in_host[f"{t} both{name}"], in_host[f"{t}{name or ' guided'}"], rtol=0, atol=1e-6)


def test_both_priors_send_the_same_gradient_to_the_image(in_host, prior, given):
    images = given["images"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.encode(images), images, given["eps"])
    assert relative_error(in_host["image gradient"], gradient) < 1e-4


@pytest.mark.parametrize("t", TIMESTEPS)
def test_both_priors_agree_on_prompts_of_views(in_host, prior, given, t):
    """And with nothing said of cameras, the prompt alone counts."""
    given_to = prior.model, REQUEST["prompt"], REQUEST["negative_prompt"], REQUEST["guidance_scale"]
    sided = DiffusersPrior(*given_to, view_prompts={"side": REQUEST["side_prompt"]})
    guided, parts = seen_from(sided, given["cameras"]).guided_and_conditions(given["z_t"], t)
    for name, eps in {"sides": guided, "sides both": guided, **{f"sides {n}": e for n, e in parts.items()}}.items():
        assert relative_error(in_host[f"{t} {name}"], eps) < 1e-4, name
    assert relative_error(in_host[f"{t} front"], in_host[f"{t} guided"]) < 1e-6
    assert relative_error(guided, in_host[f"{t} guided"]) > 1e-3


def test_the_conditions_differ_so_that_agreement_means_something(in_host):
    assert relative_error(in_host["0.8 text"], in_host["0.8 unconditional"]) > 1e-3


def test_training_uses_the_unet_that_is_already_loaded(in_host):
    assert in_host["same_unet"]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_run_stays_in_memory(in_host, fails):
    assert in_host["notes"][f"stayed {fails}"] == "0"


@pytest.mark.parametrize(
    "part, sentence",
    [
        (
            "conditioning",
            "The CONDITIONING has width 768, but the MODEL reads 128: they belong to different model families",
        ),
        (
            "negative",
            "The CONDITIONING has width 768, but the MODEL reads 128: they belong to different model families",
        ),
        ("vae", "The VAE makes latents of 16 channels, but the MODEL works on 4"),
        ("scale", "The guidance scale is nan; give 0 or more"),
        ("size", "has to be a multiple of 4, such as 72"),
    ],
)
def test_parts_that_do_not_belong_together_get_a_sentence(in_host, part, sentence):
    assert sentence in in_host["notes"][part]


def test_prompts_and_scales_are_told_apart_by_a_few_numbers(in_host):
    notes = in_host["notes"]
    itself = notes["fingerprint of itself"]
    assert notes["fingerprint of encoded again"] == itself
    others = [notes[f"fingerprint of {what}"] for what in ("other words", "other strength", "other scale", "a side")]
    assert len({itself, *others}) == 5
