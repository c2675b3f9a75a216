"""The watch for images that become alike."""

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    SavedTraining,
    TrainingInterrupted,
    TrainSettings,
    diversity,
    train_generator,
)
from comfyui_stylegan_fusion.stylegan import render_samples, sample_z


def settings(**changes):
    return TrainSettings(
        **{"steps": 12, "batch_size": 2, "learning_rate": 0.05, "diversity_every": 2, "diversity_samples": 4, **changes}
    )


@pytest.fixture
def alike(generator):
    """A generator that soon draws the same for every latent: the prior knows one image, and the steps are large."""
    return generator


def threshold_between(diversities, step):
    """A threshold that the measurements pass after this step."""
    first = diversities[0]
    return (diversities[step] / first + max(d for s, d in diversities.items() if s > step) / first) / 2


@pytest.fixture
def measured(alike, prior):
    """What the watch measures without a threshold, and the weights at every step."""
    weights = {}

    def keep(progress):
        weights[progress.step] = progress.result().generator.state_dict()

    result = train_generator(alike, prior, settings(collapse_threshold=0.0), progress=keep)
    assert result.best_step == result.steps_done == 12
    return result.history.diversity, weights


def same(generator, weights):
    return all(torch.equal(value, weights[name]) for name, value in generator.state_dict().items())


def test_diversity_is_measured_over_latents_that_never_change(alike, measured):
    z = sample_z(alike.z_dim, 4, settings().seed)
    diversities, _ = measured
    assert list(diversities) == [0, 2, 4, 6, 8, 10, 12]
    assert diversities[0] == diversity(render_samples(alike, z))
    assert diversities[12] < 0.7 * diversities[0]


def test_one_warning_names_the_settings_and_the_best_state_is_kept(alike, prior, measured, caplog):
    diversities, weights = measured
    threshold, warnings = threshold_between(diversities, 4), []
    result = train_generator(
        alike, prior, settings(collapse_threshold=threshold), progress=lambda p: warnings.append((p.step, p.warning))
    )
    ((step, warning),) = [(step, warning) for step, warning in warnings if warning]
    assert step == 6 and f"at step 6 their diversity is {diversities[6] / diversities[0]:.0%}" in warning
    for setting in ("directional regularizer", "guidance scale", "learning rate", "layers", "stop earlier"):
        assert setting in warning
    assert caplog.text.count("becoming alike") == 1
    assert (result.best_step, result.steps_done) == (4, 12)
    assert same(result.best, weights[4]) and same(result.generator, weights[12])


def test_a_generator_that_is_not_collapsed_is_its_own_best(alike, prior, measured):
    diversities, weights = measured
    kept = {}

    def stop(progress):
        kept[progress.step] = progress.result()
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted) as caught:
        train_generator(alike, prior, settings(collapse_threshold=threshold_between(diversities, 4)), progress=stop)
    assert {step: result.best_step for step, result in kept.items()} == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5}
    assert same(caught.value.result.best, weights[5])


@pytest.mark.parametrize("stop_at", [5, 6, 9])
def test_a_resumed_run_keeps_the_best_state_of_before(alike, prior, measured, tmp_path, caplog, stop_at):
    diversities, weights = measured
    saved = SavedTraining(tmp_path / "training.safetensors")
    wanted = settings(collapse_threshold=threshold_between(diversities, 4))

    def stop(progress):
        if progress.step == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        train_generator(alike, prior, wanted, progress=stop, saved=saved)
    result = train_generator(alike, prior, wanted, saved=saved)
    assert (result.best_step, result.steps_done) == (4, 12)
    assert same(result.best, weights[4]) and same(result.generator, weights[12])
    assert result.history.diversity == diversities
    assert caplog.text.count("becoming alike") == 1


def test_a_generator_that_was_alike_from_the_start_is_no_reason_to_warn(alike, prior, caplog):
    with torch.no_grad():
        alike.mapping.layers[-1].weight.zero_()  # one w for all
    result = train_generator(alike, prior, settings(steps=4, collapse_threshold=1.0))
    assert result.history.diversity[0] == 0 and result.best_step == 4
    assert "alike" not in caplog.text
