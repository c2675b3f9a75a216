"""Distribution matching: the term, its second network, and its place in the loop."""

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    TERMS,
    AllLayers,
    DistributionMatching,
    Prior,
    SavedTraining,
    ScoreDistillation,
    TrainingInterrupted,
    train_generator,
)
from comfyui_stylegan_fusion.sds.fake_score import LATENTS, NAME, FakeScore
from comfyui_stylegan_fusion.sds.objective import Objective
from comfyui_stylegan_fusion.sds.terms import Surroundings
from comfyui_stylegan_fusion.sds.training import GeneratorTraining
from comfyui_stylegan_fusion.training.draws import MicroStep
from comfyui_stylegan_fusion.training.loop import train_step
from comfyui_stylegan_fusion.training.out_of_memory import MemoryPolicy
from gaussian import GaussianPrior
from trainings import assert_same_weights, moved, settings

T = 0.4
WHOLE = {"rank": 0, "learning_rate": 0.05, "normalization": "none"}


def around(prior, **changes):
    return Surroundings(prior, settings(**changes), MemoryPolicy(2, False, ""), half=False)


def view_of(prior, term, seed=0):
    random = torch.Generator().manual_seed(seed)
    z, eps = (torch.randn(2, 4, 8, 8, generator=random) for _ in range(2))
    objective = Objective(prior, [term], None, None)
    return objective, objective.view(z, None, T, eps)


def test_it_pulls_from_what_is_drawn_to_what_the_prior_knows(prior):
    term = DistributionMatching(**WHOLE).own(around(prior))
    objective, view = view_of(prior, term)
    # Both are Gaussian with one spread, phi around 0: what is left does not depend on the latent.
    factor = view.sigma * view.alpha / (view.alpha**2 * prior.spread**2 + view.sigma**2)
    wanted = (-(view.sigma**2) * factor * prior.mean.mean((2, 3), keepdim=True)).expand_as(view.z)
    torch.testing.assert_close(objective.latent_gradient(view)[0], wanted, rtol=1e-4, atol=1e-5)


def test_where_both_agree_nothing_pulls(prior):
    term = DistributionMatching(**WHOLE).own(around(prior))
    with torch.no_grad():
        term.fake.score.denoiser.weight.copy_(prior.mean.mean((0, 2, 3))[:, None])
    objective, view = view_of(prior, term)
    assert objective.latent_gradient(view)[0].abs().max() < 1e-6


def test_normalized_as_dmd_the_pull_is_in_units_of_the_way_to_the_priors_estimate(prior):
    term = DistributionMatching(**WHOLE | {"normalization": "dmd"}).own(around(prior))
    objective, view = view_of(prior, term)
    denoised = (view.z_t - view.sigma * view.eps_hat) / view.alpha
    distance = (view.z - denoised).abs().mean((1, 2, 3), keepdim=True)
    of_fake = term.fake.eps(view.z_t, T)
    wanted = view.sigma / view.alpha * (view.eps_hat - of_fake) / distance
    torch.testing.assert_close(objective.latent_gradient(view)[0], wanted)


def test_the_second_network_learns_what_is_drawn(prior):
    fake = FakeScore(prior.trainable_score(False), settings(t_min=0.1), MemoryPolicy(8, False, ""))
    phase, random = fake.phase(lambda step: 0.02), torch.Generator().manual_seed(0)
    latents = torch.tensor([0.5, -1.0, 0.2, 0.0]).view(1, 4, 1, 1) + 0.3 * torch.randn(8, 4, 8, 8, generator=random)
    for step in range(150):
        phase.update(fake.compute([MicroStep(0, step, shared={LATENTS: latents})]), step)
    found = fake.score.denoiser.weight.flatten()
    torch.testing.assert_close(found, latents.mean((0, 2, 3)), atol=0.05, rtol=0)


def test_pieces_of_a_batch_give_the_same_gradient(prior):
    latents = torch.randn(5, 4, 8, 8)
    whole, pieces = (
        FakeScore(prior.trainable_score(False), settings(), MemoryPolicy(size, False, "")) for size in (5, 2)
    )
    found = [
        next(iter(fake.compute([MicroStep(0, 0, shared={LATENTS: latents})]).gradients.values()))
        for fake in (whole, pieces)
    ]
    torch.testing.assert_close(*found)


def test_the_first_steps_train_the_second_network_alone(generator, prior):
    term = DistributionMatching(**WHOLE, warmup=2)
    run = GeneratorTraining(generator, prior, settings(steps=3), [term], AllLayers())
    fake = run.training.phases[1]
    for _ in range(2):
        before = [parameter.clone() for parameter in fake.parameters]
        record = train_step(run.training)
        assert set(record.losses) == {NAME}
        assert not all(map(torch.equal, before, fake.parameters))
    assert not moved(generator, run.adaptation.generator)
    assert list(train_step(run.training).losses) == ["vsd", NAME]
    assert moved(generator, run.adaptation.generator)


def test_updates_of_a_step_draw_other_noise(generator, prior):
    term = DistributionMatching(**WHOLE, warmup=0, updates=3)
    run = GeneratorTraining(generator, prior, settings(steps=1), [term], AllLayers())
    losses, compute = [], run.training.phases[1].compute

    def noted(micro_steps):
        outcome = compute(micro_steps)
        losses.append(outcome.losses[NAME])
        return outcome

    run.training.phases[1].compute = noted
    train_step(run.training)
    assert len(set(losses)) == 3


def test_a_training_goes_on_bit_for_bit(generator, prior, tmp_path):
    def trained(saved=None, until=None):
        def stop(progress):
            if progress.step == until:
                raise KeyboardInterrupt

        return train_generator(
            generator, prior, settings(steps=5), [DistributionMatching(**WHOLE, warmup=2)], progress=stop, saved=saved
        )

    saved = SavedTraining(tmp_path / "training.safetensors", every=None)
    for until in (1, 4):  # within the first steps, and behind them
        with pytest.raises(TrainingInterrupted):
            trained(saved, until)
    whole, rest = trained(), trained(saved)
    assert_same_weights(whole.generator, rest.generator)
    assert [record.losses for record in whole.history.records] == [record.losses for record in rest.history.records]


def test_beside_other_terms_it_is_one_of_them(generator, prior):
    terms = [ScoreDistillation(0.5), DistributionMatching(**WHOLE, warmup=1)]
    result = train_generator(generator, prior, settings(), terms)
    assert set(result.history.terms) == {"sds", "vsd", NAME}


def test_an_infinite_gradient_of_the_second_network_skips_its_update(generator, prior):
    run = GeneratorTraining(generator, prior, settings(steps=1), [DistributionMatching(**WHOLE, warmup=1)], AllLayers())
    score = run.adaptation.objective.terms[0].fake.score
    score.prior = Spoiled()
    before = score.denoiser.weight.clone()
    record = train_step(run.training)
    assert record.skipped == f"the gradient of the {NAME}" and torch.equal(score.denoiser.weight, before)


class Spoiled(GaussianPrior):
    spread = float("nan")


def test_a_prior_without_a_network_says_so(generator, prior, monkeypatch):
    monkeypatch.setattr(type(prior), "require_trainable_score", Prior.require_trainable_score)
    with pytest.raises(ValueError, match="has no network that could be trained"):
        train_generator(generator, prior, settings(), [TERMS["vsd"]()])
