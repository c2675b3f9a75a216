"""CSD: score distillation without its noise."""

import pytest
import torch
from comfyui_stylegan_fusion.sds import TERMS, DirectionalRegularizer, ScoreDistillation, train_generator
from comfyui_stylegan_fusion.sds.objective import Objective
from trainings import moved, settings

CSD = TERMS["csd"]
T = 0.4


def gradient(prior, *terms, seed=0):
    random = torch.Generator().manual_seed(seed)
    z, z0, eps = (torch.randn(2, 4, 8, 8, generator=random) for _ in range(3))
    objective = Objective(prior, terms, None, None)
    return objective.latent_gradient(objective.view(z, z0, T, eps))


def test_it_is_sds_less_the_noise_that_the_model_sees_without_the_prompt(prior):
    random = torch.Generator().manual_seed(0)
    z, _, eps = (torch.randn(2, 4, 8, 8, generator=random) for _ in range(3))
    alpha, sigma = prior.schedule(T)
    unconditional = prior.conditions(alpha * z + sigma * eps, T)["unconditional"]
    sds, csd = gradient(prior, ScoreDistillation())[0], gradient(prior, CSD())[0]
    torch.testing.assert_close(csd, sds - sigma**2 * (unconditional - eps))


def test_beside_sds_and_a_regularizer_the_prior_is_still_evaluated_once(prior):
    g, losses = gradient(prior, ScoreDistillation(0.5), CSD(2.0), DirectionalRegularizer(0.3))
    assert prior.calls == [(4, T)] and list(losses) == ["sds", "csd", "directional"]
    parts = [gradient(prior, term)[0] for term in (ScoreDistillation(0.5), CSD(2.0), DirectionalRegularizer(0.3))]
    torch.testing.assert_close(g, sum(parts))


def test_it_takes_the_place_of_sds_in_a_training(generator, prior):
    result = train_generator(generator, prior, settings(), [DirectionalRegularizer(), CSD()])
    assert result.history.terms == ["csd", "directional"]
    assert moved(generator, result.generator) == moved(
        generator, train_generator(generator, prior, settings()).generator
    )


def test_a_prior_without_parts_says_so(generator, prior):
    prior.has_conditions = False
    with pytest.raises(ValueError, match="The term csd compares the prompt with the negative prompt"):
        train_generator(generator, prior, settings(), [CSD()])
