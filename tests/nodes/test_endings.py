"""How a training on a node ends: what is kept, what the node says, and what its panel shows."""

import dataclasses

import pytest
import torch
from comfyui_stylegan_fusion.nodes.adapt.endings import keep_latest
from comfyui_stylegan_fusion.nodes.adapt.run import TrainingRun
from comfyui_stylegan_fusion.nodes.adapt.unfinished import unfinished_training
from comfyui_stylegan_fusion.nodes.panel import panel_report
from comfyui_stylegan_fusion.nodes.panel.shown import About
from comfyui_stylegan_fusion.sds import AllLayers, collapse, train_generator
from comfyui_stylegan_fusion.stylegan import load_generator, read_metadata
from running import Cancel, Plain
from trainings import assert_same_weights, settings, small_generator

STEPS = 4
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
GRAPH = {"train": {"class_type": "StyleGANFusionTrainGenerator", "inputs": {"seed": 0}}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "output" / "stylegan"


@pytest.fixture
def run(panel, node, folder, monkeypatch):
    """A run of a node with a panel, which saves after every step and has time for a moment after each but the first."""
    monkeypatch.setattr(panel_report, "SHARE", 1000.0)
    generator = small_generator()
    return TrainingRun(
        generator=generator,
        prior=Plain(torch.device("cpu")),
        settings=settings(steps=STEPS, batch_size=1),
        terms=(),
        layers=AllLayers(),
        metadata={"seed": "0", "prompt": "a fox"},
        unfinished=unfinished_training(folder, GRAPH, "train", 1, (), "seed", "what came"),
        samples=2,
        panel=panel,
        node=node,
        folder=folder,
    )


def again(run, **changes):
    """The next run of the same node."""
    run.node.cancel_after, run.node.at_step, run.prior.evaluations, run.prior.faults = None, {}, 0, {}
    return dataclasses.replace(run, **changes)


def trained(run, steps=STEPS):
    """The generator as trained for so many steps, without a node."""
    if steps == 0:
        return run.generator
    prior = Plain(run.prior.device)
    return train_generator(run.generator, prior, dataclasses.replace(run.settings, steps=steps)).generator


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))


def recovered(folder):
    return folder / "recovered_00001.safetensors"


def drawing_fails(node, number, error):
    """Let a look at the generators fail, counted from 1: before and after the training."""
    looks = []

    def retry(body):
        looks.append(True)
        if len(looks) == number:
            raise error
        return body()

    node.retry_without_models = retry


def test_a_finished_training_is_kept_as_the_latest_and_leaves_nothing_unfinished(run, folder, panel, node):
    result, metadata, before, after = run()
    assert before.shape == after.shape == (2, 3, 32, 32) and not torch.equal(before, after)
    assert metadata == run.metadata and not result.interrupted
    assert names(folder) == ["latest.safetensors"]
    assert_same_weights(load_generator(folder / "latest.safetensors"), result.generator)
    assert (panel.state["status"], panel.state["step"], panel.result) == ("finished", STEPS, STEPS)
    assert node.bars[-1] == (STEPS, STEPS) and node.unloaded == 0


def test_a_panel_costs_the_weights_nothing(run):
    assert_same_weights(run()[0].generator, trained(run))


def test_a_cancelled_training_is_kept_and_goes_on_to_the_same_weights(run, folder, panel, node):
    node.cancel_after = 2
    with pytest.raises(Cancel):
        run()
    shown = panel.state
    assert (shown["status"], shown["step"], shown["notes"]) == (
        "cancelled",
        2,
        [
            "The generator as trained for 2 steps is in output/stylegan/recovered_00001.safetensors; Load StyleGAN2 loads "
            "it. Run the same graph again, with seed 0, to go on from step 2."
        ],
    )
    assert read_metadata(recovered(folder))["steps_done"] == "2" and node.unloaded == 0

    result, *_ = again(run)()
    assert any("went on from step 2" in note for note in panel.state["notes"])
    assert panel.state["status"] == "finished" and run.prior.evaluations == STEPS - 2
    assert_same_weights(result.generator, trained(run))
    assert names(folder) == ["latest.safetensors", "recovered_00001.safetensors"]


