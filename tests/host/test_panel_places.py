"""Where a panel may be: in a subgraph, in a duplicate of a workflow, in a node of any size, beside the page's own panels."""

import json
import uuid

import pytest
from panel_page import KEYS, TITLE, button, ended, says, state, trained_past_a_moment, training, wait_for, workflow
from playwright.sync_api import expect

KEYS_IN_SUBGRAPHS = """() => [...(window.app.rootGraph ?? window.app.graph).subgraphs.values()]
    .flatMap(graph => graph.nodes).flatMap(n => n.widgets ?? []).filter(w => w.name === 'panel').map(w => w.value)"""
NODE = "window.app.graph.nodes.find(n => n.title === title)"


def resize(page, width, height):
    page.evaluate(f"([title, width, height]) => {NODE}.setSize([width, height])", TITLE, width, height)


def height(page) -> float:
    return page.evaluate(f"title => {NODE}.size[1]", TITLE)


def training_without_a_run(page) -> dict:
    """The same graph, as it was before its first run."""
    page.evaluate("graph => window.app.loadApiJson(graph, 'test.json')", workflow(2))
    return page.saved_form()


def saved_with_id(page) -> dict:
    """What the page has open, opened again as a workflow that it tells from others: a graph in API form has no id."""
    page.open({**page.saved_form(), "id": str(uuid.uuid4())})
    page.pause(300)
    return page.saved_form()


def test_in_a_subgraph_it_survives_undoing_and_other_workflows(page, opened):
    opened(3)
    page.evaluate(f"title => {{ window.app.graph.convertToSubgraph(new Set([{NODE}])) }}", TITLE)
    saved = saved_with_id(page)
    (key,) = page.evaluate(KEYS_IN_SUBGRAPHS)
    for _ in range(3):  # undoing opens what was saved, too
        page.reopen(saved)
        page.pause(300)
        assert page.evaluate(KEYS_IN_SUBGRAPHS) == [key]


def test_a_copy_of_an_open_workflow_has_a_panel_of_its_own(page, opened):
    opened(3)
    original = saved_with_id(page)
    page.close_others()
    (key,) = page.evaluate(KEYS)
    page.drop(original, "copy.json")  # of the same id
    (dropped,) = page.evaluate(KEYS)
    assert dropped != key
    page.go_back()
    assert page.evaluate(KEYS) == [key]
    page.go_forward()
    assert page.evaluate(KEYS) == [dropped]
    page.evaluate(f"title => {{ {NODE}.widgets.find(w => w.name === 'seed').value = 5 }}", TITLE)
    page.evaluate("() => window.app.extensionManager.workflow.activeWorkflow.changeTracker.checkState()")
    page.undo()
    assert page.evaluate(KEYS) == [dropped]
    page.open({**original, "id": str(uuid.uuid4())})
    page.pause(300)
    (duplicate,) = page.evaluate(KEYS)
    assert duplicate not in (key, dropped)
    page.close_others()
    page.drop(original, "again.json")  # its own panel is free again
    assert page.evaluate(KEYS) == [key]


def test_a_copy_keeps_its_panel_when_the_page_is_loaded_again(page, opened):
    page.set_setting("Comfy.Workflow.Persist", True)
    try:
        opened(3)
        original = saved_with_id(page)
        (key,) = page.evaluate(KEYS)
        page.drop(original, "copy.json")
        (dropped,) = page.evaluate(KEYS)
        page.pause(1500)  # until the page has noted what is open
        page.reload()
        page.pause(500)
        assert page.evaluate(KEYS) == [dropped] != [key]
    finally:
        page.set_setting("Comfy.Workflow.Persist", False)


def test_a_copy_in_another_tab_of_the_browser_has_a_panel_of_its_own(page, opened):
    opened(3)
    original = saved_with_id(page)
    (key,) = page.evaluate(KEYS)
    with page.beside() as other:
        other.drop(original, "from a picture.json")
        assert other.evaluate(KEYS) != [key]
        page.reopen(original)
        page.pause(300)
        assert page.evaluate(KEYS) == [key]
    page.reload()
    page.drop(original, "again.json")
    assert page.evaluate(KEYS) == [key]


