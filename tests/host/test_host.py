"""The extension in a real ComfyUI: it loads, lists its nodes, and the harness around it works."""

import io

import pytest
from comfy_host import EXTENSION_FOLDER, PromptRejected
from PIL import Image
from template_layout import measured

# Two nodes of ComfyUI itself, as its page saves them.
STOCK_WORKFLOW = {
    "last_node_id": 2,
    "last_link_id": 1,
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "pos": [100, 100],
            "size": [270, 130],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "properties": {},
            "widgets_values": [48, 32, 1, 255],
        },
        {
            "id": 2,
            "type": "PreviewImage",
            "pos": [500, 100],
            "size": [270, 270],
            "flags": {},
            "order": 1,
            "mode": 0,
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "outputs": [],
            "properties": {},
            "widgets_values": [],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    "groups": [],
    "config": {},
    "extra": {},
    "version": 0.4,
}


def test_extension_loads_without_complaint(host):
    complaints = ("IMPORT FAILED", "Cannot import", "Error while calling comfy_entrypoint", "Traceback")
    start = host.log.partition("got prompt")[0]  # other tests of this session provoke errors
    lines = [line for line in start.splitlines() if any(c in line for c in complaints)]
    assert not lines, "\n".join(lines)
    assert EXTENSION_FOLDER in host.log, "ComfyUI did not look into the extension's folder"


def test_page_turns_a_workflow_into_a_graph_that_runs(host, page):
    graph = page.api_form(STOCK_WORKFLOW)
    run = host.run(graph)
    assert run.succeeded
    (image,) = run.outputs["2"]["images"]
    with Image.open(io.BytesIO(host.view(image))) as picture:
        assert picture.size == (48, 32)
    assert host.history(run.prompt_id)["status"]["completed"]


def test_page_needs_nothing_from_the_network(page):
    assert page.outside_requests == []


def test_page_shows_the_graph(page, tmp_path):
    page.open(STOCK_WORKFLOW)
    assert measured(page).overlaps() == []
    with Image.open(page.screenshot(tmp_path / "graph.png")) as picture:
        assert len(picture.convert("RGB").getcolors(maxcolors=1 << 24)) > 20
    assert [node["type"] for node in page.saved_form()["nodes"]] == ["EmptyImage", "PreviewImage"]


def test_a_graph_with_an_unknown_node_is_rejected(host):
    with pytest.raises(PromptRejected):
        host.submit({"1": {"class_type": "StyleGANFusionNoSuchNode", "inputs": {}}})
