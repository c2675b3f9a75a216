"""The gradient of a step against plain autograd and the written formula."""

import pytest
import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.sds import DirectionalRegularizer, ReconstructionRegularizer, ScoreDistillation
from comfyui_stylegan_fusion.sds.objective import Batch, NonFiniteGradient, Objective, Reference, prior_input
from comfyui_stylegan_fusion.stylegan import Draw

T = 0.4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def objective(prior, regularizers=(), gradient_clamp=None, image_clamp_quantile=None):
    return Objective(prior, [ScoreDistillation(), *regularizers], gradient_clamp, image_clamp_quantile)


def latent_gradient(objective, z, z0, eps):
    return objective.latent_gradient(objective.view(z, z0, T, eps))


def batch_of(ws, eps):
    return Batch(Draw(ws), [T], lambda *_: eps)


def written_out(prior, z, z0, eps, directional, reconstruction, limit):
    """The gradient as the method states it, one sample at a time."""
    alpha, sigma = prior.schedule(T)
    rows = []
    for i in range(len(z)):
        z_t = alpha * z[i] + sigma * eps[i]
        eps_hat = prior.guided(z_t[None], T)[0]
        eps_hat_frozen = prior.guided((alpha * z0[i] + sigma * eps[i])[None], T)[0]
        leaf = eps_hat.clone().requires_grad_()
        (e_rec,) = torch.autograd.grad(F.mse_loss((z_t - sigma * leaf) / alpha, z0[i]), leaf)
        r = z[i].numel() ** 0.5
        g_sds = sigma**2 * (eps_hat - eps[i])
        g_dir = r * (eps_hat / eps_hat.norm() - eps_hat_frozen / eps_hat_frozen.norm())
        g_rec = r * (eps_hat / eps_hat.norm() - e_rec / e_rec.norm())
        terms = [g_sds, directional * sigma**2 * g_dir, reconstruction * sigma**2 * g_rec]
        rows.append(sum(term.clamp(-limit, limit) for term in terms))
    return torch.stack(rows)


@pytest.mark.parametrize("limit", [None, 0.2])
def test_latent_gradient_is_the_written_formula(prior, limit):
    z, z0, eps = normal(3, 4, 8, 8), normal(3, 4, 8, 8, seed=1), normal(3, 4, 8, 8, seed=2)
    regularizers = [DirectionalRegularizer(0.7), ReconstructionRegularizer(0.3)]
    g, losses = latent_gradient(objective(prior, regularizers, gradient_clamp=limit), z, z0, eps)
    torch.testing.assert_close(g, written_out(prior, z, z0, eps, 0.7, 0.3, limit or float("inf")))
    assert list(losses) == ["sds", "directional", "reconstruction"]


def test_losses_are_mean_squared_differences(prior):
    z, z0, eps = normal(2, 4, 8, 8), normal(2, 4, 8, 8, seed=1), normal(2, 4, 8, 8, seed=2)
    _, losses = latent_gradient(objective(prior, [DirectionalRegularizer(0.1)], gradient_clamp=0.01), z, z0, eps)
    alpha, sigma = prior.schedule(T)
    eps_hat = prior.guided(alpha * z + sigma * eps, T)
    frozen = prior.guided(alpha * z0 + sigma * eps, T)
    assert losses["sds"] == pytest.approx(F.mse_loss(eps_hat, eps).item())
    # mean |difference|^2 of two vectors of norm sqrt(n) is 2 - 2 cos
    cosine = torch.cosine_similarity(eps_hat.flatten(1), frozen.flatten(1)).mean()
    assert losses["directional"] == pytest.approx((2 - 2 * cosine).item(), rel=1e-4)


@pytest.mark.parametrize(
    ("regularizers", "rows_per_sample"),
    [
        ([], 1),
        ([ReconstructionRegularizer()], 1),
        ([DirectionalRegularizer()], 2),
        ([DirectionalRegularizer(), ReconstructionRegularizer()], 2),
    ],
)
def test_the_prior_is_evaluated_once_and_only_for_the_rows_that_count(prior, regularizers, rows_per_sample):
    z = normal(3, 4, 8, 8)
    latent_gradient(objective(prior, regularizers), z, z + 0.1, normal(3, 4, 8, 8, seed=1))
    assert prior.calls == [(3 * rows_per_sample, T)]


def test_frozen_images_are_only_made_for_regularizers_that_need_them(generator, prior):
    ws = generator.mapping(normal(2, 16)).detach()
    assert objective(prior).reference(generator, Draw(ws)) == Reference(None, None)
    reference = objective(prior, [ReconstructionRegularizer()]).reference(generator, Draw(ws))
    assert reference.latents.shape == (2, 4, 8, 8) and reference.images is None
    assert not reference.latents.requires_grad


def weight_of(generator):
    return generator.synthesis.layers[3].weight.requires_grad_()


