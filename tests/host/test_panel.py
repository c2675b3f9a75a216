"""The live panel on Train Generator, in ComfyUI's page: it shows a training, ends it, and goes back to earlier moments."""

import json
import time
import urllib.error

import pytest
from panel_page import KEYS, TITLE, button, ended, says, state, trained_past_a_moment, training, wait_for
from safetensors import safe_open

PLAIN_TITLES = ("How far from the prompt", "How different from before, in direction", "How different the images are")

CONTRAST = """element => {
    const numbers = colour => {
        const canvas = document.createElement("canvas").getContext("2d");
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    let place = element, behind = numbers(getComputedStyle(element).backgroundColor);
    while (behind[3] < 255 && (place = place.parentElement)) behind = numbers(getComputedStyle(place).backgroundColor);
    if (behind[3] < 255) behind = numbers(window.LiteGraph.NODE_DEFAULT_BGCOLOR);
    const [low, high] = [luminance(numbers(getComputedStyle(element).color)), luminance(behind)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
}"""


def latest_saved(host) -> dict:
    """Metadata of what the graph has saved last."""
    found = sorted((host.output / "stylegan").glob("panel_*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    assert found, host.log[-3000:]
    path = found[-1]
    with safe_open(path, framework="pt") as file:
        return {**file.metadata(), "weights": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118


def refusal(host, path, body) -> str:
    with pytest.raises(urllib.error.HTTPError) as raised:
        host.post(path, body)
    assert raised.value.code == 400
    return json.load(raised.value)["error"]


def test_stopping_keeps_what_was_trained_and_the_graph_goes_on(host, opened):
    page = opened(400)
    page.queue()
    seen = wait_for(page, trained_past_a_moment)
    assert seen["status"] == "running" and seen["steps"] == 400 and seen["seconds_left"] > 0
    panel = page.node_element(TITLE)
    says(page, "Training", "of 400", "left")
    # By the keyboard, as everything here.
    button(page, "Stop and keep").focus()
    page.keyboard.press("Enter")
    stopped = wait_for(page, ended)
    assert stopped["status"] == "stopped" and seen["step"] <= stopped["step"] < 400
    page.wait_until_idle()
    saved = latest_saved(host)
    assert saved["steps_done"] == str(stopped["step"])

    # Back to an earlier moment.
    moment = stopped["moments"][1]
    panel.get_by_role("slider").focus()
    page.keyboard.press("Home")
    says(page, "Before training")
    assert button(page, "Keep this moment").is_disabled()
    page.keyboard.press("ArrowRight")
    says(page, f"After {moment} step")
    button(page, "Keep this moment").press("Enter")
    wait_for(page, lambda found: found.get("kept") == moment)
    page.wait_until_idle()
    earlier = latest_saved(host)
    assert earlier["steps_done"] == str(moment)
    assert any((earlier["weights"][name] != value).any() for name, value in saved["weights"].items())
    says(page, "kept")

    # And on again from where it was stopped.
    button(page, f"Go on from step {stopped['step']}").press("Enter")
    on = wait_for(page, lambda found: found.get("status") == "running" and found["step"] > stopped["step"])
    assert f"went on from step {stopped['step']}" in " ".join(on["notes"])
    button(page, "Stop and keep").press("Enter")
    wait_for(page, ended)
    page.wait_until_idle()
    assert not page.errors


def test_it_survives_another_workflow_and_reloading_the_page(page, opened):
    page.set_setting("Comfy.Workflow.Persist", True)
    try:
        opened(400)
        page.queue()
        key = wait_for(page, lambda found: found.get("step", 0) >= 2)["panel"]
        page.open({"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "version": 0.4})
        assert page.evaluate(KEYS) == []
        page.go_back()
        page.look_at(TITLE)
        page.node_element(TITLE).get_by_text("Training", exact=True).wait_for()
        page.pause(1500)  # until the page has noted what is open
        page.reload()
        page.look_at(TITLE)
        page.node_element(TITLE).get_by_text("Training", exact=True).wait_for()
        assert page.evaluate(KEYS) == [key]
        before = state(page)["step"]
        wait_for(page, lambda found: found["step"] > before)
        # What arrives by itself after the reload.
        page.node_element(TITLE).get_by_role("status").wait_for()
        button(page, "Stop and keep").press("Enter")
        assert wait_for(page, ended)["status"] == "stopped"
        page.node_element(TITLE).get_by_text("Stopped and kept", exact=True).wait_for()
        page.wait_until_idle()
    finally:
        page.set_setting("Comfy.Workflow.Persist", False)


def test_several_trainings_in_one_graph_do_not_mix(page, opened):
    opened(4, (TITLE, "Other"))
    assert len(set(page.evaluate(KEYS))) == 2
    page.queue()
    first = wait_for(page, ended)
    second = wait_for(page, ended, "Other")
    page.wait_until_idle()
    assert first["status"] == second["status"] == "finished"
    assert first["panel"] != second["panel"] and first["curves"] != second["curves"]
    assert len(first["curves"]["sds"][0]) == len(second["curves"]["sds"][0]) == 4
    for title in (TITLE, "Other"):
        says(page, "step 4 of 4", title=title)


def test_a_copy_of_a_node_has_a_panel_of_its_own(page, opened):
    opened(4)
    page.evaluate(
        """title => {
            const node = window.app.graph.nodes.find(n => n.title === title);
            window.app.canvas.copyToClipboard([node]);
            window.app.canvas.pasteFromClipboard();
        }""",
        TITLE,
    )
    page.pause(500)
    keys = page.evaluate(KEYS)
    assert len(keys) == len(set(keys)) == 2


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_everything_is_named_and_can_be_read(page, opened, theme):
    opened(12)
    page.queue()
    wait_for(page, ended)
    page.wait_until_idle()
    page.set_theme(theme)
    try:
        page.look_at(TITLE)
        says(page, "step 12 of 12")
        panel = page.node_element(TITLE)
        assert panel.get_attribute("aria-label") == "Training" and panel.get_attribute("role") == "group"
        assert panel.get_by_role("slider", name="Moment of the training").get_attribute("aria-valuetext")
        assert panel.get_by_role("progressbar", name="Progress of the training").get_attribute("aria-valuenow") == "100"
        assert panel.get_by_role("img", name="Samples after 12 steps").count() == 1
        charts = [panel.get_by_role("img", name=name) for name in PLAIN_TITLES]
        assert all(chart.count() == 1 and "now" in chart.get_attribute("aria-label") for chart in charts)
        assert panel.get_by_role("img", name="Most often trained").count() == 1
        for text in [panel.get_by_role("status"), *panel.locator("figcaption").all(), *panel.locator(".numbers").all()]:
            assert text.evaluate(CONTRAST) >= 4.5, text.inner_text()
        button(page, "Keep this moment").focus()
        page.keyboard.press("Tab")
        assert not page.errors
    finally:
        page.set_theme("dark")


def test_what_cannot_be_done_is_refused_with_a_sentence(host):
    graph = training(steps=1)
    graph["train"]["inputs"]["panel"] = "by a program"
    assert host.run(graph).succeeded
    shown = host.get("/stylegan_fusion/panels/by%20a%20program")
    assert shown["status"] == "finished" and shown["moments"] == [0, 1]
    assert host.get("/stylegan_fusion/panels/unknown") == {}
    assert "no training" in refusal(host, "/stylegan_fusion/panels/unknown", {"action": "end"})
    for asked, sentence in [
        ({"action": "end"}, "No training is running"),
        ({"action": "choose", "step": 7}, "is not kept any more"),
        ({"action": "choose"}, "There is nothing that"),
        ({"action": "choose", "step": "../1"}, "no training"),
        ({}, "action"),
    ]:
        body = {"training": shown["training"], **asked}
        assert sentence in refusal(host, "/stylegan_fusion/panels/by%20a%20program", body)


def test_a_moment_whose_weights_are_gone_is_said_to_be_gone(host):
    graph = training(steps=2, **{"train.panel": "emptied"})
    assert host.run(graph).succeeded
    for path in (host.output / "stylegan" / "moments").rglob("*.safetensors"):
        path.unlink()
    asked = {"action": "choose", "step": 2, "training": host.get("/stylegan_fusion/panels/emptied")["training"]}
    assert "is not kept any more" in refusal(host, "/stylegan_fusion/panels/emptied", asked)
    assert host.run(graph).succeeded


def choose(host, panel: str, **asked) -> None:
    shown = host.get(f"/stylegan_fusion/panels/{panel}")
    host.post(f"/stylegan_fusion/panels/{panel}", {"training": shown["training"], **asked})


def test_a_training_that_is_shown_is_not_repeated_when_the_cache_is_lost(host):
    graph = training(steps=3, **{"train.panel": "again", "train.seed": 31})
    assert host.run(graph).succeeded
    first = latest_saved(host)
    graph["train"]["inputs"]["samples"] = 3  # changes what the node shows, not what it trains
    run = host.run(graph)
    assert run.succeeded and len(run.outputs["after"]["images"]) == 3
    assert not [value for value, most in run.progress if most == 3], "it trained once more"
    again = latest_saved(host)
    assert all((again["weights"][name] == value).all() for name, value in first["weights"].items())
    choose(host, "again", action="choose", step=host.get("/stylegan_fusion/panels/again")["moments"][1])
    assert host.run(graph).succeeded
    assert latest_saved(host)["steps_done"] == str(host.get("/stylegan_fusion/panels/again")["moments"][1])


def test_a_training_that_is_cancelled_at_once_says_so(host):
    prompt = host.submit(training(steps=50, **{"train.panel": "at once", "train.seed": 41}))
    deadline = time.monotonic() + 120
    while not host.get("/stylegan_fusion/panels/at%20once"):  # until the host has come to the node
        assert time.monotonic() < deadline, host.log[-2000:]
        time.sleep(0.01)
    host.interrupt()
    run = host.follow(prompt)
    shown = host.get("/stylegan_fusion/panels/at%20once")
    assert run.interrupted and shown["status"] == "cancelled"
    assert shown["notes"][-1].startswith(("Nothing was trained yet.", "The generator as trained for"))


def test_what_is_asked_of_a_training_is_not_done_to_another(host):
    graph = training(steps=3, **{"train.panel": "changed"})
    assert host.run(graph).succeeded
    before = host.get("/stylegan_fusion/panels/changed")
    choose(host, "changed", action="choose", step=3)
    graph["positive"]["inputs"]["text"] = "a portrait of a cat"
    assert "before an input was changed" in host.run(graph).error["exception_message"]
    assert host.get("/stylegan_fusion/panels/changed")["moments"] == before["moments"]
    assert host.run(graph).succeeded  # once more: the cat
    after = host.get("/stylegan_fusion/panels/changed")
    assert after["training"] != before["training"]
    stale = {"action": "choose", "step": 3, "training": before["training"]}
    assert "another training by now" in refusal(host, "/stylegan_fusion/panels/changed", stale)


def test_a_panel_of_several_trainings_does_not_go_back_in_one(host):
    graph = training(steps=2, **{"train.panel": "several"})
    graph["texts"] = {"class_type": "SeveralTexts", "inputs": {"lines": "a portrait of a fox\na portrait of a cat"}}
    graph["positive"]["inputs"]["text"] = ["texts", 0]
    assert host.run(graph).succeeded
    shown = host.get("/stylegan_fusion/panels/several")
    asked = {"action": "choose", "step": 2, "training": shown["training"]}
    assert "more than once in one run" in refusal(host, "/stylegan_fusion/panels/several", asked)
    graph["texts"]["inputs"]["lines"] = "a portrait of a cat"
    assert host.run(graph).succeeded
    choose(host, "several", action="choose", step=2)


def test_starting_over_trains_even_when_the_training_is_shown(host):
    graph = training(steps=3, **{"train.panel": "over"})
    assert host.run(graph).succeeded
    graph["train"]["inputs"]["when_unfinished"] = "start over"
    run = host.run(graph)
    assert run.succeeded and [value for value, most in run.progress if most == 3]


def test_a_moment_is_kept_after_the_steps_were_changed(host):
    graph = training(steps=3, **{"train.panel": "steps"})
    assert host.run(graph).succeeded
    first = latest_saved(host)
    choose(host, "steps", action="choose", step=3)
    graph["train"]["inputs"]["steps"] = 5
    assert host.run(graph).succeeded
    kept = latest_saved(host)
    assert kept["settings"] == first["settings"] and json.loads(kept["settings"])["steps"] == 3
    assert all((kept["weights"][name] == value).all() for name, value in first["weights"].items())
    run = host.run(graph)  # once more: 5 steps
    assert run.succeeded and (5, 5) in run.progress


def test_a_finished_training_is_trained_further(host):
    assert host.run(training(steps=5, **{"train.seed": 51})).succeeded
    whole = latest_saved(host)
    graph = training(steps=3, **{"train.panel": "further", "train.seed": 51})
    assert host.run(graph).succeeded
    choose(host, "further", action="train more")
    graph["train"]["inputs"]["steps"] = 5
    run = host.run(graph)
    assert run.succeeded and min(value for value, most in run.progress if most == 5) > 3
    further = latest_saved(host)
    assert further["settings"] == whole["settings"] and "steps_done" not in further
    assert all((further["weights"][name] == value).all() for name, value in whole["weights"].items())


def test_an_earlier_training_of_the_node_is_gone_back_to(host):
    graph = training(steps=2, **{"train.panel": "earlier"})
    assert host.run(graph).succeeded
    fox = latest_saved(host)
    graph["positive"]["inputs"]["text"] = "a portrait of a cat"
    assert host.run(graph).succeeded
    (earlier,) = host.get("/stylegan_fusion/panels/earlier")["earlier"]
    assert (earlier["prompt"], earlier["moment"]) == ("a portrait of a fox", 2)
    place = f"/stylegan_fusion/panels/earlier/trainings/{earlier['training']}"
    assert host.get(place)["moments"][-1] == 2 and host.fetch(f"{place}/moments/2").startswith(b"\xff\xd8")
    asked = {"action": "choose", "step": 2, "training": earlier["training"], "earlier": True}
    host.post("/stylegan_fusion/panels/earlier", asked)
    assert host.run(graph).succeeded
    again = latest_saved(host)
    assert again["prompt"] == "a portrait of a fox"
    assert all((again["weights"][name] == value).all() for name, value in fox["weights"].items())
    host.post("/stylegan_fusion/panels/earlier", {**asked, "action": "forget"})
    assert host.get("/stylegan_fusion/panels/earlier")["earlier"] == []
    assert "look again" in refusal(host, "/stylegan_fusion/panels/earlier", asked)
