"""The panel's state: what it shows of a training, and what becomes of what is asked on it."""

import json
import math

import pytest
import torch
from comfyui_stylegan_fusion.nodes.panel import shelf
from comfyui_stylegan_fusion.nodes.panel.panel import FINISHED, RUNNING, STOPPED, Ended
from comfyui_stylegan_fusion.nodes.panel.panels import KEPT, Panels
from comfyui_stylegan_fusion.nodes.panel.shelf import EARLIER
from comfyui_stylegan_fusion.nodes.panel.shown import About
from comfyui_stylegan_fusion.sds import History, StepRecord

INPUTS = {"steps": 10, "seed": 1}


def history(steps, **spoilt):
    records = [StepRecord(step, {"sds": 1 / step}, {"t": 0.5, "layers": (1, 2)}) for step in range(1, steps + 1)]
    return History(
        [spoilt.get(f"step_{record.step}", record) for record in records], {"diversity": {0: 0.4, steps: 0.3}}
    )


def look(panel, *steps):
    for step in steps:
        panel.take_moment(step, b"jpeg", {"w": torch.full([2], float(step))} if step else {})


def trained(panel, training="a", steps=10, moments=(0, 5, 10)):
    """A training from its beginning to its end."""
    panel.begin(training, steps, 3, 0)
    look(panel, *moments)
    panel.follow(history(steps))
    panel.publish(FINISHED, step=steps)
    panel.result = steps


# What it shows


def test_a_training_that_begins_is_shown(panel, page):
    panel.begin("a", 10, 3, 0)
    (state,) = page.states
    assert state == panel.state and state["panel"] == "a key"
    assert (state["status"], state["step"], state["steps"]) == (RUNNING, 0, 10)
    assert state["curves"] == {} and state["moments"] == state["notes"] == [] and state["layers"] == [[], [], []]


def test_it_shows_what_has_happened_since(panel, page):
    panel.begin("a", 10, 3, 0)
    panel.follow(history(2))
    panel.follow(history(4))
    look(panel, 0, 4)
    panel.publish(RUNNING, step=4, seconds_left=3.0)
    state = page.states[-1]
    assert state["curves"] == {"sds": ([1, 2, 3, 4], [1, 1 / 2, 1 / 3, 1 / 4])}
    assert state["diversity"] == ([0, 2, 4], [0.4, 0.3, 0.3])
    assert state["map_steps"] == [1, 2, 3, 4] and state["layers"] == [[0.0] * 4, [1.0] * 4, [1.0] * 4]
    assert state["moments"] == [0, 4] and (state["step"], state["seconds_left"], state["steps"]) == (4, 3.0, 10)
    json.dumps(state, allow_nan=False)


def test_what_is_not_finite_or_was_skipped_is_left_out(panel):
    panel.begin("a", 10, 3, 0)
    infinite = StepRecord(2, {"sds": math.inf, "directional": 1.0}, {"t": 0.5, "layers": (1,)})
    panel.follow(history(3, step_1=StepRecord(1, notes={"t": 0.5}, skipped="the gradient"), step_2=infinite))
    panel.publish(RUNNING)
    assert panel.state["curves"] == {"directional": ([2], [1.0]), "sds": ([3], [1 / 3])}
    assert panel.state["map_steps"] == [2, 3]


def test_the_last_three_notes_stay_each_once(panel):
    panel.begin("a", 10, 3, 0)
    for text in ("one", "two", "three", "four", "three"):
        panel.note(text)
    panel.publish(RUNNING)
    assert panel.state["notes"] == ["two", "four", "three"]


def test_a_state_that_was_shown_does_not_change_later(panel, page):
    panel.begin("a", 10, 3, 0)
    before = json.dumps(page.states[-1])
    panel.follow(history(2))
    panel.note("more")
    panel.publish(RUNNING, step=2)
    assert json.dumps(page.states[0]) == before


def test_a_training_that_goes_on_loses_the_moments_that_come_after(panel):
    trained(panel)
    version = panel.moments.version
    panel.begin("a", 10, 3, 5)
    assert panel.state["step"] == 5 and panel.moments.steps == [0, 5]
    assert panel.moments.version != version, "pictures of the same steps will differ"
    assert panel.moments.weights(5)["w"].tolist() == [5.0, 5.0]
    with pytest.raises(ValueError, match="after 10 steps is gone"):
        panel.moments.weights(10)


def test_another_training_begins_without_moments_and_history(panel):
    trained(panel)
    version = panel.moments.version
    panel.begin("b", 10, 3, 0)
    assert panel.moments.steps == [] and panel.history == History() and panel.moments.version != version


# Its moments