def test_without_a_panel_the_node_says_so(run, node):
    node.cancel_after = 2
    with pytest.raises(Cancel):
        dataclasses.replace(run, panel=None)()
    assert node.texts[-1].endswith("Run the same graph again, with seed 0, to go on from step 2.")
    node.texts.clear()
    again(run, panel=None)()
    assert any("went on from step 2" in text for text in node.texts)


def test_a_training_that_is_cancelled_at_once_says_so(run, folder, panel, node):
    drawing_fails(node, 1, Cancel())
    with pytest.raises(Cancel):
        run()
    assert (panel.state["status"], panel.state["notes"]) == ("cancelled", ["Nothing was trained yet."])
    assert names(folder) == []


def test_a_training_that_fails_is_kept(run, folder, panel):
    run.prior.faults[2] = ValueError("the model is gone")
    with pytest.raises(RuntimeError) as raised:
        run()
    said = str(raised.value)
    assert said == (
        "The training ended after 2 of 4 steps: the model is gone. The generator as trained for 2 steps is in "
        "output/stylegan/recovered_00001.safetensors; Load StyleGAN2 loads it. Run the same graph again, with seed 0, to "
        "go on from step 2."
    )
    assert isinstance(raised.value.__cause__, ValueError)
    assert (panel.state["status"], panel.state["notes"]) == ("failed", [said])
    assert_same_weights(again(run)()[0].generator, trained(run))


def test_what_fails_at_first_is_raised_as_it_is(run, folder, panel):
    run.prior.faults[0] = ValueError("the model is gone")
    with pytest.raises(ValueError, match=r"^the model is gone$"):
        run()
    assert (panel.state["status"], panel.state["notes"]) == ("failed", ["the model is gone."])
    assert names(folder) == []


def test_a_damaged_unfinished_training_is_named_with_what_to_do(run, panel, node):
    node.cancel_after = 2
    with pytest.raises(Cancel):
        run()
    path = run.unfinished.saved.path
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RuntimeError, match=r'is damaged .* Or set when_unfinished to "start over"\.'):
        again(run)()
    assert panel.state["status"] == "failed"
    run.unfinished.start_over()
    assert_same_weights(again(run)()[0].generator, trained(run))


def test_when_memory_runs_out_what_was_trained_is_kept_and_models_make_way(run, folder, panel, node):
    run.prior.faults = dict.fromkeys(range(1, 99), FULL)
    with pytest.raises(RuntimeError) as raised:
        run()
    said = str(raised.value)
    assert said.startswith("Out of memory with one image at a time (CUDA out of memory. Tried to allocate 2 GiB.).")
    assert "Starting ComfyUI with --lowvram helps, too. Other settings begin a new training." in said
    assert "trained for 1 step is in output/stylegan/recovered_00001.safetensors" in said
    assert (panel.state["status"], panel.state["notes"][-1]) == ("failed", said)
    assert node.unloaded == 1 and recovered(folder).exists()


def test_memory_that_runs_out_before_the_first_step_gets_a_sentence(run, folder, panel, node):
    drawing_fails(node, 1, FULL)
    with pytest.raises(
        RuntimeError, match=r"^Out of memory before the first step \(CUDA out .* GiB\)\. Choose a smaller"
    ):
        run()
    assert panel.state["status"] == "failed" and node.unloaded == 1 and names(folder) == []


def test_a_training_that_diverged_is_kept_and_does_not_go_on(run, folder, panel):
    run.prior.faults = dict.fromkeys(range(2, 99), float("nan"))
    diverging = dataclasses.replace(run, settings=dataclasses.replace(run.settings, max_skipped_in_a_row=2))
    with pytest.raises(RuntimeError, match="was not finite in 2 steps in a row") as raised:
        diverging()
    assert "recovered_00001.safetensors" in str(raised.value) and "to go on from" not in str(raised.value)
    assert panel.state["status"] == "failed"


@pytest.mark.parametrize("moment", [None, 0, 2])
def test_a_training_stopped_on_the_panel_gives_the_moment_that_was_chosen(run, folder, panel, node, moment):
    node.at_step = {3: lambda: panel.ask_to_end(moment)}
    result, metadata, *_ = run()
    given = 3 if moment is None else moment
    said = "Stopped after 3 of 4 steps and kept."
    said += "" if moment is None else f" The generator is the one after {moment} steps."
    shown = panel.state
    assert (shown["status"], shown["step"], shown["kept"], shown["notes"]) == ("stopped", 3, given, [said])
    assert metadata["steps_done"] == str(given) and result.steps_done == given and result.interrupted
    assert len(result.history.records) == given and panel.result == given
    assert_same_weights(result.generator, trained(run, given))
    # And on from where it was stopped, to the end.
    panel.go_on()
    assert_same_weights(again(run)()[0].generator, trained(run))


