"""What is saved of a training, and going on with it."""

import json
import os

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    AllLayers,
    DirectionalRegularizer,
    ReconstructionRegularizer,
    SavedTraining,
    SavedTrainingError,
    TopKLayers,
    TrainingDiverged,
    TrainingInterrupted,
    TrainSettings,
    train_generator,
)
from comfyui_stylegan_fusion.sds.state import TrainState
from comfyui_stylegan_fusion.stylegan.files import locked
from safetensors import safe_open
from safetensors.torch import load_file, save_file

REGULARIZERS = (DirectionalRegularizer(0.5), ReconstructionRegularizer(0.2))
SETTINGS = {"steps": 8, "batch_size": 2, "accumulation": 2, "cooldown": 0.5, "t_max": 0.8, "diversity_samples": 4}


class Stop(Exception):
    pass


def settings(**changes):
    return TrainSettings(**{**SETTINGS, "diversity_every": 2, **changes})


def stopping(at):
    def stop(progress):
        if progress.step == at:
            raise Stop

    return stop


def train(generator, prior, saved=None, stop=None, layers=None, regularizers=REGULARIZERS, **changes):
    progress = stopping(stop) if stop else None
    return train_generator(
        generator, prior, settings(**changes), regularizers, layers or TopKLayers(2), progress, saved
    )


def assert_same_result(a, b):
    for one, other in ((a.generator, b.generator), (a.best, b.best)):
        for (name, x), y in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(x, y), name
    assert a.history == b.history
    assert (a.steps_done, a.best_step) == (b.steps_done, b.best_step)


@pytest.fixture
def saved(tmp_path):
    return SavedTraining(tmp_path / "new" / "training.safetensors", every=3)


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
    assert {"weights.0", "best.0", "adam.0.exp_avg", "history.t"} <= tensors.keys()
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


def test_half_written_files_are_cleared_away(generator, prior, saved, monkeypatch):
    replace, calls = os.replace, []

    def cut_short(*paths):
        calls.append(paths)
        if len(calls) == 1:
            raise KeyboardInterrupt
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_short)
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: None)  # no time to clear anything away
        with pytest.raises(TrainingInterrupted, match="after 3 of 8 steps"):
            train(generator, prior, saved)
    assert sorted(path.suffix for path in saved.path.parent.iterdir()) == [".safetensors", ".tmp"]
    (saved.path.parent / "other.tmp").write_bytes(b"not ours")
    train(generator, prior, saved)
    assert {path.name for path in saved.path.parent.iterdir()} == {"training.safetensors", "other.tmp"}


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"learning_rate": 0.002}, "learning_rate"),
        ({"seed": 5}, "seed"),
        ({"steps": 9}, "steps"),
        ({"layers": AllLayers()}, "layers"),
        ({"regularizers": ()}, "regularizers"),
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


def written(change):
    def damage(data, tensors, notes, path):
        change(tensors, notes)
        save_file(tensors, path, notes)
        return path.read_bytes()

    return damage


def entry(name, value):
    return written(lambda tensors, notes: notes.update({name: value}))


def tensor(name, change):
    def damage(tensors, notes):
        index = next(i for i in range(len(tensors)) if tensors[f"weights.{i}"].ndim == 4)  # of a convolution
        tensors[name.format(index)] = change(tensors[name.format(index)])

    return written(damage)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, *_: data[: len(data) // 2],
        lambda data, *_: b"",
        lambda data, *_: b"\xff" * 100,
        tensor("weights.{}", lambda value: value.sum()),  # would fill the weight by broadcasting
        tensor("weights.{}", lambda value: value.double()),
        tensor("weights.{}", lambda value: value * torch.inf),
        tensor("adam.{}.exp_avg_sq", lambda value: value[:1]),
        tensor("best.{}", lambda value: value[:1]),
        tensor("history.t", lambda value: value[:-1]),
        tensor("history.layers", lambda value: -value),
        written(lambda tensors, notes: tensors.pop("weights.3")),
        written(lambda tensors, notes: notes.pop("step")),
        entry("step", "1e9"),
        entry("step", "-1"),
        entry("step", "9"),
        entry("best_step", "7"),
        entry("run", "[]"),
        entry("run", "[" * 100_000),
        entry("skipped", "[1]"),
        entry("diversity", '{"0": []}'),
        entry("terms", "7"),
        entry("piece", "none"),
    ],
)
def test_a_damaged_file_gets_one_sentence_and_stays(generator, prior, saved, tmp_path, damage):
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved, stop=4, layers=AllLayers())
    with safe_open(saved.path, framework="pt") as file:
        notes = file.metadata()
    bad = damage(saved.path.read_bytes(), load_file(saved.path), notes, tmp_path / "bad")
    saved.path.write_bytes(bad)
    with pytest.raises(SavedTrainingError, match=r"training\.safetensors is damaged .* remove it to begin anew"):
        train(generator, prior, saved, layers=AllLayers())
    assert saved.path.read_bytes() == bad


