"""Learning a domain: the error, the phase, low rank, going on."""

import pytest
import torch
from comfyui_stylegan_fusion.domain.learning import learn_domain
from comfyui_stylegan_fusion.domain.on_diffusers import TextFreeUNet
from comfyui_stylegan_fusion.domain.settings import DomainSettings
from comfyui_stylegan_fusion.training.endings import TrainingDiverged, TrainingInterrupted, TrainingOutOfMemory
from comfyui_stylegan_fusion.training.saving import SavedTraining, SavedTrainingError

from .conftest import normal

SETTINGS = DomainSettings(steps=8, batch_size=3, learning_rate=1e-3, average=0.9, precision="float32")


def text_free(model):
    score = TextFreeUNet.copied(model)
    score.take_out_text(normal(4, 4, 8, 8))
    return score


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_error_is_that_of_what_the_model_predicts(model):
    score, z, eps = text_free(model), normal(2, 4, 8, 8), normal(2, 4, 8, 8, seed=1)
    t = [0.25, 0.75]
    alpha, sigma = (torch.tensor(values).view(2, 1, 1, 1) for values in zip(*map(score.schedule, t), strict=True))
    z_t = alpha * z + sigma * eps
    with torch.no_grad():
        predicted = torch.cat([score.eps(row[None], one) for row, one in zip(z_t, t, strict=True)])
        wanted = eps
        if model.scheduler.config.prediction_type == "v_prediction":
            predicted, wanted = (predicted - sigma * z_t) / alpha, alpha * eps - sigma * z
        torch.testing.assert_close(
            score.loss(z, eps, t), (predicted - wanted).square().mean((1, 2, 3)), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("rank", [0, 2])
def test_the_error_falls_and_the_base_stays_as_it_was(model, pictures, rank):
    before = {name: value.clone() for name, value in model.unet.state_dict().items()}
    settings = DomainSettings(steps=60, batch_size=6, learning_rate=3e-3, rank=rank, average=0, precision="float32")
    learned = learn_domain(text_free(model), pictures, settings)
    assert sum(learned.losses[-15:]) < 0.9 * sum(learned.losses[:15])
    assert same(before, model.unet.state_dict())
    assert not any("vector" in name for name in learned.weights)
    assert any(name.endswith(".up") for name in learned.weights) == bool(rank)


def test_vectors_are_trained_where_that_is_asked_for(noise_model, pictures):
    learned = learn_domain(text_free(noise_model), pictures, DomainSettings(steps=1, train_vectors=True))
    assert any(name.endswith("attn2.vector") for name in learned.weights)


@pytest.mark.parametrize("rank", [0, 2])
def test_the_same_seed_gives_the_same_domain_and_a_break_changes_nothing(noise_model, pictures, tmp_path, rank):
    settings = DomainSettings(**{**vars(SETTINGS), "rank": rank})
    whole = learn_domain(text_free(noise_model), pictures, settings)
    saved = SavedTraining(tmp_path / "training.safetensors", every=None)

    def stop_at_five(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted) as stopped:
        learn_domain(text_free(noise_model), pictures, settings, stop_at_five, saved)
    assert stopped.value.result.steps_done == 5 and stopped.value.result.interrupted
    assert same(learn_domain(text_free(noise_model), pictures, settings, saved=saved).weights, whole.weights)


def test_more_steps_go_on_and_other_settings_do_not(noise_model, pictures, tmp_path):
    path = tmp_path / "training.safetensors"
    saved = SavedTraining(path, every=None, finished=path)
    learn_domain(text_free(noise_model), pictures, SETTINGS, saved=saved)
    steps = []
    more = DomainSettings(**{**vars(SETTINGS), "steps": 12})
    whole = learn_domain(text_free(noise_model), pictures, more)
    gone_on = learn_domain(text_free(noise_model), pictures, more, lambda progress: steps.append(progress.step), saved)
    assert steps == [9, 10, 11, 12] and same(whole.weights, gone_on.weights)
    with pytest.raises(SavedTrainingError, match="learning_rate"):
        learn_domain(
            text_free(noise_model), pictures, DomainSettings(**{**vars(SETTINGS), "learning_rate": 1e-4}), saved=saved
        )


def test_accumulated_batches_and_small_pieces_are_a_large_batch(noise_model, pictures, monkeypatch):
    """The pieces of a batch count by their size; activations computed again change nothing."""
    settings = DomainSettings(**{**vars(SETTINGS), "steps": 1, "recompute": True})
    whole = learn_domain(text_free(noise_model), pictures, DomainSettings(**{**vars(SETTINGS), "steps": 1}))
    real, calls = TextFreeUNet.loss, []

    def small(self, z, eps, t):
        calls.append(len(z))
        if len(z) > 1:
            raise RuntimeError("CUDA error: out of memory")
        return real(self, z, eps, t)

    monkeypatch.setattr(TextFreeUNet, "loss", small)
    pieces = learn_domain(text_free(noise_model), pictures, settings)
    assert calls[-3:] == [1, 1, 1]
    for name, value in whole.weights.items():
        # Adam's first step is the sign of the gradient: where that is tiny, rounding decides.
        assert (value - pieces.weights[name]).abs().mean() < 1e-5


def test_memory_that_runs_out_for_one_picture_ends_it_with_advice(noise_model, pictures, monkeypatch):
    def full(self, z, eps, t):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(TextFreeUNet, "loss", full)
    with pytest.raises(TrainingOutOfMemory, match="a low rank"):
        learn_domain(text_free(noise_model), pictures, SETTINGS)


def test_a_gradient_that_is_not_finite_changes_nothing_and_ends_it_when_it_stays(noise_model, pictures, monkeypatch):
    real = TextFreeUNet.loss
    monkeypatch.setattr(TextFreeUNet, "loss", lambda self, z, eps, t: real(self, z, eps, t) * float("nan"))
    score = text_free(noise_model)
    before = {name: value.clone() for name, value in score.denoiser.state_dict().items()}
    with pytest.raises(TrainingDiverged, match="10 steps in a row"):
        learn_domain(score, pictures, DomainSettings(**{**vars(SETTINGS), "steps": 30}))
    assert same(before, score.denoiser.state_dict())


def test_the_average_stands_in_its_place_only_while_it_is_looked_at(noise_model, pictures):
    score, looked = text_free(noise_model), []

    def look(progress):
        before = next(score.denoiser.parameters()).clone()
        with progress.averaged():
            looked.append((before - next(score.denoiser.parameters())).abs().max().item())
        assert torch.equal(before, next(score.denoiser.parameters()))

    learn_domain(score, pictures, SETTINGS, look)
    assert looked[-1] > 0
