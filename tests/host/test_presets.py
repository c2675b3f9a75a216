"""Presets on the page: a choice that fills in values, and is none itself."""

import pytest
from comfy_host import PROJECT
from comfyui_stylegan_fusion.sds.presets import PRESETS

QUICKSTART = PROJECT / "example_workflows" / "quickstart.json"
TRAIN, GUIDANCE, MAKE = (f"StyleGANFusion{name}" for name in ("TrainGenerator", "SDSGuidance", "MakeTargets"))

CHOOSE = """([type, name]) => {
    const node = window.app.graph.nodes.find(node => node.type === type);
    const widget = node.widgets.find(widget => widget.name === "preset");
    widget.value = name;
    widget.callback(name, window.app.canvas, node);
}"""
SHOWN = """type => window.app.graph.nodes.find(node => node.type === type).widgets.find(one => one.name === "preset").value"""


def inputs(page, kind):
    graph = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    (found,) = [node["inputs"] for node in graph.values() if node["class_type"] == kind]
    return found


@pytest.fixture
def quickstart(page):
    page.open(QUICKSTART)
    page.pause(500)
    return page


def test_a_preset_fills_in_the_training_and_what_leads_to_it(quickstart):
    page, chosen = quickstart, PRESETS["cats"]
    page.evaluate(CHOOSE, TRAIN, "cats")
    train, guidance, make = (inputs(page, kind) for kind in (TRAIN, GUIDANCE, MAKE))
    assert (train["steps"], train["batch_size"]) == (chosen.training.steps, chosen.training.batch_size)
    assert train["cooldown"] == chosen.training.cooldown and train["seed"] == 0
    assert guidance["guidance_scale"] == chosen.guidance_scale and guidance["t_max"] == chosen.training.t_max
    assert (make["count"], make["guidance_scale"]) == (chosen.targets.count, chosen.target_scale)
    assert page.evaluate(SHOWN, TRAIN) == page.evaluate(SHOWN, MAKE) == "cats"


def test_a_preset_of_one_node_leaves_the_others_alone(quickstart):
    page = quickstart
    before = inputs(page, TRAIN)
    page.evaluate(CHOOSE, MAKE, "SD 1.5 style")
    assert inputs(page, MAKE)["strength"] == PRESETS["SD 1.5 style"].targets.strength
    after = inputs(page, TRAIN)
    assert {**after, "panel": ""} == {**before, "panel": ""}


def test_the_choice_follows_the_values_and_is_saved_with_none(quickstart):
    page = quickstart
    assert page.evaluate(SHOWN, TRAIN) == "miniature"
    saved = {node["type"]: node for node in page.saved_form()["nodes"]}
    assert saved[MAKE]["widgets_values"][:4] == [1.75, 400, 0.8, 5] and "miniature" not in saved[MAKE]["widgets_values"]
    page.evaluate(
        """type => {
        const node = window.app.graph.nodes.find(node => node.type === type);
        const steps = node.widgets.find(widget => widget.name === "steps");
        steps.value = 123;
        steps.callback(123, window.app.canvas, node);
    }""",
        TRAIN,
    )
    assert page.evaluate(SHOWN, TRAIN) == "own values"
    again = page.saved_form()
    page.open(again)
    assert inputs(page, TRAIN)["steps"] == 123 and inputs(page, TRAIN)["when_unfinished"] == "go on"
