"""How a template looks when it is opened: how large the page shows it, which nodes overlap, which links run under nodes.

python tests/host/template_layout.py FOLDER [TEMPLATE ...] opens every template, or those that are named, in windows of
three widths and both of the page's drawings, writes a picture of each into FOLDER, and says what is wrong."""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from comfy_host import PROJECT, Host, find_comfyui
from comfy_page import ComfyPage, open_page

TEMPLATES = sorted((PROJECT / "example_workflows").glob("*.json"))
WINDOWS = ((1366, 768), (1600, 900), (1920, 1080))
"""Usual windows, width and height in pixels."""

READABLE = 0.58
"""Below it the page draws nodes without their text."""

FITTED = 0.75
"""The share of the window that the page gives to all nodes of a template."""

RESULTS = ("StyleGANFusionCompareSamples", "PreviewImage", "SaveAnimatedWEBP")
"""Nodes that show what a template is for."""

HTML_NODES = "Comfy.VueNodes.Enabled"
"""The setting of nodes drawn as HTML."""

# Opens a workflow as the list of templates does, which fits all its nodes into the window.
OPEN_AS_TEMPLATE = """async workflow => {
    await window.app.loadGraphData(workflow, true, true, workflow.id, { openSource: "template" });
}"""

# Every node's box with its title bar, the nodes that each link runs under, and the view. Nodes of HTML are measured as
# they are drawn; links are drawn as the page draws them, on a canvas of our own. A link begins and ends 10 units inside
# its own nodes.
MEASURE = """() => {
    const { graph, canvas } = window.app, { ds } = canvas, bar = LiteGraph.NODE_TITLE_HEIGHT;
    const at = canvas.canvas.getBoundingClientRect();
    const drawn = node => document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
    const box = node => {
        const html = LiteGraph.vueNodesMode ? drawn(node) : undefined;
        if (html?.width) return [(html.x - at.x) / ds.scale - ds.offset[0], (html.y - at.y) / ds.scale - ds.offset[1],
                                 html.width / ds.scale, html.height / ds.scale];
        const width = node.flags.collapsed ? (node._collapsed_width ?? 80) : node.size[0];
        return [node.pos[0], node.pos[1] - bar, width, node.flags.collapsed ? bar : node.size[1] + bar];
    };
    const nodes = graph.nodes.map(node => ({ id: node.id, title: node.title, type: node.type, box: [...box(node)] }));
    const left = Math.min(...nodes.map(n => n.box[0])), top = Math.min(...nodes.map(n => n.box[1]));
    const sheet = Object.assign(document.createElement("canvas"), {
        width: Math.max(...nodes.map(n => n.box[0] + n.box[2])) - left + 1,
        height: Math.max(...nodes.map(n => n.box[1] + n.box[3])) - top + 1,
    });
    const pen = sheet.getContext("2d", { willReadFrequently: true });
    const isInk = ([x, y, width, height], inset) => {
        if (width <= 2 * inset || height <= 6) return false;
        const seen = pen.getImageData(x - left + inset, y - top + 3, width - 2 * inset, height - 6).data;
        for (let i = 3; i < seen.length; i += 4) if (seen[i] > 64) return true;
        return false;
    };
    const links = graph.links instanceof Map ? [...graph.links.values()] : Object.values(graph.links);
    const under = links.flatMap(link => {
        const from = graph.getNodeById(link.origin_id), to = graph.getNodeById(link.target_id);
        const paths = [link.path];
        for (let id = link.parentId; id !== undefined; id = graph.reroutes.get(id).parentId)
            paths.push(graph.reroutes.get(id).path);
        if (paths.some(path => !path)) throw new Error(`${from.title} has a link that is not drawn`);
        pen.clearRect(0, 0, sheet.width, sheet.height);
        pen.setTransform(1, 0, 0, 1, -left, -top);
        paths.forEach(path => pen.stroke(path));
        pen.setTransform(1, 0, 0, 1, 0, 0);
        const name = `${from.title} to ${to.title}.${to.inputs[link.target_slot].name}`;
        return nodes.filter(({ id, box }) => isInk(box, [from.id, to.id].includes(id) ? 16 : 3))
                    .map(({ title }) => `${name} under ${title}`);
    });
    return { scale: ds.scale, nodes, under, links: links.map(link => [link.origin_id, link.target_id]) };
}"""


