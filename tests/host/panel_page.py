"""Graphs with the live panel in ComfyUI's page, for its tests."""

import json
import time

from graphs import training as saved_as_fox
from playwright.sync_api import expect

TITLE = "Train Generator"
STATE = """async title => {
    const node = window.app.graph.nodes.find(n => n.title === title);
    const key = node.widgets.find(w => w.name === "panel").value;
    return (await window.app.api.fetchApi("/stylegan_fusion/panels/" + key)).json();
}"""
KEYS = "() => window.app.graph.nodes.flatMap(n => n.widgets ?? []).filter(w => w.name === 'panel').map(w => w.value)"


def training(steps: int, **changes) -> dict:
    """A graph in API form whose files are told from those of other tests."""
    return saved_as_fox(steps, **{"save.filename_prefix": "panel", **changes})


def workflow(steps: int, titles=(TITLE,)) -> dict:
    """A graph in API form with a training for each title, which the page lays out itself."""
    graph = training(steps=steps, **{"train.batch_size": 1})
    for other in titles[1:]:
        graph[other] = {**graph["train"], "inputs": {**graph["train"]["inputs"], "seed": len(graph)}}
        graph[f"{other} seen"] = {"class_type": "PreviewImage", "inputs": {"images": [other, 2]}}
    for name, title in zip(["train", *titles[1:]], titles, strict=True):
        graph[name]["_meta"] = {"title": title}
    return graph


def state(page, title=TITLE) -> dict:
    return page.evaluate(STATE, title)


def wait_for(page, condition, title=TITLE, seconds=300) -> dict:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = state(page, title)
        if condition(found):
            return found
        page.pause(100)
    raise AssertionError(f"not within {seconds} s; the panel says {json.dumps(found)[:2000]}")


def says(page, *texts, title=TITLE) -> None:
    """Wait until the panel shows these: it follows what the server has said."""
    for text in texts:
        expect(page.node_element(title)).to_contain_text(text, use_inner_text=True, timeout=60_000)


def button(page, name, title=TITLE):
    return page.node_element(title).get_by_role("button", name=name)


def trained_past_a_moment(found):
    """The first moment is taken in any case; when the next one is, the machine's speed decides."""
    return found.get("step", 0) > (found.get("moments") or [0])[-1] > 0


def ended(found):
    return found.get("status") not in (None, "running")
