"""What users hang on MODEL and CONDITIONING, or put in their place, changes the gradient as it changes sampling."""

import json

import pytest
import torch
from safetensors import safe_open

# Timesteps go up and down, as in training: 0 = clean, 1 = pure noise. Sampling starts at 1, so the first half of its
# schedule is above 0.5. No two runs meet at one timestep: there the host takes the first keyframe of a schedule.
SIZES, AT_ANY_TIME, IN_TIME = ("16x16", "16x12"), (0.7, 0.3), (0.3, 0.7, 0.1, 0.9, 0.3)

MODELS = (
    "LoRA",
    "DreamBooth checkpoint",
    "merged checkpoint",
    "FreeU",
    "perturbed attention",
    "self-attention guidance",
    "rescaled CFG",
    "projected guidance",
    "token merging",
    "tiled attention",
    "attention multiplied",
    "v-prediction",
    "zero terminal SNR",
    "functions of another pack",
    "wrapper of another pack",
)
CONDITIONINGS = (
    "long prompt",
    "long prompt, other end",
    "weighted words",
    "combined prompts",
    "concatenated prompts",
    "averaged prompts",
    "area in pixels",
    "area in percent",
    "mask",
    "LoRA on the conditioning",
    "ControlNet",
    "two ControlNets",
    "further conditions",
)
GUIDERS = (
    "CFG guider",
    "basic guider",
    "dual CFG guider",
    "nested dual CFG guider",
    "perpendicular negative guider",
    "dual model guider",
    "guider of another pack",
    "guider with a LoRA and a ControlNet",
)
FIRST_HALF = ("prompt schedule", "LoRA schedule", "LoRA schedule of the text encoder", "ControlNet, first half")
# Made to skip steps of one image's sampling that differ little from the one before: training has no such steps.
NEVER = ("cached predictions", "cached guidance")
VARIANTS = (*MODELS, *CONDITIONINGS, *GUIDERS, *FIRST_HALF, *NEVER)


def timesteps(name):
    if name in (*FIRST_HALF, *NEVER):
        return {"16x16": IN_TIME, "16x12": (0.1, 0.7)}
    return {"16x16": AT_ANY_TIME, "16x12": AT_ANY_TIME[:1]}


def acts(name, t):
    return name not in NEVER and (name not in FIRST_HALF or t > 0.5)


@pytest.fixture(scope="module")
def in_host(tmp_path_factory, run_in_host):
    place = tmp_path_factory.mktemp("variants")
    everything = {"plain": {size: sorted(set(IN_TIME)) for size in SIZES}}
    request = json.dumps(everything | {name: timesteps(name) for name in VARIANTS})
    run_in_host("variants_in_host.py", place, place / "found.safetensors", request)
    with safe_open(place / "found.safetensors", "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return found | {"lacking": json.loads(file.metadata()["lacking"])}


def relative_error(a, b):
    return ((a - b).norm() / b.norm()).item()


def gradients(in_host, name, size, t):
    """The gradient of the project, and by hand w_t (eps_hat - eps) of what the host samples, w_t = sigma_t^2."""
    if name in in_host["lacking"]:
        pytest.skip("this ComfyUI has no such node")
    key = f"{name}/{size}/{t}"
    host_sigma = in_host[f"{key}/sigma"]  # sigma_t / alpha_t
    weight = host_sigma**2 / (1 + host_sigma**2)
    return in_host[f"{key}/gradient"], weight * (in_host[f"{key}/sampled"] - in_host[f"eps/{size}"])


@pytest.mark.parametrize("name", VARIANTS)
def test_the_gradient_changes_as_sampling_changes(in_host, name):
    for size, times in timesteps(name).items():
        for t in times:
            gradient, by_hand = gradients(in_host, name, size, t)
            plain, plain_by_hand = gradients(in_host, "plain", size, t)
            assert relative_error(gradient, by_hand) < 1e-4, (size, t)
            if acts(name, t):
                assert relative_error(by_hand, plain_by_hand) > 1e-3, (size, t)
                assert relative_error(gradient - plain, by_hand - plain_by_hand) < 1e-2, (size, t)
            else:
                assert relative_error(gradient, plain) < 1e-5, (size, t)


@pytest.mark.parametrize("name", VARIANTS)
def test_it_leaves_no_trace(in_host, name):
    """The plain model, and the host's sampling, are bit for bit what they were."""
    size, t = SIZES[0], timesteps(name)[SIZES[0]][0]
    gradients(in_host, name, size, t)
    for now, before in (
        (f"plain after {name}/{size}/{t}/gradient", f"plain/{size}/{t}/gradient"),
        (f"{name}, after/{size}/{t}/sampled", f"{name}/{size}/{t}/sampled"),
    ):
        assert torch.equal(in_host[now], in_host[before]), now


@pytest.mark.parametrize("size", SIZES)
def test_long_prompts_count_to_their_last_words(in_host, size):
    assert in_host["length of the long prompt"] > 4 * 77
    t = timesteps("long prompt")[size][0]
    gradient, by_hand = gradients(in_host, "long prompt", size, t)
    other, other_by_hand = gradients(in_host, "long prompt, other end", size, t)
    assert relative_error(other_by_hand, by_hand) > 1e-3
    assert relative_error(other - gradient, other_by_hand - by_hand) < 1e-2


def test_a_lora_counts_the_same_on_the_conditioning_as_on_the_model(in_host):
    for t in AT_ANY_TIME:
        on_model, _ = gradients(in_host, "LoRA", "16x16", t)
        on_conditioning, _ = gradients(in_host, "LoRA on the conditioning", "16x16", t)
        assert relative_error(on_conditioning, on_model) < 1e-4