def test_going_back_before_the_training_needs_no_weights(panel):
    look(panel, 0)
    assert panel.moments.has(0) and not panel.moments.has(1)
    assert panel.moments.picture(0) == b"jpeg" and panel.moments.picture(1) is None


def test_a_moment_whose_weights_are_gone_is_none(panel, tmp_path):
    trained(panel)
    for path in tmp_path.rglob("*000005.safetensors"):
        path.unlink()
    assert panel.moments.has(10) and not panel.moments.has(5)
    with pytest.raises(ValueError, match="after 5 steps is not kept any more"):
        panel.choose(5)


def test_a_moment_that_cannot_be_written_is_not_kept(panel, tmp_path):
    (tmp_path / "moments").write_text("no folder")
    with pytest.raises(OSError):
        look(panel, 3)
    assert panel.moments.steps == []


def test_the_moments_of_panels_are_apart_and_go_with_the_oldest_panel(panels, tmp_path):
    opened = [panels.open(str(number)) for number in range(KEPT)]
    for panel in opened:
        look(panel, 1)
    assert len(list(tmp_path.rglob("*.safetensors"))) == KEPT
    assert panels.open("0") is opened[0], "used last"
    panels.open("one more")
    assert panels.get("1") is None and panels.get("0") is opened[0]
    assert len(list(tmp_path.rglob("*.safetensors"))) == KEPT - 1


@pytest.mark.parametrize("key", ["", None, 7])
def test_without_a_key_there_is_no_panel(panels, key):
    assert panels.open(key) is None


# What is asked: the end


@pytest.mark.parametrize("step", [None, 5])
def test_the_end_that_is_asked_for_ends_the_training(panel, step):
    panel.begin("a", 10, 3, 0)
    look(panel, 0, 5)
    panel.raise_if_asked()
    panel.ask_to_end(step)
    for _ in range(2):
        with pytest.raises(Ended) as raised:
            panel.raise_if_asked()
        assert raised.value.step == step
    panel.begin("a", 10, 3, 5)  # the next one is not ended by it
    panel.raise_if_asked()


def test_only_a_training_that_runs_can_be_ended(panel):
    with pytest.raises(ValueError, match="No training is running"):
        panel.ask_to_end(None)
    trained(panel)
    with pytest.raises(ValueError, match="No training is running"):
        panel.ask_to_end(None)
    panel.begin("a", 10, 3, 0)
    with pytest.raises(ValueError, match="after 7 steps is not kept any more"):
        panel.ask_to_end(7)
    panel.publish(RUNNING, step=10)
    with pytest.raises(ValueError, match="has done its last step; choose the moment once it has finished"):
        panel.ask_to_end(None)
    panel.raise_if_asked()


# What is asked: another moment, or more steps


def run_again(panels, panel, inputs=INPUTS):
    """What the host does before each run of the node: it runs when this differs."""
    return panels.fingerprint(panel.key, inputs)


def test_the_moment_that_was_chosen_is_given_without_training(panels, panel):
    before = run_again(panels, panel)
    trained(panel)
    assert not panel.asked
    panel.choose(5)
    assert panel.asked and run_again(panels, panel) not in (before, "")
    assert panel.moment_for("a") == 5 and not panel.asked
    assert panel.moment_for("a") == 5, "also when the host has lost what the node gave"


def test_a_training_that_is_shown_gives_what_it_gave_before(panel):
    assert panel.moment_for("a") is None
    trained(panel)
    assert panel.moment_for("a") == 10
    assert panel.moment_for("b") is None


def test_going_on_trains_again(panels, panel):
    before = run_again(panels, panel)
    trained(panel)
    panel.choose(5)
    assert panel.moment_for("a") == 5
    panel.go_on()
    assert panel.asked and run_again(panels, panel) != before
    assert panel.moment_for("a") is None


def test_each_thing_that_is_asked_lets_the_node_run_again(panels, panel):
    seen = {run_again(panels, panel)}
    trained(panel)
    for step in (5, 10, 5):
        panel.choose(step)
        seen.add(run_again(panels, panel))
        assert panel.moment_for("a") == step
    assert len(seen) == 4


def test_other_inputs_run_by_themselves(panels, panel):
    run_again(panels, panel)
    trained(panel)
    panel.choose(5)
    assert run_again(panels, panel, {**INPUTS, "seed": 2}) == ""
    assert run_again(panels, panel) != ""


