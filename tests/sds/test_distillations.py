"""Distillations that are combinations of predictions."""

import pytest
import torch
from comfyui_stylegan_fusion.sds import TERMS, DirectionalRegularizer, ScoreDistillation, TrainSettings, train_generator
from comfyui_stylegan_fusion.sds.draws import draw_later
from comfyui_stylegan_fusion.sds.objective import Objective
from comfyui_stylegan_fusion.training.draws import MicroStep
from gaussian import GaussianPrior
from trainings import moved, settings

CSD = TERMS["csd"]
T = 0.4


def drawn(seed=0):
    """z, z0 and eps."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 4, 8, 8, generator=random) for _ in range(3)]


def gradient(prior, *terms, seed=0, t=T, **batch):
    z, z0, eps = drawn(seed)
    objective = Objective(prior, terms, None, None)
    return objective.latent_gradient(objective.view(z, z0, t, eps, **batch))


class ThreePrompts(GaussianPrior):
    """With a further prompt, whose latents are around -1."""

    condition_names = ("unconditional", "text", "extra 1")

    def guided_and_conditions(self, z_t, t, scaling=1.0):
        guided, conditions = super().guided_and_conditions(z_t, t, scaling)
        alpha, sigma = self.schedule(t)
        extra = sigma * (z_t + alpha) / (alpha**2 * self.spread**2 + sigma**2)
        return guided, {**conditions, "extra 1": extra}


def test_csd_is_sds_less_the_noise_that_the_model_sees_without_the_prompt(prior):
    z, _, eps = drawn()
    alpha, sigma = prior.schedule(T)
    unconditional = prior.conditions(alpha * z + sigma * eps, T)["unconditional"]
    sds, csd = gradient(prior, ScoreDistillation())[0], gradient(prior, CSD())[0]
    torch.testing.assert_close(csd, sds - sigma**2 * (unconditional - eps))


def test_beside_sds_and_a_regularizer_the_prior_is_still_evaluated_once(prior):
    g, losses = gradient(prior, ScoreDistillation(0.5), CSD(2.0), DirectionalRegularizer(0.3))
    assert prior.calls == [(4, T)] and list(losses) == ["sds", "csd", "directional"]
    parts = [gradient(prior, term)[0] for term in (ScoreDistillation(0.5), CSD(2.0), DirectionalRegularizer(0.3))]
    torch.testing.assert_close(g, sum(parts))


def test_csd_takes_the_place_of_sds_in_a_training(generator, prior):
    result = train_generator(generator, prior, settings(), [DirectionalRegularizer(), CSD()])
    assert result.history.terms == ["csd", "directional"]
    assert moved(generator, result.generator) == moved(
        generator, train_generator(generator, prior, settings()).generator
    )


def test_a_prior_without_parts_says_so(generator, prior):
    prior.condition_names = ()
    with pytest.raises(ValueError, match="The term csd compares the prompt with the negative prompt"):
        train_generator(generator, prior, settings(), [CSD()])


def test_bridge_changes_from_sds_to_csd_after_half_of_the_steps(prior):
    bridge = TERMS["bridge"]()
    assert torch.equal(gradient(prior, bridge, progress=0.49)[0], gradient(prior, ScoreDistillation())[0])
    assert torch.equal(gradient(prior, bridge, progress=0.5)[0], gradient(prior, CSD())[0])


@pytest.mark.parametrize("t", [0.1, T])
def test_nfsd_stays_away_from_the_extra_prompt_where_there_is_noise(t):
    prior = ThreePrompts()
    z, _, eps = drawn()
    alpha, sigma = prior.schedule(t)
    guided, conditions = prior.guided_and_conditions(alpha * z + sigma * eps, t)
    wanted = guided - (conditions["extra 1"] if t > 0.2 else 0)
    torch.testing.assert_close(gradient(prior, TERMS["nfsd"](), t=t)[0], sigma**2 * wanted)


def test_nfsd_asks_for_an_extra_prompt(generator, prior):
    with pytest.raises(ValueError, match="add an extra prompt of scale 0"):
        train_generator(generator, prior, settings(), [TERMS["nfsd"]()])


def test_asd_compares_with_the_prompt_a_little_later_for_the_same_noise(prior):
    z, _, eps = drawn()
    later = 0.43
    (alpha, sigma), (far, noisier) = prior.schedule(T), prior.schedule(later)
    text = prior.conditions(far * z + noisier * eps, later)["text"]
    wanted = sigma**2 * (prior.guided(alpha * z + sigma * eps, T) - text)
    torch.testing.assert_close(gradient(prior, TERMS["asd"](), later_t=later)[0], wanted)


def test_the_later_timestep_is_at_most_a_tenth_of_the_range_away():
    found = [draw_later(MicroStep(0, step), 0.6, TrainSettings(t_min=0.1, t_max=0.8)) for step in range(200)]
    assert 0.6 <= min(found) < 0.61 and 0.64 < max(found) <= 0.65


def test_dds_compares_with_the_frozen_picture_given_the_negative_prompt(prior):
    z, z0, eps = drawn()
    alpha, sigma = prior.schedule(T)
    before = prior.conditions(alpha * z0 + sigma * eps, T)["unconditional"]
    wanted = sigma**2 * (prior.guided(alpha * z + sigma * eps, T) - before)
    torch.testing.assert_close(gradient(prior, TERMS["dds"]())[0], wanted)
    assert Objective(prior, [TERMS["dds"]()], None, None).rows_per_sample == 2


def test_ld_is_the_guided_prediction_alone(prior):
    z, _, eps = drawn()
    alpha, sigma = prior.schedule(T)
    wanted = sigma**2 * prior.guided(alpha * z + sigma * eps, T)
    torch.testing.assert_close(gradient(prior, TERMS["ld"]())[0], wanted)


@pytest.mark.parametrize("name", ["bridge", "asd", "dds", "ld"])
def test_each_trains_and_is_recorded_by_its_name(generator, prior, name):
    result = train_generator(generator, prior, settings(), [TERMS[name]()])
    assert result.history.terms == [name] and moved(generator, result.generator)
