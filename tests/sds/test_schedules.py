"""Timestep schedules, weightings and the guidance scale over a training."""

import math

import pytest
import torch
from comfyui_stylegan_fusion.sds import TIMESTEP_SCHEDULES, WEIGHTINGS, TrainSettings, train_generator
from comfyui_stylegan_fusion.sds.draws import draw_timestep
from comfyui_stylegan_fusion.sds.objective import Objective
from comfyui_stylegan_fusion.sds.schedules import timestep_weight
from comfyui_stylegan_fusion.sds.terms import ScoreDistillation
from comfyui_stylegan_fusion.training.draws import MicroStep

STEPS = 400


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def settings(**changes):
    return TrainSettings(**{"steps": STEPS, "t_min": 0.1, "t_max": 0.7, "diversity_samples": 2, **changes})


def timestep(settings, step, index=0):
    return draw_timestep(MicroStep(settings.seed, step, index), settings)


def timesteps(name):
    return [timestep(settings(timestep_schedule=name), step) for step in range(STEPS)]


def sds_gradient(prior, z, t, eps, weighting):
    objective = Objective(prior, [ScoreDistillation()], None, None, weighting=weighting)
    return objective.latent_gradient(objective.view(z, None, t, eps))[0]


@pytest.mark.parametrize("name", TIMESTEP_SCHEDULES)
def test_every_schedule_stays_in_the_range_and_uses_it(name):
    ts = timesteps(name)
    assert 0.1 <= min(ts) < 0.12 and 0.65 < max(ts) <= 0.7


def test_uniform_timesteps_do_not_change_over_a_training():
    ts = timesteps("uniform")
    assert sum(ts[:200]) / 200 == pytest.approx(sum(ts[200:]) / 200, abs=0.05)


def test_annealed_timesteps_are_uniform_below_an_end_that_falls():
    ts = timesteps("annealed")
    for step, t in enumerate(ts):
        assert t <= 0.7 - 0.6 * step / STEPS
    assert sum(ts[:50]) / 50 == pytest.approx(0.1 + 0.3 * (1 - 25 / STEPS), abs=0.05)


@pytest.mark.parametrize("name, expected", [("linear", 0.7 - 0.6 * 0.25), ("sqrt", 0.7 - 0.6 * 0.5)])
def test_linear_and_sqrt_go_down_by_their_formula(name, expected):
    ts = timesteps(name)
    assert ts == sorted(ts, reverse=True)
    assert ts[STEPS // 4] == pytest.approx(expected)


def test_a_schedule_is_a_function_of_seed_and_step():
    assert timesteps("annealed") == timesteps("annealed")
    other = settings(timestep_schedule="annealed", seed=1)
    assert timestep(other, 5) != timesteps("annealed")[5]


def test_batches_of_a_step_have_timesteps_of_their_own():
    assert timestep(settings(), 3, 0) != timestep(settings(), 3, 1)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_multiplies_each_terms_gradient(prior, name):
    t, z, eps = 0.4, torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    alpha, sigma = prior.schedule(t)
    plain = sds_gradient(prior, z, t, eps, "uniform")
    weighted = sds_gradient(prior, z, t, eps, name)
    expected = {"sds": sigma**2, "uniform": 1.0, "fantasia3d": alpha * sigma**2, "x0": sigma / alpha}
    torch.testing.assert_close(weighted, plain * expected[name])


def test_x0_weighting_gives_the_difference_of_the_clean_latents(prior):
    t, z, eps = 0.4, torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    alpha, sigma = prior.schedule(t)
    z_t = alpha * z + sigma * eps
    denoised = (z_t - sigma * prior.guided(z_t, t)) / alpha
    gradient = sds_gradient(prior, z, t, eps, "x0")
    torch.testing.assert_close(gradient, z - denoised)


def test_the_guidance_scale_changes_linearly_over_a_training(generator, prior):
    seen, guided = [], prior.guided
    prior.guided = lambda z_t, t, scaling: seen.append(scaling) or guided(z_t, t)
    train_generator(generator, prior, settings(steps=5, guidance_end=0.2))
    assert seen == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    seen.clear()
    train_generator(generator, prior, settings(steps=2))
    assert seen == [1.0, 1.0]


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"timestep_schedule": "random"}, "There is no timestep_schedule 'random'; choose from uniform, annealed"),
        ({"weighting": "snr"}, "There is no weighting 'snr'; choose from sds, uniform"),
        ({"guidance_end": math.nan}, "guidance_end is nan"),
        ({"guidance_end": -1.0}, "guidance_end is -1.0"),
        ({"accumulation": 0}, "accumulation is 0; it must be at least 1"),
        ({"collapse_threshold": 1.5}, "collapse threshold is 1.5; give a share"),
    ],
)
def test_names_and_numbers_that_make_no_sense_are_named(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        settings(**change)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_scaled_noise_leaves_weights_where_they_belong(name):
    alpha, sigma = 0.25, 6.0  # a flow model at t 0.75 whose noise is 8 times as large
    radius = math.hypot(alpha, sigma)
    assert timestep_weight(name, alpha, sigma) == pytest.approx(timestep_weight(name, alpha / radius, sigma / radius))
    assert timestep_weight("sds", alpha, sigma) < 1
    assert timestep_weight("sds", 0.3, 0.7) == 0.7**2  # a flow model's own sigma, below that circle