@dataclass(frozen=True)
class Layout:
    """Layout is a template as the page shows it, in the graph's own units."""

    scale: float  # pixels for a unit
    nodes: list[dict]  # id, title, type, box: x, y, width, height
    under: list[str]  # each link that runs under a node, and the node
    links: list[tuple[int, int]]  # from which node to which

    def rectangle(self, ids: set[int] | None = None) -> tuple[float, float, float, float]:
        """Return the box around all nodes, or around those of the ids: x, y, width, height."""
        boxes = [node["box"] for node in self.nodes if ids is None or node["id"] in ids]
        left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
        right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
        return left, top, right - left, bottom - top

    def first_block(self) -> set[int]:
        """Return the ids of the smallest part that leads from the prompt to a result that is seen."""
        shown = [node["id"] for node in self.nodes if node["type"] in RESULTS]
        blocks = []
        for result in shown:
            block, before = {result}, [result]
            while before:
                found = {start for start, end in self.links if end in before} - block
                block, before = block | found, list(found)
            blocks.append(block)
        return min(blocks, key=lambda block: self.rectangle(block)[2] * self.rectangle(block)[3])

    def overlaps(self) -> list[str]:
        """Return, for each two nodes that overlap, their titles."""
        found = []
        for i, one in enumerate(self.nodes):
            for other in self.nodes[i + 1 :]:
                (x, y, width, height), (x2, y2, width2, height2) = one["box"], other["box"]
                if x < x2 + width2 and x2 < x + width and y < y2 + height2 and y2 < y + height:
                    found.append(f"{one['title']} and {other['title']}")
        return found


def open_template(page: ComfyPage, path: Path, window: tuple[int, int] | None = None) -> Layout:
    """Open a template as the page's list of templates does, in a window of that size if one is given, and measure it."""
    if window is not None:
        page.resize(*window)
        page.pause(300)  # until the page's canvas has followed
    workflow = json.loads(path.read_text("utf-8"))
    page.evaluate(OPEN_AS_TEMPLATE, {**workflow, "id": str(uuid.uuid4())})  # the page remembers the view of an id
    page.pause(900)  # until it has grown nodes of HTML
    return measured(page)


def measured(page: ComfyPage) -> Layout:
    """Measure the graph that the page shows."""
    return Layout(**page.evaluate(MEASURE))


def main(folder: Path, names: list[str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    wrong = 0
    with tempfile.TemporaryDirectory() as base, Host(*find_comfyui(), Path(base)) as host, open_page(host.url) as page:
        wrong = look(page, folder, names)
    return wrong


def look(page: ComfyPage, folder: Path, names: list[str]) -> int:
    """Write pictures of templates into a folder, and print what is wrong with them; return how much."""
    wrong = 0
    for html in (False, True):
        page.set_setting(HTML_NODES, html)
        for path in TEMPLATES:
            if names and path.stem not in names:
                continue
            for window in WINDOWS:
                layout = open_template(page, path, window)
                drawing = "html" if html else "canvas"
                page.picture(folder / f"{path.stem}-{drawing}-{window[0]}.png")
                _, _, width, height = layout.rectangle()
                print(f"{path.stem} {drawing} {window[0]}: {layout.scale:.0%}, {width:.0f} x {height:.0f}")
                if window == WINDOWS[-1]:
                    faults = layout.overlaps() + layout.under
                    wrong += len(faults)
                    print(*(f"    {fault}" for fault in faults), sep="\n")
    page.set_setting(HTML_NODES, False)
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]), sys.argv[2:])))
