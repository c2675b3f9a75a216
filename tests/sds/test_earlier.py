"""A training that version 0.1 left unfinished: its file in data/ was written by that version after 5 of 8 steps."""

import shutil
from pathlib import Path

import pytest
import torch
from comfyui_stylegan_fusion.sds import SavedTraining, SavedTrainingError, ScoreDistillation, TrainingInterrupted
from comfyui_stylegan_fusion.stylegan import load_generator
from comfyui_stylegan_fusion.training.history import StepRecord
from saved_trainings import REGULARIZERS, train

DATA = Path(__file__).parent / "data"


@pytest.fixture
def saved(tmp_path):
    shutil.copy(DATA / "unfinished_of_version_0.1.safetensors", tmp_path / "training.safetensors")
    return SavedTraining(tmp_path / "training.safetensors", identity="a prompt")


@pytest.fixture
def generator():
    return load_generator(DATA / "generator_of_unfinished.safetensors")


def test_it_goes_on_to_the_weights_of_a_whole_run(generator, prior, saved):
    prior.faults = {3: float("nan")}  # as then, in the second step
    whole = train(generator, prior)
    prior.calls.clear()
    prior.faults = {}
    assert saved.steps_done() == 5
    result = train(generator, prior, saved)
    assert len(prior.calls) == 2 * 3 and result.steps_done == 8
    # The first steps were computed on another machine: equal there, and here but for rounding.
    for (name, x), y in zip(result.generator.state_dict().items(), whole.generator.state_dict().values(), strict=True):
        assert (x - y).abs().median() < 1e-5, name
    for one, other in zip(result.history.records, whole.history.records, strict=True):
        assert (one.step, one.t, one.skipped) == (other.step, other.t, other.skipped)
    assert result.history.records[1] == StepRecord(
        2, {}, {"t": result.history.records[1].t}, "the prior's noise prediction"
    )
    assert result.history.diversity.keys() == whole.history.diversity.keys()


def test_another_run_than_it_was_is_told_from_it(generator, prior, saved):
    for changes, named in (
        ({"learning_rate": 0.5}, "learning_rate"),
        ({"regularizers": REGULARIZERS[:1]}, "regularizers"),
    ):
        with pytest.raises(SavedTrainingError, match=rf"another run \(different: {named}\)"):
            train(generator, prior, saved, **changes)
    with pytest.raises(SavedTrainingError, match=r"different: guidance"):
        train(generator, prior, SavedTraining(saved.path, identity="another prompt"))


def test_what_version_0_1_could_not_do_is_none_of_its_trainings(generator, prior, saved):
    with pytest.raises(SavedTrainingError, match="is no saved training"):
        train(generator, prior, saved, regularizers=[ScoreDistillation(2.0)])


def test_it_is_written_in_todays_format_from_then_on(generator, prior, saved):
    with torch.no_grad():
        train(generator, prior, SavedTraining(saved.path, every=7, identity="a prompt"))
    assert saved.steps_done() == 7
    assert train(generator, prior, saved).steps_done == 8


def test_a_step_of_it_that_is_cut_short_goes_back_to_what_was_saved(generator, prior, saved, monkeypatch):
    """Before it has been saved anew, the file of the earlier version is what is whole."""
    adam, updates = torch.optim.Adam.step, []

    def cut_short(optimizer):
        updates.append(True)
        if len(updates) == 2:
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].add_(1.0)
            raise KeyboardInterrupt
        return adam(optimizer)

    monkeypatch.setattr(torch.optim.Adam, "step", cut_short)
    with pytest.raises(TrainingInterrupted, match="ended after 5 of 8 steps") as caught:
        train(generator, prior, saved)
    assert caught.value.result.steps_done == 5
    monkeypatch.undo()
    assert train(generator, prior, saved).steps_done == 8
