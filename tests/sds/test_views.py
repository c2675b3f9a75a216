"""Prompts that depend on where the camera stands."""

import copy

import pytest
import torch
from comfyui_stylegan_fusion.sds import DirectionalRegularizer, ManualLayers, ScoreDistillation, train_generator
from comfyui_stylegan_fusion.sds.draws import draw_cameras
from comfyui_stylegan_fusion.sds.objective import Objective
from comfyui_stylegan_fusion.sds.training import GeneratorTraining
from comfyui_stylegan_fusion.sds.views import seen_from, view_weights
from comfyui_stylegan_fusion.stylegan import turned, yaws
from comfyui_stylegan_fusion.training.draws import MicroStep
from eg3d_files import CONFIG, head
from gaussian import GaussianPrior
from trainings import assert_same_weights, settings, small_generator

COLOURS = {"side": (-0.8, 0.6, 0.4), "back": (0.0, 0.9, -0.9)}


class SidedPrior(GaussianPrior):
    """A GaussianPrior whose mean is another one for each of some views."""

    def __init__(self, *views):
        super().__init__()
        self.views = views

    def facing(self, view):
        other = copy.copy(self)
        other.mean, other.views = GaussianPrior(COLOURS[view]).mean, ()
        return other


def cameras(*yaw):
    return turned(CONFIG, list(yaw), [5.0] * len(yaw))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_cameras_yaw_is_read_back():
    assert torch.allclose(yaws(cameras(0, 35, -120, 179)), torch.tensor([0.0, 35, -120, 179]), atol=1e-3)


def test_views_count_in_proportion_to_the_yaw_and_together_one():
    weights = view_weights(cameras(0, 45, -90, 135, 180))
    assert torch.allclose(weights["front"], torch.tensor([1, 0.5, 0, 0, 0]).double(), atol=1e-3)
    assert torch.allclose(weights["side"], torch.tensor([0, 0.5, 1, 0.5, 0]).double(), atol=1e-3)
    assert torch.allclose(weights["back"], torch.tensor([0, 0, 0, 0.5, 1]).double(), atol=1e-3)
    assert torch.allclose(sum(weights.values()), torch.ones(5).double())


def test_a_prior_with_one_prompt_is_seen_as_it_is(prior):
    assert seen_from(prior, cameras(0, 90)) is prior
    sided = SidedPrior("side")
    assert seen_from(sided, None) is sided


@pytest.mark.parametrize("both", [False, True])
def test_each_sample_is_judged_by_the_prompts_of_its_camera(both):
    """As a computation by hand for each sample by itself; what has no prompt of its own takes the prior's."""
    prior, z_t = SidedPrior("side"), normal(5, 4, 8, 8)
    seen = seen_from(prior, cameras(0, 30, -90, 150, 180))
    shares = [0, 1 / 3, 1, 1 / 3, 0]
    plain, side = (one.guided_and_conditions(z_t, 0.4) for one in (prior, prior.facing("side")))
    found, parts = seen.guided_and_conditions(z_t, 0.4) if both else (seen.guided(z_t, 0.4), {})
    share = torch.tensor(shares).view(-1, 1, 1, 1)
    assert torch.allclose(found, (1 - share) * plain[0] + share * side[0], atol=2e-3)
    for name, eps in parts.items():
        assert torch.allclose(eps, (1 - share) * plain[1][name] + share * side[1][name], atol=2e-3)
    assert set(parts) == ({"unconditional", "text"} if both else set())


def test_nothing_is_evaluated_that_does_not_count():
    prior, z_t = SidedPrior("side", "back"), normal(3, 4, 8, 8)
    seen_from(prior, cameras(0, 45, 90)).guided(z_t, 0.4)
    assert prior.calls == [(2, 0.4), (2, 0.4)], "the front for two, the side for two, the back for none"
    prior.calls.clear()
    assert torch.equal(seen_from(prior, cameras(0, 0, 0)).guided(z_t, 0.4), prior.guided(z_t, 0.4))


def test_the_frozen_rows_are_judged_by_the_same_prompts():
    """So that the directional gradient is zero where both generators agree."""
    terms = [ScoreDistillation(), DirectionalRegularizer(1.0)]
    objective = Objective(SidedPrior("side"), terms, None, None)
    z, eps = normal(2, 4, 8, 8), normal(2, 4, 8, 8, seed=1)
    view = objective.view(z, z.clone(), 0.5, eps, 1.0, cameras(10, 80))
    assert torch.equal(view.eps_hat, view.eps_hat_frozen)
    assert not torch.allclose(view.eps_hat, objective.view(z, z, 0.5, eps).eps_hat, atol=1e-2)


def test_a_training_asks_each_prompt_for_the_samples_of_its_cameras(monkeypatch):
    generator, prior, asked = head(), SidedPrior("side", "back"), []
    monkeypatch.setattr(SidedPrior, "guided", lambda self, z_t, *rest: asked.append((self.mean, z_t)) or z_t)
    wide = settings(batch_size=4, camera_yaw=180.0)
    run = GeneratorTraining(generator, prior, wide, [ScoreDistillation()], ManualLayers((3,)))
    run.adaptation.compute([MicroStep(7, 0)])
    weights = view_weights(draw_cameras(MicroStep(7, 0), 4, CONFIG, wide))
    expected = [(prior.mean, weights["front"]), *((prior.facing(view).mean, weights[view]) for view in prior.views)]
    expected = [(mean, int((weight > 0).sum())) for mean, weight in expected if (weight > 0).any()]
    assert len(expected) > 1 and len(asked) == len(expected)
    for (mean, z_t), (other, count) in zip(asked, expected, strict=True):
        assert torch.equal(mean, other) and len(z_t) == count


def test_without_prompts_of_views_a_training_is_the_same(prior):
    generator = head()
    plain = train_generator(generator, prior, settings())
    assert_same_weights(train_generator(generator, SidedPrior(), settings()).generator, plain.generator)


def test_flat_generators_have_no_views():
    with pytest.raises(ValueError, match=r"a prompt for the side, and this generator draws flat pictures"):
        train_generator(small_generator(), SidedPrior("side"), settings())
