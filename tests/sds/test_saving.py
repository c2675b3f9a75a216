"""What is saved of a training, and going on with it."""

import json

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    AllLayers,
    SavedTraining,
    SavedTrainingError,
    TopKLayers,
    TrainingDiverged,
    TrainingInterrupted,
    train_generator,
)
from safetensors import safe_open
from safetensors.torch import load_file
from saved_trainings import REGULARIZERS, assert_same_result, settings, train


@pytest.mark.parametrize(
    "stop, layers", [(1, TopKLayers(2)), (4, AllLayers()), (7, TopKLayers(2, steps=2)), (8, TopKLayers(2))]
)
def test_a_training_goes_on_bit_for_bit_where_it_was_stopped(generator, prior, saved, stop, layers):
    changes = {"layers": layers, "also_train": ("to_rgb",)}
    whole = train(generator, prior, **changes)
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved, stop, **changes)
    assert saved.steps_done() == stop
    assert_same_result(train(generator, prior, saved, **changes), whole)


def test_a_training_that_is_killed_goes_on_from_its_last_saving(generator, prior, saved):
    """A kill leaves what was last saved; here the end of the process is one that the training cannot notice."""
    whole, copies = train(generator, prior), {}

    def follow(progress):
        copies[progress.step] = saved.path.read_bytes() if saved.path.exists() else None

    train_generator(generator, prior, settings(), REGULARIZERS, TopKLayers(2), follow, saved)
    assert copies[2] is None and copies[3] == copies[5] != copies[6]
    for step in (5, 6):
        saved.path.write_bytes(copies[step])
        assert saved.steps_done() == step // 3 * 3
        evaluations = len(prior.calls)
        assert_same_result(train(generator, prior, saved), whole)
        assert len(prior.calls) - evaluations == 2 * (8 - step // 3 * 3)


def test_a_finished_training_is_not_trained_again(generator, prior, saved):
    whole = train(generator, prior, SavedTraining(saved.path, every=8))
    prior.calls.clear()
    assert_same_result(train(generator, prior, saved), whole)
    assert not prior.calls


def test_skipped_steps_are_remembered(generator, prior, saved):
    prior.faults = {1: float("nan"), 8: float("nan")}
    whole = train(generator, prior)
    prior.calls.clear()
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved, stop=3)
    resumed = train(generator, prior, saved)
    assert_same_result(resumed, whole)
    assert resumed.history.skipped == 2


def test_a_training_that_diverged_is_saved_and_goes_on_behind_the_bad_steps(generator, prior, saved):
    prior.faults = {index: float("nan") for index in range(2, 5)}
    changes = {"accumulation": 1, "max_skipped_in_a_row": 3}
    with pytest.raises(TrainingDiverged) as caught:
        train(generator, prior, saved, **changes)
    assert saved.steps_done() == caught.value.result.steps_done == 5
    result = train(generator, prior, saved, **changes)
    assert (result.steps_done, result.history.skipped) == (8, 3)


def test_the_file_is_safetensors_of_numbers_and_text_alone(generator, prior, saved):
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved, stop=4, layers=AllLayers())
    tensors = load_file(saved.path)
    assert {"generator.weights.0", "best.0", "generator.optimizer.0.exp_avg", "history.notes.t"} <= tensors.keys()
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    with safe_open(saved.path, framework="pt") as file:
        assert file.metadata()["step"] == "4"
        assert json.loads(file.metadata()["run"])["settings"]["steps"] == 8


def test_a_saved_file_is_let_go_of_at_once(generator, prior, saved):
    """Windows replaces no file that is mapped."""
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved, stop=4)
    mapped = []

    def look(progress):
        with open("/proc/self/maps") as maps:
            mapped.append(str(saved.path) in maps.read())

    train_generator(generator, prior, settings(), REGULARIZERS, TopKLayers(2), look, saved)
    assert mapped == [False] * 4


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"learning_rate": 0.002}, "learning_rate"),
        ({"seed": 5}, "seed"),
        ({"steps": 9}, "steps"),
        ({"layers": AllLayers()}, "layers"),
        ({"regularizers": ()}, "terms"),
    ],
)
def test_another_run_is_not_gone_on_with(generator, prior, saved, changes, named):
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved, stop=4)
    before = saved.path.read_bytes()
    with pytest.raises(SavedTrainingError, match=rf"belongs to another run \(different: {named}\)"):
        train(generator, prior, saved, **changes)
    assert saved.path.read_bytes() == before


def test_another_generator_and_another_prompt_are_noticed(generator, prior, saved):
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved, stop=4)
    with pytest.raises(SavedTrainingError, match="different: guidance"):
        train(generator, prior, SavedTraining(saved.path, identity="another prompt"))
    with torch.no_grad():
        generator.synthesis.layers[0].bias[0] += 1e-3
    with pytest.raises(SavedTrainingError, match="different: generator"):
        train(generator, prior, saved)


def test_settings_that_leave_the_weights_alone_may_change(generator, prior, saved):
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved, stop=4)
    assert train(generator, prior, saved, max_skipped_in_a_row=2, collapse_threshold=0.1).steps_done == 8


def test_what_differs_of_an_identity_is_said_in_the_words_of_who_asks(generator, prior, saved):
    known = {"prompt": "a fox", "model": "a digest", "scales": [1.0]}
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, SavedTraining(saved.path, identity=known), stop=4)
    words = lambda name, saved, wanted: [f"{name}: {saved} not {wanted}"]  # noqa: E731
    other = SavedTraining(saved.path, identity={**known, "model": "another"}, words=words)
    with pytest.raises(SavedTrainingError, match=r"\(different: model: a digest not another\)"):
        train(generator, prior, other)
    with pytest.raises(SavedTrainingError, match=r"\(different: learning_rate: None not 0.002\)"):
        train(generator, prior, SavedTraining(saved.path, identity=known, words=words), learning_rate=0.002)
    assert train(generator, prior, SavedTraining(saved.path, identity=known)).steps_done == 8


def test_an_identity_in_one_text_is_known_to_one_by_name(generator, prior, saved):
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, SavedTraining(saved.path, identity="all in one"), stop=4)
    by_name = {"prompt": "a fox"}
    with pytest.raises(SavedTrainingError, match="different: guidance"):
        train(generator, prior, SavedTraining(saved.path, identity=by_name, earlier_identity="another"))
    assert train(generator, prior, SavedTraining(saved.path, identity=by_name, earlier_identity="all in one")).best_step