def test_a_panel_whose_training_is_not_kept_any_more_says_so(page, opened):
    opened(2)
    page.queue()
    key = wait_for(page, ended)["panel"]
    page.wait_until_idle()
    text = json.dumps(page.saved_form())
    page.open({**json.loads(text.replace(key, "0" * 32)), "id": str(uuid.uuid4())})
    page.look_at(TITLE)
    says(page, "is not kept any more")
    page.open({**training_without_a_run(page), "id": str(uuid.uuid4())})
    page.look_at(TITLE)
    says(page, "Run the graph to watch the training here.")


def test_progress_is_seen_on_the_subgraph_that_a_training_runs_in(page, opened):
    opened(400)
    page.evaluate(f"title => {{ window.app.graph.convertToSubgraph(new Set([{NODE}])) }}", TITLE)
    told = """() => window.app.graph.nodes.filter(n => n.subgraph).flatMap(n => n.badges ?? [])
        .map(badge => (typeof badge === 'function' ? badge() : badge).text).join()"""
    page.queue()
    try:
        page.wait_until(f"() => /step [1-9]\\d* of 400/.test(({told})())", seconds=120)
    finally:
        page.evaluate("() => window.app.api.interrupt()")
        page.wait_until_idle()
    page.wait_until(f"() => ({told})().includes('Cancelled')")


def test_a_node_that_was_made_smaller_stays_so(page, opened):
    opened(2)
    resize(page, 460, 1400)
    page.queue()
    wait_for(page, ended)
    page.wait_until_idle()
    page.pause(500)
    resize(page, 460, 700)
    page.evaluate(f"title => {{ {NODE}.widgets.find(w => w.name === 'seed').value = 77 }}", TITLE)
    before = state(page)["training"]
    page.queue()
    wait_for(page, lambda found: ended(found) and found["training"] != before)
    page.wait_until_idle()
    page.pause(500)
    assert height(page) <= 701


def test_going_on_shows_what_is_new(page, opened):
    opened(400)
    page.queue()
    moment = wait_for(page, trained_past_a_moment)["moments"][1]
    button(page, "Stop and keep").press("Enter")
    stopped = wait_for(page, ended)
    page.wait_until_idle()
    panel = page.node_element(TITLE)
    panel.get_by_role("slider").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    says(page, f"After {moment} step")
    button(page, "Go on").press("Enter")
    wait_for(page, lambda found: found["status"] == "running" and found["moments"][-1] > stopped["step"])
    expect(panel).not_to_contain_text(f"After {moment} step", use_inner_text=True, timeout=60_000)
    button(page, "Stop and keep").press("Enter")
    wait_for(page, ended)
    page.wait_until_idle()


def test_the_page_s_list_of_settings_leaves_it_as_wide_as_it_is(page, opened):
    opened(2)
    page.queue()
    wait_for(page, ended)
    page.wait_until_idle()
    page.pause(500)
    if not page.show_properties(False):
        pytest.skip("this page lists no settings beside the graph")
    panel = page.node_element(TITLE)
    page.look_at(TITLE)
    panel.wait_for()
    width = panel.evaluate("element => element.clientWidth")
    page.evaluate(f"title => window.app.canvas.selectNode({NODE})", TITLE)
    page.show_properties(True)
    try:
        page.control("tab", "Parameters").click()
        page.pause(1000)
        page.look_at(TITLE)
        panel.wait_for()  # the page hides what it has yet to lay out
        assert panel.evaluate("element => element.clientWidth") == width > 400
    finally:
        page.show_properties(False)
        page.evaluate("() => window.app.canvas.deselectAll()")


def test_wrong_settings_leave_the_training_that_is_shown(host):
    graph = training(steps=2, **{"train.panel": "wrong"})
    assert host.run(graph).succeeded
    shown = host.get("/stylegan_fusion/panels/wrong")
    for name, value, saying in (("class_index", 5, "no class"), ("class_index", 6, "no class")):
        run = host.run(training(steps=2, **{"train.panel": "wrong", f"train.{name}": value}))
        assert saying in run.error["exception_message"]
        now = host.get("/stylegan_fusion/panels/wrong")
        assert saying in now.pop("problem") and now == {name: shown[name] for name in now}
    assert host.run(graph).succeeded
    now = host.get("/stylegan_fusion/panels/wrong")
    assert now.pop("kept", 2) == 2  # older hosts forget a node that failed: it runs again, and gives its last moment
    assert now == shown, "what was wrong is solved"