def test_what_is_asked_of_a_training_is_not_done_to_another(panels, panel, page):
    before = run_again(panels, panel)
    trained(panel)
    panel.choose(5)
    run_again(panels, panel, {**INPUTS, "seed": 2})
    with pytest.raises(ValueError, match="before an input was changed"):
        panel.moment_for("b")
    assert "before an input was changed" in page.states[-1]["problem"] and page.states[-1]["status"] == FINISHED
    assert panel.moments.steps == [0, 5, 10] and not panel.asked
    assert panel.moment_for("b") is None, "once more: it trains"
    assert run_again(panels, panel) == before, "with the inputs as they were, what the node gave stands"


def test_a_panel_of_several_trainings_does_not_go_back_in_one(panel, page):
    trained(panel, "a")
    trained(panel, "b")
    for ask in (lambda: panel.choose(5), panel.go_on):
        with pytest.raises(ValueError, match="more than once in one run"):
            ask()
    page.prompt = "the next run"
    trained(panel, "b")
    panel.choose(5)
    assert panel.moment_for("b") == 5


def test_a_host_that_names_no_runs_has_no_several(panel, page):
    page.prompt = ""
    trained(panel, "a")
    trained(panel, "b")
    panel.choose(5)


def test_what_keeps_a_run_from_training_is_told_and_the_training_before_stays(panels, panel, page):
    with pytest.raises(ValueError), panels.showing_refusals("a key"):
        raise ValueError("nothing is shown yet")
    assert page.states == []
    trained(panel)
    panel.publish(STOPPED)
    with pytest.raises(ValueError), panels.showing_refusals("a key"):
        raise ValueError("the prompt is empty")
    assert page.states[-1]["problem"] == "The last run did not train: the prompt is empty."
    assert page.states[-1]["status"] == STOPPED and panel.moments.steps == [0, 5, 10]
    with panels.showing_refusals("a key"):
        pass
    with pytest.raises(KeyError), panels.showing_refusals(None):
        raise KeyError("no panel")


# Errors that are solved


def taken(panels):
    with panels.showing_refusals("a key"):
        pass


def refused(panels):
    with pytest.raises(ValueError), panels.showing_refusals("a key"):
        raise ValueError("the prompt is empty")


def test_what_kept_a_run_from_training_is_said_until_the_next_run(panels, panel, page):
    trained(panel)
    for solve in (
        lambda: run_again(panels, panel),  # also when the host has what the node gave
        lambda: taken(panels),
        lambda: trained(panel, "b"),
    ):
        refused(panels)
        assert panel.state["problem"]
        solve()
        assert panel.state["problem"] == page.states[-1]["problem"] == ""


def test_warnings_are_apart_from_notes_and_go_with_the_training(panel):
    panel.begin("a", 10, 3, 0)
    panel.warn("alike")
    panel.publish(RUNNING)
    assert panel.state["warnings"] == ["alike"] and panel.state["notes"] == []
    panel.begin("a", 10, 3, 0)
    assert panel.state["warnings"] == []


# A moment after inputs were changed


def about(training, length="any length", generator="a generator"):
    return About(training, length, generator, f"a portrait of {training}", {"steps": "10"}, {"prompt": training})


def told(panel, training, **which):
    """A training that says what it is, from its beginning to its end."""
    panel.begin(training, 10, 3, 0, about(training, **which))
    look(panel, 0, 5, 10)
    panel.follow(history(10))
    panel.publish(FINISHED, step=10)
    panel.passes_on(10)


def test_a_moment_does_not_depend_on_how_many_steps_were_to_come(panels, panel):
    run_again(panels, panel)
    told(panel, "a")
    panel.choose(5)
    before = run_again(panels, panel, {**INPUTS, "steps": 20})
    assert panel.moment_for("of 20 steps", "any length", "a generator") == 5
    assert panel.given is panel.shown and panel.given.about.metadata == {"prompt": "a"}
    assert run_again(panels, panel, {**INPUTS, "steps": 20}) != before, "the next run trains with these inputs"
    assert panel.moment_for("of 20 steps", "any length", "a generator") is None


def test_a_moment_is_given_all_the_same_once_that_is_said(panels, panel, page):
    told(panel, "a")
    panel.choose(5)
    with pytest.raises(ValueError, match="before an input was changed"):
        panel.moment_for("b", "another", "a generator")
    assert page.states[-1]["offers_to_keep"]
    panel.choose(5, whatever=True)
    assert panel.moment_for("b", "another", "a generator") == 5
    assert panel.given.about.training == "a"


def test_a_moment_is_not_given_to_another_generator(panel):
    told(panel, "a")
    panel.choose(5, whatever=True)
    with pytest.raises(ValueError, match="of another generator"):
        panel.moment_for("b", "another", "another generator")


# Further steps