def test_a_moment_that_was_chosen_is_given_without_training(run, folder, panel):
    finished, *_ = run()
    latest = (folder / "latest.safetensors").read_bytes()
    panel.choose(2)
    result, metadata, *_ = again(run, samples=3)()
    assert run.prior.evaluations == 0 and metadata["steps_done"] == "2" and result.interrupted
    assert (panel.state["status"], panel.state["kept"]) == ("finished", 2)
    assert (folder / "latest.safetensors").read_bytes() == latest, "the moment can be chosen again"
    panel.choose(STEPS)
    result, metadata, *_ = again(run)()
    assert "steps_done" not in metadata
    assert_same_weights(result.generator, finished.generator)


def test_a_moment_that_is_gone_when_the_training_is_stopped_leaves_it_as_it_is(run, panel, node, tmp_path):
    def ask():
        panel.ask_to_end(2)
        for path in (tmp_path / "moments").rglob("000002.safetensors"):
            path.unlink()

    node.at_step = {3: ask}
    result, *_ = run()
    assert result.steps_done == panel.state["kept"] == 3
    (said,) = panel.state["notes"]
    assert said.startswith("Stopped after 3 of 4 steps and kept. What was trained after 2 steps is gone")


def test_pictures_that_cannot_be_drawn_do_not_lose_the_training(run, folder, panel, node):
    drawing_fails(node, 2, FULL)
    with pytest.raises(RuntimeError) as raised:
        run()
    said = str(raised.value)
    assert said == (
        "The pictures could not be drawn: CUDA out of memory. Tried to allocate 2 GiB. The generator as trained for 4 "
        "steps is in output/stylegan/recovered_00001.safetensors; Load StyleGAN2 loads it."
    )
    assert (panel.state["status"], panel.state["step"], panel.state["notes"]) == ("failed", STEPS, [said])
    assert read_metadata(recovered(folder))["steps_done"] == "4"


def test_the_latest_generator_and_the_one_before_stay(folder):
    first, second = small_generator(), small_generator()
    with torch.no_grad():
        next(second.parameters()).add_(1)
    for generator in (first, second):
        keep_latest(folder, generator, {})
    assert_same_weights(load_generator(folder / "latest.safetensors"), second)
    assert_same_weights(load_generator(folder / "latest-but-one.safetensors"), first)


def test_a_generator_that_cannot_be_kept_as_the_latest_is_no_failure(folder, caplog):
    folder.parent.mkdir(parents=True)
    folder.write_text("no folder")
    keep_latest(folder, small_generator(), {})
    assert "is not kept as latest.safetensors" in caplog.text


def test_another_seed_that_waits_is_named(run, folder, node):
    node.cancel_after = 2
    with pytest.raises(Cancel):
        run()
    other = {"train": {**GRAPH["train"], "inputs": {"seed": 7}}}
    unfinished = unfinished_training(folder, other, "train", 1, (), "seed", "what came")
    assert unfinished.other_seeds() == {0: 2}
    again(run, unfinished=unfinished, panel=None, settings=dataclasses.replace(run.settings, seed=7))()
    said = "With seed 0 this training ended at step 2; give that seed to go on with it."
    assert any(said in text for text in node.texts)


def test_a_graph_that_is_numbered_otherwise_is_the_same_training(folder):
    graph = {**GRAPH, "train": {**GRAPH["train"], "inputs": {"seed": 0, "generator": ["load", 0]}}}
    graph["load"] = {"class_type": "StyleGANFusionLoadGenerator", "inputs": {"file": "a.pkl"}}
    other = {"8": graph["load"], "9": {**graph["train"], "inputs": {"seed": 0, "generator": ["8", 0]}}}
    paths = [
        unfinished_training(folder, given, node, None, (), "seed", came).saved.path
        for given, node, came in [(graph, "train", "a"), (other, "9", "a"), (graph, "train", "b")]
    ]
    assert paths[0] == paths[1] != paths[2] and paths[0].parent == folder / "unfinished"


