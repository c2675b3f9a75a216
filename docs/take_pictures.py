"""Takes the pictures of the help pages: every node as ComfyUI's page draws it, web/docs/pictures/NODE_ID.png, and its line
in web/docs/NODE_ID.md. Needs what the host tests need. Run it by hand: python docs/take_pictures.py [NODE_ID ...]"""

import io
import sys
import tempfile
from pathlib import Path

from comfyui_stylegan_fusion.miniature.settings import SDS_SETTINGS, prompt_for
from PIL import Image

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "web" / "docs"
sys.path.insert(0, str(PROJECT / "tests" / "host"))

from comfy_host import Host, find_comfyui  # noqa: E402
from comfy_page import ComfyPage, open_page  # noqa: E402
from graphs import training  # noqa: E402
from registered import ours  # noqa: E402

MOST_BYTES = 60_000
HEIGHT = 1100  # pixels; the page is higher, and has bars at its edges
WIDTH = 270  # pixels, at least
STEPS = 150  # of the training that is shown
FILES = ("stylegan/stylegan2-ffhq-config-f.pkl", "stylegan_domains/ink_00001.safetensors")  # what people have
TRAIN = "StyleGANFusionTrainGenerator"
SHOW_RESULTS = {TRAIN, "StyleGANFusionCompareSamples"}
"""Nodes that have more to show once they have run."""

# Room for the whole title; the node's height.
WIDEN = """([title, width]) => {
    const node = window.app.graph.nodes.find(n => n.title === title);
    if (node.size[0] < width) node.setSize([width, node.size[1]]);
    return node.size[1];
}"""


def shown_by_themselves(names: list[str]) -> dict:
    """A graph in API form with one node of each kind."""
    return {name: {"class_type": name, "inputs": {}} for name in names}


def shown_after_a_run() -> dict:
    """A graph in API form with the nodes that show something when they have run."""
    fox = SDS_SETTINGS
    changes = {
        "guidance.guidance_scale": fox.guidance_scale,
        "guidance.t_min": fox.training.t_min,
        "guidance.t_max": fox.training.t_max,
        "negative.text": prompt_for("person"),
        "regularizer.weight": fox.weights["directional"],
        "layers.k": 6,
        "train.batch_size": fox.training.batch_size,
        "train.learning_rate": fox.training.learning_rate,
        "train.samples": 4,
    }
    graph = training(STEPS, **changes)
    for name in ("save", "before", "after", "plot"):  # what they show would lie over their neighbours
        del graph[name]
    graph["compare"] = {
        "class_type": "StyleGANFusionCompareSamples",
        "inputs": {"before": ["train", 1], "after": ["train", 2]},
    }
    return graph


def take(page: ComfyPage, graph: dict, wanted: set[str], titles: dict[str, str], run: bool) -> None:
    """Pictures of the wanted nodes of a graph, which are found by their titles."""
    page.evaluate("graph => window.app.loadApiJson(graph, 'pictures')", graph)
    if run:
        page.look_at(titles[TRAIN])  # a panel out of sight does not grow
        if (wrong := page.run(timeout=900)) is not None:
            sys.exit(f"The graph did not run: {wrong}")
    page.pause(2000)  # until all pictures on the nodes are there
    for node in sorted(wanted):
        title = titles[node]
        height = page.evaluate(WIDEN, [title, WIDTH]) + 40
        with tempfile.TemporaryDirectory() as folder:
            scale = min(1.0, HEIGHT / height)
            picture = Image.open(page.node_screenshot(title, Path(folder) / "node.png", scale)).convert("RGB")
        path = DOCS / "pictures" / f"{node}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(small(picture))
        print(f"{path.relative_to(PROJECT)}: {picture.width} x {picture.height}, {path.stat().st_size} bytes")


def small(picture: Image.Image) -> bytes:
    """PNG of as many colours as fit into MOST_BYTES."""
    for colours in (256, 128, 64, 32):
        written = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
        if written.tell() < MOST_BYTES:
            break
    return written.getvalue()


def put_into_page(node: str, title: str) -> None:
    """The picture's line below the heading of the node's help page, once."""
    page, line = DOCS / f"{node}.md", f"![The node {title}](pictures/{node}.png)"
    if not page.exists():
        print(f"{page.relative_to(PROJECT)} is missing")
        return
    heading, _, text = page.read_text("utf-8").partition("\n")
    if line not in text:
        page.write_text(f"{heading}\n\n{line}\n{text}", "utf-8", newline="\n")


def main(chosen: list[str]) -> None:
    with tempfile.TemporaryDirectory() as base:
        for name in FILES:
            file = Path(base) / "models" / name
            file.parent.mkdir(parents=True)
            file.touch()
        with (
            Host(*find_comfyui(), Path(base), folder_name="stylegan-fusion") as host,
            open_page(host.url) as page,
        ):
            page.set_setting("Comfy.NodeBadge.NodeSourceBadgeMode", "None")  # it would be cut off
            titles = {name: node["display_name"] for name, node in ours(host.object_info()).items()}
            wanted = titles.keys() & (chosen or titles.keys())
            if alone := wanted - SHOW_RESULTS:
                take(page, shown_by_themselves(sorted(alone)), alone, titles, run=False)
            if shown := wanted & SHOW_RESULTS:
                take(page, shown_after_a_run(), shown, titles, run=True)
    for name in sorted(wanted):
        put_into_page(name, titles[name])


if __name__ == "__main__":
    main(sys.argv[1:])