def test_a_finished_training_is_trained_further(panel):
    told(panel, "a")
    with pytest.raises(ValueError, match="not kept any more"):
        panel.train_more()
    panel.shown.saved_state.write_bytes(b"")
    panel.train_more()
    assert panel.moment_for("of 20 steps", "any length") is None and panel.extends
    panel.begin("of 20 steps", 20, 3, 10, about("of 20 steps"))
    assert panel.moments.steps == [0, 5, 10] and panel.training == "of 20 steps" and panel.earlier == []


@pytest.mark.parametrize("inputs", [("a", "any length"), ("b", "another")])
def test_a_training_is_not_trained_further_with_the_same_steps_or_other_inputs(panel, inputs):
    told(panel, "a")
    panel.shown.saved_state.write_bytes(b"")
    panel.train_more()
    with pytest.raises(ValueError, match=r"has done all of its steps|before an input was changed"):
        panel.moment_for(*inputs)
    assert not panel.extends


# Earlier trainings, and after a restart


def test_earlier_trainings_are_listed_and_can_be_gone_back_to(panel, page):
    told(panel, "a")
    page.prompt = "the next run"
    told(panel, "b")
    (summary,) = page.states[-1]["earlier"]
    assert summary["prompt"] == "a portrait of a" and summary["moment"] == 10 and summary["step"] == 10
    earlier = panel.of(summary["training"])
    assert earlier.moments.steps == [0, 5, 10] and earlier.moments.pictures_alone == [5]
    panel.choose(10, earlier)
    assert panel.moment_for("b", "any length", "a generator") == 10
    assert panel.given is earlier and earlier.moments.weights(10)["w"].tolist() == [10.0, 10.0]
    with pytest.raises(ValueError, match="after 5 steps is not kept any more"):
        panel.choose(5, earlier)
    panel.forget(earlier)
    assert page.states[-1]["earlier"] == [] and not earlier.folder.exists()
    with pytest.raises(ValueError, match="latest training"):
        panel.forget(panel.shown)


def test_no_more_earlier_trainings_are_kept_than_the_list_shows(panel, tmp_path):
    for number in range(EARLIER + 3):
        told(panel, f"training {number}")
    assert len(panel.earlier) == EARLIER
    assert len(list(tmp_path.glob("moments/*"))) == EARLIER + 1


def test_a_training_that_is_repeated_is_listed_once(panel):
    for training in ("a", "b", "a"):
        told(panel, training)
    assert [one.about.training for one in panel.earlier] == ["b"]


@pytest.fixture
def restarted(page, tmp_path):
    """A function that finds the panel as another process of the host would."""
    return lambda: Panels(page, lambda: tmp_path / "moments").get("a key")


def test_a_panel_is_found_again_after_a_restart(panel, restarted):
    told(panel, "a")
    panel.publish(FINISHED, kept=5)
    told(panel, "b")
    found = restarted()
    assert json.dumps(found.state) == json.dumps(panel.state) and found.history == panel.history
    assert found.moment_for("b", "any length") == 10, "what it gave it gives again, without training"
    assert found.moments.picture(5) == b"jpeg" and found.moments.weights(5)["w"].tolist() == [5.0, 5.0]
    assert [one.about.training for one in found.earlier] == ["a"]
    found.choose(5)
    assert found.moment_for("b", "any length") == 5


def test_a_panel_that_trains_stays_whatever_else_is_looked_at(panels):
    training = panels.open("training")
    training.begin("a", 10, 3, 0)
    for number in range(KEPT + 2):
        panels.open(str(number))
    assert panels.get("training") is training


def test_a_training_in_which_the_host_ended_says_so(panel, restarted):
    panel.begin("a", 10, 3, 0, about("a"))
    look(panel, 0, 5)
    panel.publish(RUNNING, step=5, seconds_left=3.0)
    state = restarted().state
    assert state["status"] == "interrupted" and state["seconds_left"] is None and state["moments"] == [0, 5]


def test_what_is_damaged_on_disk_is_left_out(panel, restarted, tmp_path):
    told(panel, "a")
    (notes,) = tmp_path.rglob("training.json")
    for text in ("", "{}", "[]", '{"panel": 7}'):
        notes.write_text(text)
        assert restarted() is None


def test_the_oldest_trainings_make_room(panels, tmp_path, monkeypatch):
    told(panels.open("first"), "a")
    told(panels.open("second"), "b")
    one = panels.get("second").shown.bytes
    monkeypatch.setattr(shelf, "TOTAL_BYTES", 2 * one)
    told(panels.open("third"), "c")
    told(panels.open("fourth"), "d")
    taken = {path.parent.name for path in tmp_path.rglob("*.safetensors")}
    assert panels.get("fourth").shown.folder.name in taken and panels.get("fourth").moments.has(5)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.*")) <= 3 * one
