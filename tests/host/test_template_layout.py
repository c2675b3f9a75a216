"""The first screen: every template opens large enough to be read, in both of the page's drawings."""

import re

import pytest
import template_layout
from template_layout import FITTED, HTML_NODES, READABLE, TEMPLATES, WINDOWS

USUAL = (2400, 1350)  # the window of the other tests


@pytest.fixture(scope="module", params=[False, True], ids=["canvas", "html"])
def drawing(page, request):
    """The page with nodes on its canvas, and as HTML."""
    version = page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")
    if request.param and version < "1.30":
        pytest.skip("this page hides its unfinished nodes of HTML")
    page.set_setting(HTML_NODES, request.param)
    yield page, WINDOWS if version >= "1.30" else WINDOWS[-1:]  # the oldest has a bar more
    page.set_setting(HTML_NODES, False)
    page.resize(*USUAL)
    page.pause(300)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_templates_open_readable_and_in_order(drawing, path):
    page, windows = drawing
    small, large = windows[0], windows[-1]
    layout = template_layout.open_template(page, path, small)
    assert layout.overlaps() == [] and layout.under == []
    if layout.scale < READABLE:  # a large one: then the part from prompt to result is what has to be
        *_, width, height = layout.rectangle(layout.first_block())
        assert FITTED * min(small[0] / width, small[1] / height) >= READABLE
        assert template_layout.open_template(page, path, large).scale >= READABLE


def test_the_quick_start_is_the_first_in_the_list(page):
    listed = page.evaluate("async () => Object.values(await window.app.api.getWorkflowTemplates()).flat()")
    ours = [name for name in listed if name in {path.stem for path in TEMPLATES}]
    assert ours[0] == "quickstart" and sorted(ours) == [path.stem for path in TEMPLATES]
    source = (template_layout.PROJECT / "web" / "templates.js").read_text("utf-8")
    assert ours == re.findall(r'"(\w+)",\n', source)


# Of a workflow's app: the inputs that are no widget of its graph, and the outputs that show nothing.
LOST_IN_APP = """() => {
    const { graph } = window.app, { inputs, outputs } = graph.extra.linearData;
    const isWidget = ([id, name]) => graph.getNodeById(id)?.widgets?.some(widget => widget.name === name);
    const isOutput = id => graph.getNodeById(id)?.constructor.nodeData?.output_node;
    return [...inputs.filter(input => !isWidget(input)), ...outputs.filter(id => !isOutput(id))];
}"""


@pytest.mark.parametrize("name", ["quickstart", "adapt_my_photo"])
def test_as_an_app_it_shows_what_is_given_and_what_comes_of_it(page, name):
    if page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__") < "1.30":
        pytest.skip("this page has no apps")
    page.open(template_layout.PROJECT / "example_workflows" / f"{name}.json")
    assert page.evaluate(LOST_IN_APP) == []


def test_what_is_wrong_with_a_layout_is_noticed(page):
    def node(number, x, y, **more):
        slots = {"inputs": [{"name": "images", "type": "IMAGE", "link": None}], "outputs": []}
        return {
            "id": number,
            "type": "PreviewImage",
            "pos": [x, y],
            "size": [200, 200],
            "title": f"n{number}",
            **slots,
            **more,
        }

    source = {"type": "EmptyImage", "inputs": [], "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}]}
    nodes = [node(1, 0, 0, **source), node(2, 300, 0), node(3, 700, 0), node(4, 850, 150)]
    nodes[2]["inputs"][0]["link"] = 1
    workflow = {"nodes": nodes, "links": [[1, 1, 0, 3, 0, "IMAGE"]], "version": 0.4}
    page.evaluate(template_layout.OPEN_AS_TEMPLATE, {**workflow, "id": "a layout that is wrong"})
    page.pause(500)
    layout = template_layout.measured(page)
    assert layout.overlaps() == ["n3 and n4"]
    assert layout.under == ["n1 to n3.images under n2"]
