"""The equations of the method against independent computations."""

import math

import pytest
import torch
from comfyui_stylegan_fusion.sds import equations, timestep_index

ALPHA, SIGMA = 0.8, 0.6


def latents(seed, batch=3):
    return torch.randn(batch, 4, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_noise_and_denoise_are_inverse():
    z, eps = latents(0), latents(1)
    z_t = equations.add_noise(z, eps, ALPHA, SIGMA)
    torch.testing.assert_close(equations.denoise(z_t, eps, ALPHA, SIGMA), z)
    torch.testing.assert_close(equations.eps_from_denoised(z_t, z, ALPHA, SIGMA), eps)


def test_velocity_gives_the_noise_it_was_made_of():
    z, eps = latents(0), latents(1)
    velocity = ALPHA * eps - SIGMA * z
    z_t = equations.add_noise(z, eps, ALPHA, SIGMA)
    torch.testing.assert_close(equations.eps_from_velocity(z_t, velocity, ALPHA, SIGMA), eps)


def test_guidance_with_one_condition_is_equation_4():
    eps_u, eps_text = latents(0), latents(1)
    expected = (1 - 7.5) * eps_u + 7.5 * eps_text
    torch.testing.assert_close(equations.guide({"unconditional": eps_u, "text": eps_text}, {"text": 7.5}), expected)


def test_guidance_adds_the_pull_of_every_condition():
    eps_u, eps_a, eps_b = latents(0), latents(1), latents(2)
    expected = -2 * eps_u + 2 * eps_a + eps_b
    named = {"unconditional": eps_u, "text": eps_a, "domain": eps_b, "unused": latents(3)}
    torch.testing.assert_close(equations.guide(named, {"text": 2.0, "domain": 1.0}), expected)


def test_sds_gradient_is_that_of_the_weighted_denoising_error_without_the_models_jacobian():
    z, eps = latents(0).requires_grad_(), latents(1)
    eps_hat = latents(2)
    loss = SIGMA**2 * ((eps_hat - eps) * z).sum()
    torch.testing.assert_close(SIGMA**2 * equations.score_difference(eps_hat, eps), torch.autograd.grad(loss, z)[0])


def test_directional_gradient_is_zero_when_both_generators_agree():
    eps_hat = latents(0)
    assert equations.directional_gradient(eps_hat, eps_hat.clone()).abs().max() == 0
    assert equations.directional_gradient(eps_hat, 3 * eps_hat).abs().max() < 1e-12  # only the direction counts


def test_directional_gradient_compares_each_sample_on_a_sphere_of_radius_sqrt_n():
    train, frozen = latents(0), latents(1)
    gradient = equations.directional_gradient(train, frozen)
    for i in range(3):
        cosine = torch.cosine_similarity(train[i].flatten(), frozen[i].flatten(), dim=0)
        expected = 4 * 5 * 6 * (2 - 2 * cosine)  # squared chord
        torch.testing.assert_close(gradient[i].square().sum(), expected)


def test_reconstruction_score_is_the_autograd_gradient_of_the_reconstruction_loss():
    z_t, z0, eps_hat = latents(0), latents(1), latents(2).requires_grad_()
    estimate = (z_t - SIGMA * eps_hat) / ALPHA
    loss = sum(torch.nn.functional.mse_loss(estimate[i], z0[i]) for i in range(3))
    expected = torch.autograd.grad(loss, eps_hat)[0]
    actual = equations.reconstruction_score(z_t, eps_hat.detach(), z0, ALPHA, SIGMA)
    torch.testing.assert_close(actual, expected)


def test_reconstruction_gradient_vanishes_when_the_prediction_points_along_its_score():
    z_t, z0 = latents(0), torch.zeros(3, 4, 5, 6, dtype=torch.float64)
    eps_hat = -0.5 * z_t  # then zhat_0 is a positive multiple of z_t, and e_rec a negative one
    assert equations.reconstruction_gradient(z_t, eps_hat, z0, ALPHA, SIGMA).abs().max() < 1e-12


def test_vanishing_norms_give_finite_gradients():
    zero, some = torch.zeros(2, 4, 5, 6), latents(1, batch=2).float()
    assert equations.directional_gradient(zero, zero).abs().max() == 0
    assert torch.isfinite(equations.directional_gradient(zero, some)).all()
    perfect = equations.denoise(some, zero, ALPHA, SIGMA)
    assert equations.reconstruction_gradient(some, zero, perfect, ALPHA, SIGMA).abs().max() == 0


def test_quantile_clamp_looks_at_each_sample_by_itself():
    gradient = torch.stack([torch.arange(-100.0, 101.0), 0.01 * torch.arange(-100.0, 101.0)]).view(2, 3, 67, 1)
    clamped = equations.clamp_to_quantile(gradient, 0.5)
    torch.testing.assert_close(clamped.abs().amax((1, 2, 3)), torch.tensor([50.0, 0.5]))
    torch.testing.assert_close(clamped[0], gradient[0].clamp(-50, 50))


@pytest.mark.parametrize(("t", "index"), [(0.0, 0), (1.0, 999), (0.3, 300), (0.5, 500), (0.0005, 0), (0.0006, 1)])
def test_timesteps_snap_to_the_nearest_index(t, index):
    assert timestep_index(t, 1000) == index


@pytest.mark.parametrize("t", [-0.01, 1.01, math.nan])
def test_timesteps_outside_the_schedule_are_named(t):
    with pytest.raises(ValueError, match=f"timestep {t} is outside the schedule"):
        timestep_index(t, 1000)