def test_what_is_no_saved_training_is_left_alone(generator, prior, saved):
    saved.path.parent.mkdir()
    save_file({"a": torch.zeros(1)}, saved.path)
    with pytest.raises(SavedTrainingError, match="is no saved training; remove it"):
        train(generator, prior, saved)
    saved.path.unlink()
    saved.path.mkdir()
    with pytest.raises(SavedTrainingError, match="could not be read"):
        train(generator, prior, saved)


def test_a_saving_that_fails_does_not_end_the_training(generator, prior, saved, monkeypatch, caplog):
    whole = train(generator, prior)
    saved.path.parent.write_bytes(b"a file where the folder should be")
    warnings = []
    result = train_generator(
        generator, prior, settings(), REGULARIZERS, TopKLayers(2), lambda p: warnings.append(p.warning), saved
    )
    assert_same_result(result, whole)
    assert ["could not be saved at step" in (w or "") for w in warnings] == [False, False, True] * 2 + [False] * 2
    assert "free some space in" in caplog.text


def test_an_earlier_saving_stays_when_the_next_one_fails(generator, prior, saved, monkeypatch):
    seen = []

    def fill_the_disk(progress):
        if progress.step == 3:
            seen.append(saved.path.read_bytes())
            monkeypatch.setattr("os.fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    train_generator(generator, prior, settings(), REGULARIZERS, TopKLayers(2), fill_the_disk, saved)
    assert saved.path.read_bytes() == seen[0] and list(saved.path.parent.iterdir()) == [saved.path]


def test_a_step_cut_short_within_its_update_is_not_kept(generator, prior, saved, monkeypatch):
    """What Ctrl-C pressed twice can do: half of the weights are new."""
    whole, adam = train(generator, prior), torch.optim.Adam.step

    def cut_short(optimizer):
        (first,) = (group["params"][:] for group in optimizer.param_groups)
        if cut_short.steps == 5:
            with torch.no_grad():
                first[0].add_(1.0)
            raise KeyboardInterrupt
        cut_short.steps += 1
        return adam(optimizer)

    cut_short.steps = 0
    monkeypatch.setattr(torch.optim.Adam, "step", cut_short)
    with pytest.raises(TrainingInterrupted, match="ended after 3 of 8 steps") as caught:
        train(generator, prior, saved)
    kept = caught.value.result
    cut_short.steps = 0
    with pytest.raises(TrainingInterrupted, match="ended after 4 of 8 steps") as caught:
        train(generator, prior)  # saved nowhere: the best state, remembered every other step, is what is whole
    in_memory = caught.value.result
    monkeypatch.undo()
    for result in (kept, in_memory):
        with pytest.raises(TrainingInterrupted) as caught:
            train(generator, prior, stop=result.steps_done)
        for x, y in zip(result.generator.parameters(), caught.value.result.generator.parameters(), strict=True):
            assert torch.equal(x, y)
        assert len(result.history.records) == result.steps_done
    assert_same_result(train(generator, prior, saved), whole)


def test_what_no_training_could_go_on_with_is_not_saved(generator, prior, tmp_path, monkeypatch):
    """The best state comes back without Adam's moments of its time."""
    never = SavedTraining(tmp_path / "training.safetensors", every=None)
    update, whole = TrainState.update, train(generator, prior)

    def cut_short(state):
        update(state)
        if state.step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainState, "update", cut_short)
    with pytest.raises(TrainingInterrupted) as caught:
        train(generator, prior, never)
    assert caught.value.result.steps_done == 4 and not never.path.exists()
    monkeypatch.undo()
    assert_same_result(train(generator, prior, never), whole)


def test_a_measurement_of_diversity_that_was_cut_short_is_made_up_for(generator, prior, saved, monkeypatch):
    whole, samples = train(generator, prior), TrainState.samples

    def cut_short(state, count):
        if state.step == 4:
            raise KeyboardInterrupt
        return samples(state, count)

    monkeypatch.setattr(TrainState, "samples", cut_short)
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved)
    monkeypatch.undo()
    assert saved.steps_done() == 4
    resumed = train(generator, prior, saved)
    assert resumed.history.diversity.keys() == whole.history.diversity.keys()
    assert_same_result(resumed, whole)


def test_a_file_is_held_by_one_process_at_a_time(tmp_path):
    with locked(tmp_path / ".lock") as one:
        with locked(tmp_path / ".lock") as other:
            assert (one, other) == (True, False)
        with locked(tmp_path / ".lock") as other:  # whom it was refused does not let go of it
            assert not other
    assert not (tmp_path / ".lock").exists()
    with pytest.raises(Stop), locked(tmp_path / ".lock"):
        raise Stop
    with locked(tmp_path / ".lock") as again:
        assert again
