"""Savings that fail, are cut short or damaged: what is trained stays, and a sentence says what happened."""

import json
import os

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    AllLayers,
    SavedTraining,
    SavedTrainingError,
    TopKLayers,
    TrainingInterrupted,
    train_generator,
)
from comfyui_stylegan_fusion.sds.snapshots import Snapshots
from comfyui_stylegan_fusion.training.phases import Phase
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from saved_trainings import REGULARIZERS, assert_same_result, settings, train


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


def written(change):
    def damage(data, tensors, notes, path):
        change(tensors, notes)
        save_file(tensors, path, notes)
        return path.read_bytes()

    return damage


def entry(name, value):
    return written(lambda tensors, notes: notes.update({name: value}))


def within(note, *path):
    """A change of one value within a note that is JSON."""
    *path, (name, value) = path

    def damage(tensors, notes):
        content = place = json.loads(notes[note])
        for key in path:
            place = place[key]
        place[name] = value
        notes[note] = json.dumps(content)

    return written(damage)


def renamed(before, after):
    return written(lambda tensors, notes: tensors.update({after: tensors.pop(before)}))


def tensor(name, change):
    def damage(tensors, notes):
        index = next(i for i in range(len(tensors)) if tensors[f"generator.weights.{i}"].ndim == 4)  # of a convolution
        tensors[name.format(index)] = change(tensors[name.format(index)])

    return written(damage)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, *_: data[: len(data) // 2],
        lambda data, *_: b"",
        lambda data, *_: b"\xff" * 100,
        tensor("generator.weights.{}", lambda value: value.sum()),  # would fill the weight by broadcasting
        tensor("generator.weights.{}", lambda value: value.double()),
        tensor("generator.weights.{}", lambda value: value * torch.inf),
        tensor("generator.optimizer.{}.exp_avg_sq", lambda value: value[:1]),
        tensor("best.{}", lambda value: value[:1]),
        tensor("history.notes.t", lambda value: value[:-1]),
        tensor("history.notes.layers", lambda value: -value),
        written(lambda tensors, notes: tensors.pop("generator.weights.3")),
        written(lambda tensors, notes: notes.pop("step")),
        entry("step", "1e9"),
        entry("step", "-1"),
        entry("step", "9"),
        within("kept", "best", ("step", 0)),
        within("kept", "best", ("step", -1)),
        within("kept", ("best", [])),
        renamed("generator.optimizer.2.exp_avg", "generator.optimizer.2.exp_awg"),
        entry("run", "[]"),
        entry("run", "[" * 100_000),
        within("history", ("skipped", [1])),
        within("history", ("measured", {"diversity": {"0": []}})),
        within("history", ("losses", 7)),
        within("history", ("notes", {"t": "number", "none": "number"})),
        within("kept", "memory", ("micro_batch", "none")),
        entry("kept", "{}"),
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
    update, whole = Phase.update, train(generator, prior)

    def cut_short(phase, outcome, step):
        update(phase, outcome, step)
        if step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Phase, "update", cut_short)
    with pytest.raises(TrainingInterrupted) as caught:
        train(generator, prior, never)
    assert caught.value.result.steps_done == 4 and not never.path.exists()
    monkeypatch.undo()
    assert_same_result(train(generator, prior, never), whole)


def test_a_measurement_of_diversity_that_was_cut_short_is_made_up_for(generator, prior, saved, monkeypatch):
    whole, samples, looks = train(generator, prior), Snapshots.samples, []

    def cut_short(snapshots, count):
        looks.append(count)
        if len(looks) == 3:  # at step 4
            raise KeyboardInterrupt
        return samples(snapshots, count)

    monkeypatch.setattr(Snapshots, "samples", cut_short)
    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved)
    monkeypatch.undo()
    assert saved.steps_done() == 4
    resumed = train(generator, prior, saved)
    assert resumed.history.diversity.keys() == whole.history.diversity.keys()
    assert_same_result(resumed, whole)
