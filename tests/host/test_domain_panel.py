"""The live panel on Train Domain: moments, ends and further steps, by its address and in the page."""

import graphs
import torch
from comfyui_stylegan_fusion.domain.files import load_domain
from panel_page import button, ended, says, trained_past_a_moment, wait_for

LEARNS = "Train Domain"


def on_panel(host, key, **asked):
    """What the panel with this key shows, after something was asked of it."""
    shown = host.get(f"/stylegan_fusion/panels/{key}")
    if asked:
        host.post(f"/stylegan_fusion/panels/{key}", {"training": shown["training"], **asked})
    return shown


def test_a_panel_shows_what_is_learned_and_goes_back_to_a_moment(host, pictures):
    graph = graphs.learning(name="watched", seed=7, steps=4, panel="watched")
    seen = []
    run = host.run(graph, on_event=lambda kind, data: seen.append(data) if kind == "stylegan_fusion.panel" else None)
    assert run.succeeded, run.error
    shown = on_panel(host, "watched")
    assert shown["status"] == "finished" and shown["moments"] == list(range(5)) and shown["pictures_alone"] == []
    assert shown["curves"]["error"][0] == list(range(1, 5)) and shown["layers"] == []
    assert shown["titles"] == {"error": "How far off the copy's predictions are"}
    assert shown["prompt"] == "watched, 6 pictures" and host.fetch("/stylegan_fusion/panels/watched/moments/2")
    folder = host.models / "stylegan_domains"
    on_panel(host, "watched", action="choose", step=2)
    again = host.run(graph)
    assert again.succeeded and not [value for value, most in again.progress if most == 4], "without training"
    moment, whole = load_domain(folder / "watched_00002.safetensors"), load_domain(folder / "watched_00001.safetensors")
    assert moment.about["steps_done"] == "2" and on_panel(host, "watched")["kept"] == 2
    assert any(not torch.equal(value, moment.weights[name]) for name, value in whole.weights.items())
    short = host.run(graphs.learning(name="short", seed=7, steps=2))  # without a cooldown the first steps are the same
    assert short.succeeded
    for name, value in load_domain(folder / "short_00001.safetensors").weights.items():
        assert torch.equal(value, moment.weights[name])
    on_panel(host, "watched", action="choose", step=4)
    assert host.run(graph).succeeded and not (folder / "watched_00003.safetensors").exists(), "it is there already"


def test_a_finished_training_is_trained_further(host, pictures):
    folder = host.models / "stylegan_domains"
    assert host.run(graphs.learning(name="whole", seed=9, steps=3, cooldown=1.0)).succeeded
    graph = graphs.learning(name="further", seed=9, steps=2, cooldown=1.0, panel="further")
    assert host.run(graph).succeeded
    assert on_panel(host, "further", action="train more")["can_train_more"]
    graph["train"]["inputs"]["steps"] = 3
    run = host.run(graph)
    assert run.succeeded and min(value for value, most in run.progress if most == 3) > 2
    further = load_domain(folder / "further_00002.safetensors")
    assert further.about["steps_done"] == "3"
    # Its first two steps had another cooldown than those of a training of three.
    whole, short = (load_domain(folder / f"{name}_00001.safetensors") for name in ("whole", "further"))
    assert any(not torch.equal(value, whole.weights[name]) for name, value in further.weights.items())
    assert any(not torch.equal(value, short.weights[name]) for name, value in further.weights.items())

    plain = graphs.learning(name="plain", seed=9, steps=2, panel="plain")
    assert host.run(plain).succeeded
    on_panel(host, "plain", action="train more")
    plain["train"]["inputs"]["steps"] = 3
    assert host.run(plain).succeeded
    assert host.run(graphs.learning(name="three", seed=9, steps=3)).succeeded
    three, longer = (load_domain(folder / name) for name in ("three_00001.safetensors", "plain_00002.safetensors"))
    assert all(torch.equal(value, longer.weights[name]) for name, value in three.weights.items())


def test_a_training_that_is_stopped_on_its_panel_is_kept_and_goes_on(host, pictures):
    graph, asked = graphs.learning(name="stopped", seed=8, steps=24, panel="stopped"), []

    def stop(kind, data):
        if kind == "progress" and data.get("value", 0) >= 6 and data.get("max") == 24 and not asked:
            asked.append(on_panel(host, "stopped", action="end"))

    run = host.run(graph, on_event=stop)
    assert run.succeeded, run.error
    shown = on_panel(host, "stopped")
    done = shown["step"]
    assert shown["status"] == "stopped" and 6 <= done < 24 and shown["kept"] == done
    folder = host.models / "stylegan_domains"
    assert load_domain(folder / "stopped_00001.safetensors").about["steps_done"] == str(done)
    on_panel(host, "stopped", action="go on")
    again = host.run(graph)
    assert again.succeeded and f"went on from step {done}" in " ".join(on_panel(host, "stopped")["notes"])
    assert load_domain(folder / "stopped_00002.safetensors").about["steps_done"] == "24"


def test_what_keeps_a_domain_from_being_learned_is_said_on_the_panel(host, pictures):
    graph = graphs.learning(name="refused", steps=1, panel="refused")
    assert host.run(graph).succeeded
    graph["train"]["inputs"]["image_size"] = 512
    assert not host.run(graph).succeeded
    assert "the model learns 512" in on_panel(host, "refused")["problem"]


def test_the_panel_is_used_in_the_page(host, page, pictures):
    page.errors.clear()
    graph = graphs.learning(name="seen", seed=10, steps=60)
    graph["train"]["_meta"] = {"title": LEARNS}
    page.evaluate("graph => window.app.loadApiJson(graph, 'domain.json')", graph)
    page.look_at(LEARNS)
    page.queue()
    wait_for(page, trained_past_a_moment, LEARNS)
    says(page, "Training", "of 60", "How far off the copy's predictions are", title=LEARNS)
    button(page, "Stop and keep", LEARNS).press("Enter")
    stopped = wait_for(page, ended, LEARNS)
    assert stopped["status"] == "stopped" and stopped["step"] < 60
    page.wait_until_idle()
    folder = host.models / "stylegan_domains"
    assert load_domain(folder / "seen_00001.safetensors").about["steps_done"] == str(stopped["step"])
    says(page, "Saved as models/stylegan_domains/seen_00001.safetensors", title=LEARNS)

    page.node_element(LEARNS).get_by_role("slider").focus()
    page.keyboard.press("Home")
    says(page, "Before training", title=LEARNS)
    page.keyboard.press("ArrowRight")
    moment = stopped["moments"][1]
    says(page, f"After {moment} step", title=LEARNS)
    button(page, "Keep this moment", LEARNS).press("Enter")
    wait_for(page, lambda found: found.get("kept") == moment, LEARNS)
    page.wait_until_idle()
    assert load_domain(folder / "seen_00002.safetensors").about["steps_done"] == str(moment)
    says(page, "Saved as models/stylegan_domains/seen_00002.safetensors", title=LEARNS)

    button(page, f"Go on from step {stopped['step']}", LEARNS).press("Enter")
    wait_for(page, lambda found: found.get("status") == "running" and found["step"] > stopped["step"], LEARNS)
    button(page, "Stop and keep", LEARNS).press("Enter")
    wait_for(page, ended, LEARNS)
    page.wait_until_idle()
    assert not page.errors