def test_generator_gradients_are_those_of_a_surrogate_loss(generator, prior):
    ws, eps = generator.mapping(normal(3, 16)).detach(), normal(3, 4, 8, 8, seed=1)
    weight = weight_of(generator)
    gradients, _ = objective(prior).gradients(generator, batch_of(ws, eps), Reference(), [weight])
    z = prior.encode(prior_input(generator.synthesis(Draw(ws), noise="const"), 16))
    alpha, sigma = prior.schedule(T)
    g = sigma**2 * (prior.guided(alpha * z + sigma * eps, T) - eps).detach()
    (expected,) = torch.autograd.grad((g * z).sum() / 3, weight)
    torch.testing.assert_close(gradients[0], expected)


def test_image_gradient_is_clamped_per_sample_at_its_quantile(generator, prior):
    ws, eps = generator.mapping(normal(2, 16)).detach(), normal(2, 4, 8, 8, seed=1)
    weight = weight_of(generator)
    gradients, _ = objective(prior, image_clamp_quantile=0.6).gradients(
        generator, batch_of(ws, eps), Reference(), [weight]
    )
    images = prior_input(generator.synthesis(Draw(ws), noise="const"), 16)
    leaf = images.detach().requires_grad_()
    z = prior.encode(leaf)
    alpha, sigma = prior.schedule(T)
    g = sigma**2 * (prior.guided(alpha * z + sigma * eps, T) - eps).detach()
    (image_gradient,) = torch.autograd.grad((g * z).sum() / 2, leaf)
    for sample in image_gradient:
        limit = sample.abs().flatten().sort().values[round(0.6 * (sample.numel() - 1))]
        sample.clamp_(-limit, limit)
    (expected,) = torch.autograd.grad((images * image_gradient).sum(), weight)
    torch.testing.assert_close(gradients[0], expected, rtol=1e-3, atol=1e-6)


def test_batch_size_leaves_the_size_of_the_gradient_alone(generator, prior):
    ws, eps = generator.mapping(normal(1, 16)).detach(), normal(1, 4, 8, 8, seed=1)
    weight = weight_of(generator)
    target = objective(prior, gradient_clamp=1.0, image_clamp_quantile=0.95)
    one, _ = target.gradients(generator, batch_of(ws, eps), Reference(), [weight])
    batch = batch_of(ws.expand(4, -1, -1), eps.expand(4, -1, -1, -1))
    four, _ = target.gradients(generator, batch, Reference(), [weight])
    torch.testing.assert_close(one[0], four[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "height, width, expected",
    [(384, 512, (384, 512)), (512, 384, (512, 384)), (192, 256, (384, 512)), (10, 512, (64, 512))],
)
def test_prior_images_that_are_not_square_keep_their_shape(height, width, expected):
    assert prior_input(torch.zeros(1, 3, height, width), 512).shape[-2:] == expected


def test_prior_images_are_resized_bilinearly_and_clamped():
    images = torch.zeros(1, 3, 4, 4)
    images[..., 0] = 8.0
    images[..., 1] = -4.0
    small = prior_input(images, 2)  # halving bilinearly is the mean of 2x2 pixels
    assert small.shape == (1, 3, 2, 2)
    torch.testing.assert_close(small[0, 0], torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_prediction_that_is_not_finite_is_noticed_before_any_clamp(prior, value):
    prior.faults = {0: value}
    z = normal(2, 4, 8, 8)
    with pytest.raises(NonFiniteGradient, match="noise prediction"):
        latent_gradient(objective(prior, gradient_clamp=1.0), z, None, z)


def test_an_image_gradient_that_is_not_finite_is_noticed_before_any_clamp(generator, prior):
    ws = generator.mapping(normal(1, 16)).detach()
    encode = prior.encode
    # The square root of 0 has an infinite slope.
    prior.encode = lambda images, recompute: (
        encode(images) + (images[:, :1, :8, :8] - images[:, :1, :8, :8].detach()).sqrt()
    )
    with pytest.raises(NonFiniteGradient, match="reaches the image"):
        objective(prior, image_clamp_quantile=0.95).gradients(
            generator, Batch(Draw(ws), [T], lambda shape, place: torch.ones(shape)), Reference(), [weight_of(generator)]
        )


def test_several_timesteps_give_the_mean_of_what_each_gives(generator, prior):
    ws, weight = normal(2, generator.num_ws, generator.w_dim), weight_of(generator)
    target = objective(prior, [DirectionalRegularizer(0.7)], gradient_clamp=0.2)
    reference = target.reference(generator, Draw(ws + 0.5))
    noises = [normal(2, 4, 8, 8, seed=seed) for seed in (7, 8)]

    def gradient(timesteps, drawn):
        drawn = iter(drawn)
        batch = Batch(Draw(ws), timesteps, lambda *_: next(drawn), later=timesteps)
        return target.gradients(generator, batch, reference, [weight], micro_batch=1)

    (both,), losses = gradient([0.3, 0.6], noises)
    (first,), of_first = gradient([0.3], noises[:1])
    (second,), of_second = gradient([0.6], noises[1:])
    torch.testing.assert_close(both, (first + second) / 2)
    assert losses["sds"] == pytest.approx((of_first["sds"] + of_second["sds"]) / 2)
