"""Every model type of ComfyUI against a closed form: where the data are Gaussian, the ideal noise prediction is known."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

TIMESTEPS = (0.02, 0.3, 0.8, 0.98)
DEVIATION, SCALE = 0.6, 7.5
PRESERVING = ("eps", "v", "v, zero terminal signal", "v, EDM schedule", "v, continuous", "EDM", "EDM, discrete")
TYPES = (*PRESERVING, "cascade", "cosmos", "flow", "flow of films", "flow, t in [0, 1]", "flow, large noise", "flux")

NATIVE_SIZES = {
    "SD15": 512,
    "SD20": 512,
    "SD20, v": 768,
    "SDXL": 1024,
    "SD3": 1024,
    "Flux": 1024,
    "QwenImage": 1024,
    "Stable_Cascade_C": 768,
    "HunyuanImage21": 2048,
}


@pytest.fixture(scope="module")
def given():
    generator = torch.Generator().manual_seed(0)
    return {
        "z": torch.randn(2, 4, 16, 24, generator=generator),
        "eps": torch.randn(2, 4, 16, 24, generator=generator),
        "mean": torch.randn(1, 4, 16, 24, generator=generator),
    }


@pytest.fixture(scope="module")
def in_host(given, tmp_path_factory, run_in_host):
    place = tmp_path_factory.mktemp("closed_form")
    save_file(given, place / "given.safetensors")
    request = {"timesteps": TIMESTEPS, "deviation": DEVIATION, "scale": SCALE, "families": list(NATIVE_SIZES)}
    files = place / "given.safetensors", place / "found.safetensors"
    run_in_host("closed_form_in_host.py", *files, json.dumps(request))
    with safe_open(place / "found.safetensors", "pt") as file:
        return load_file(place / "found.safetensors") | {"notes": file.metadata()}


def ideal_noise(z_t, alpha, sigma, mean):
    """eps* = sigma (z_t - alpha mu)/(alpha^2 s^2 + sigma^2)."""
    return sigma * (z_t - alpha * mean) / (alpha**2 * DEVIATION**2 + sigma**2)


def relative_error(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("t", TIMESTEPS)
@pytest.mark.parametrize("kind", TYPES)
def test_the_gradient_of_every_model_type_is_that_of_the_closed_form(in_host, given, kind, t):
    alpha, sigma = in_host[f"{kind} {t} schedule"].tolist()
    z, eps, mean = (given[name].double() for name in ("z", "eps", "mean"))
    weight = sigma**2 / max(1, alpha**2 + sigma**2)  # no larger than 1 where noise is scaled
    expected = weight * (ideal_noise(alpha * z + sigma * eps, alpha, sigma, mean) - eps)
    assert relative_error(in_host[f"{kind} {t} gradient"], expected) < 1e-3


@pytest.mark.parametrize("kind", TYPES)
def test_schedules_run_from_data_to_noise(in_host, kind):
    alphas, sigmas = torch.stack([in_host[f"{kind} {t} schedule"] for t in TIMESTEPS]).T
    assert (alphas.diff() < 0).all() and (sigmas.diff() > 0).all() and (alphas > 0).all() and (sigmas > 0).all()


@pytest.mark.parametrize("kind", (*PRESERVING, "cascade", "cosmos"))
def test_schedules_other_than_flows_preserve_variance(in_host, kind):
    for t in TIMESTEPS:
        assert in_host[f"{kind} {t} schedule"].square().sum().item() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("kind", ("flow", "flow of films", "flow, t in [0, 1]", "flux"))
def test_flows_lie_on_the_line_between_data_and_noise(in_host, kind):
    for t in TIMESTEPS:
        assert in_host[f"{kind} {t} schedule"].sum().item() == pytest.approx(1, rel=1e-6)


GUIDED = {  # what each prompt says, and the scale of its difference to another one's
    "text": lambda eps, k: eps(0) + k * SCALE * (eps(1) - eps(0)),
    "unguided": lambda eps, k: eps(0) + k * (eps(1) - eps(0)),
    "extras": lambda eps, k: (
        eps(0) + k * SCALE * (eps(1) - eps(0)) + k * 0.5 * (eps(3) - eps(0)) + k * 2.0 * (eps(-1) - eps(0))
    ),
    "extras at 1": lambda eps, k: eps(0) + k * (eps(1) - eps(0)) - k * 0.5 * (eps(3) - eps(0)),
    "basic": lambda eps, k: eps(1),
    "dual": lambda eps, k: eps(0) + k * 2 * SCALE * (eps(2) - eps(0)) + k * SCALE * (eps(1) - eps(2)),
}


@pytest.fixture(scope="module")
def noise_of(in_host, given):
    """eps* for a prompt that says a number."""
    alpha, sigma = in_host["guiders schedule"].tolist()
    return lambda value: ideal_noise(given["z"].double(), alpha, sigma, given["mean"].double() + value)


@pytest.mark.parametrize("name", GUIDED)
def test_guiders_weigh_their_prompts(in_host, noise_of, name):
    assert relative_error(in_host[f"{name} guided"], GUIDED[name](noise_of, 1)) < 1e-4


@pytest.mark.parametrize("name", [name for name in GUIDED if name != "basic"])
def test_all_scales_of_a_guider_can_be_multiplied_for_one_evaluation(in_host, noise_of, name):
    assert relative_error(in_host[f"{name} guided, scaled"], GUIDED[name](noise_of, 0.5)) < 1e-4
    assert torch.equal(in_host[f"{name} guided again"], in_host[f"{name} guided"])


def test_a_guider_without_a_scale_says_so(in_host):
    assert "guidance cannot be changed" in in_host["notes"]["basic scaled"]


def test_each_condition_is_given_by_its_name(in_host, noise_of):
    for name, value in {"unconditional": 0, "text": 1, "domain": 3, "style": -1}.items():
        assert relative_error(in_host[f"extras condition {name}"], noise_of(value)) < 1e-4


@pytest.mark.parametrize("name", GUIDED)
def test_the_users_guider_stays_as_it_is(in_host, name):
    assert in_host["notes"][f"{name} unchanged"] == "True"


def test_models_that_do_not_denoise_are_refused(in_host):
    refused = {name: said for name, said in in_host["notes"].items() if name.startswith("refused ")}
    assert refused and all("does not denoise" in said for said in refused.values())


def test_shapes_that_do_not_fit_get_a_sentence_and_keep_their_cause(in_host):
    assert "The MODEL cannot work with this CONDITIONING" in in_host["notes"]["misfit"]
    assert in_host["notes"]["misfit"].endswith("/ RuntimeError")


def test_the_host_makes_room_for_our_stages_too(in_host):
    notes = {name: json.loads(value) for name, value in in_host["notes"].items() if name[:5] in ("asked", "evalu")}
    evaluation = notes["evaluation"]  # of both prompts
    assert notes["asked"] == pytest.approx([evaluation, evaluation + 10**9, 10**12 + 10**9])
    assert notes["asked at least"] == pytest.approx([evaluation / 2, evaluation / 2 + 10**9, 10**12 + 10**9])
    assert notes["evaluation afterwards"] == evaluation


@pytest.mark.parametrize("family", NATIVE_SIZES)
def test_images_have_the_size_that_the_family_was_made_for(in_host, family):
    assert int(in_host["notes"][f"size {family}"]) == NATIVE_SIZES[family]
