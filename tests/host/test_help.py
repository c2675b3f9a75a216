"""The help pages in ComfyUI's page: our text, with its picture."""

import pytest
from comfy_host import PROJECT
from comfy_page import NODE_BOX

BUTTON = '[data-testid="info-button"]'
HELP = ".node-help-content"

# Whether there is one such element that can be seen.
SEEN = "place => Boolean(document.querySelector(place)?.getClientRects().length)"

# The headings, the text and the pictures (address, and width once loaded, else 0) of the page's help.
SHOWN = """async place => {
    const help = document.querySelector(place), pictures = [...help.querySelectorAll("img")];
    await Promise.all(pictures.map(picture => picture.decode().catch(() => null)));
    const headings = [...help.querySelectorAll("h1, h2")].map(heading => heading.textContent);
    return { headings, text: help.textContent, pictures: pictures.map(({ src, naturalWidth }) => [src, naturalWidth]) };
}"""


def opened_help(page, node: str, title: str) -> dict:
    """What the page shows when a user selects a node and presses the button for its help."""
    page.evaluate("graph => window.app.loadApiJson(graph, 'help')", {"1": {"class_type": node, "inputs": {}}})
    page.look_at(title)
    box = page.evaluate(NODE_BOX, title)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 12)
    page.wait_until(SEEN, BUTTON)
    page.evaluate("place => document.querySelector(place).click()", BUTTON)
    heading = "([place, title]) => document.querySelector(`${place} h1`)?.textContent === title"
    page.wait_until(heading, HELP, title)
    return page.evaluate(SHOWN, HELP)


@pytest.mark.parametrize(
    "node, title",
    [("StyleGANFusionSDSGuidance", "SDS Guidance"), ("StyleGANFusionTrainGenerator", "Train Generator")],
)
def test_the_help_of_a_node_is_its_page_with_its_picture(page, node, title):
    try:
        shown = opened_help(page, node, title)
    finally:
        page.show_properties(False)  # where newer pages show it
    lines = (PROJECT / "web" / "docs" / f"{node}.md").read_text("utf-8").splitlines()
    assert shown["headings"] == [line.lstrip("# ") for line in lines if line.startswith(("# ", "## "))]
    paragraph = next(line for line in lines[1:] if line and not line.startswith("!")).replace("**", "").replace("*", "")
    assert paragraph in shown["text"]
    ((address, width),) = shown["pictures"]
    assert address.endswith(f"/docs/pictures/{node}.png") and width > 100