def about(run, **changes):
    return About(
        run.unfinished.saved.identity, "of any length", "a generator", "a fox", {}, {**run.metadata, **changes}
    )


def longer(run, steps):
    """The run of the same node with another number of steps."""
    graph = {"train": {**GRAPH["train"], "inputs": {"seed": 0, "steps": steps}}}
    unfinished = unfinished_training(run.folder, graph, "train", 1, (), "seed", f"what came with {steps} steps")
    changed = again(run, settings=dataclasses.replace(run.settings, steps=steps), unfinished=unfinished)
    return dataclasses.replace(changed, about=about(changed, steps=str(steps)))


def test_trainings_that_differ_by_their_steps_alone_are_told_from_others(folder):
    def place(length_fingerprint="alike", **inputs):
        graph = {"train": {**GRAPH["train"], "inputs": {"seed": 0, **inputs}}}
        found = unfinished_training(folder, graph, "train", 1, (), "seed", "", length_fingerprint=length_fingerprint)
        return found.of_any_length, found.saved.identity

    assert place(steps=1)[0] == place(steps=2)[0] and place(steps=1)[1] != place(steps=2)[1]
    assert len({place(steps=1)[0], place(steps=1, batch_size=2)[0], place("else", steps=1)[0]}) == 3


def test_a_finished_training_that_gets_further_steps_ends_as_if_it_had_had_them(run, folder, panel, page):
    dataclasses.replace(run, about=about(run))()
    assert panel.state["can_train_more"]
    panel.train_more()
    page.prompt = "the next run"
    more = longer(run, STEPS + 2)
    result, *_ = more()
    assert more.prior.evaluations == 2 and result.steps_done == STEPS + 2
    assert_same_weights(result.generator, trained(more, STEPS + 2))
    assert panel.state["moments"][-1] == STEPS + 2 and STEPS in panel.state["moments"] and panel.earlier == []
    assert names(folder) == ["latest-but-one.safetensors", "latest.safetensors"]
    panel.choose(STEPS)
    assert_same_weights(again(more)()[0].generator, trained(run))


def test_a_moment_is_given_after_the_steps_were_changed(run, panel):
    dataclasses.replace(run, about=about(run, steps="as it was"))()
    panel.choose(2)
    more = longer(run, STEPS + 2)
    result, metadata, *_ = more()
    assert more.prior.evaluations == 0 and (metadata["steps"], metadata["steps_done"]) == ("as it was", "2")
    assert_same_weights(result.generator, trained(run, 2))
    assert "Run it once more to train" in panel.state["notes"][-1] and panel.state["kept"] == 2
    assert again(more)()[0].steps_done == STEPS + 2


@pytest.mark.parametrize("shown", [True, False])
def test_a_training_whose_images_become_alike_stops_where_that_is_asked(run, folder, panel, monkeypatch, shown):
    measured = iter((0.5, 0.5, 0.1))
    monkeypatch.setattr(collapse, "diversity", lambda images: next(measured))
    settings = dataclasses.replace(run.settings, steps=8, diversity_every=2, when_collapsed="stop")
    run = dataclasses.replace(run, settings=settings, panel=panel if shown else None)
    result, metadata, *_ = run()
    monkeypatch.undo()
    assert (result.steps_done, result.interrupted, metadata["steps_done"]) == (2, True, "2")
    assert_same_weights(result.generator, trained(run, 2))
    said = (
        "Stopped after 4 of 8 steps: the images have become alike. The generator is the one after 2 steps, before that."
    )
    if not shown:
        assert said in run.node.texts
        return
    assert (panel.state["status"], panel.state["step"], panel.state["kept"]) == ("stopped", 4, 2)
    assert panel.state["notes"] == [said]
    assert panel.state["warnings"][0].startswith("The images are becoming alike: at step 4")
    assert panel.moments.has(2)
    panel.go_on()
    assert_same_weights(again(run)()[0].generator, trained(run, 8))


def test_what_should_be_known_is_said_before_the_training(run, panel):
    seen = []
    run.node.at_step = {1: lambda: seen.extend(panel.state["warnings"])}
    dataclasses.replace(run, warnings=("the prompt is empty",))()
    assert seen == ["the prompt is empty"] and panel.state["notes"] == []
