"""Films the quick start for the README: docs/panel.webp, the panel while it trains, and docs/quickstart.png, the graph after
its run. Needs what the host tests need, and some minutes. Run it by hand: python docs/film_training.py"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "tests" / "host"))

from comfy_host import Host, find_comfyui  # noqa: E402
from comfy_page import open_page  # noqa: E402

TRAIN = "Train Generator"
FRAMES = 28
WIDTH = 420  # pixels of the film
QUALITY = 75  # of WebP, which GIF's 256 colours do not come near
MILLISECONDS = 220
LAST_MILLISECONDS = 2500


def film(page) -> list[Image.Image]:
    """The panel at regular steps of the training, which the page is about to run."""
    panel, frames = page.node_element(TRAIN), []
    page.look_at(TRAIN, 1.0)
    page.queue()
    panel.get_by_role("img", name="Samples").wait_for(timeout=300_000)
    state = "() => document.querySelector('.stylegan-fusion-panel [role=progressbar]').ariaValueNow"
    done = 0
    while done < 100:
        page.pause(200)
        done = int(page.evaluate(state) or 0)
        if done >= len(frames) * 100 / FRAMES:
            picture = Image.open(io.BytesIO(panel.screenshot())).convert("RGB")
            frames.append(
                picture.resize((WIDTH, round(WIDTH * picture.height / picture.width)), Image.Resampling.LANCZOS)
            )
    return frames


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        Host(*find_comfyui(), Path(base)) as host,
        open_page(host.url) as page,
    ):
        page.open(PROJECT / "example_workflows" / "quickstart.json")
        frames = film(page)
        page.wait_until_idle(600)
        page.pause(2000)  # until all pictures on the nodes are there
        with tempfile.TemporaryDirectory() as folder:
            graph = Image.open(page.screenshot(Path(folder) / "graph.png")).convert("RGB")
    height = max(frame.height for frame in frames)
    sheets = []
    for frame in frames:
        sheet = Image.new("RGB", (WIDTH, height), frame.getpixel((2, 2)))
        sheet.paste(frame)
        sheets.append(sheet)
    durations = [MILLISECONDS] * (len(sheets) - 1) + [LAST_MILLISECONDS]
    target = PROJECT / "docs" / "panel.webp"
    sheets[0].save(target, save_all=True, append_images=sheets[1:], duration=durations, loop=0, quality=QUALITY)
    graph.resize((1600, 900), Image.Resampling.LANCZOS).quantize(256).save(
        PROJECT / "docs" / "quickstart.png", optimize=True
    )
    print(f"{len(sheets)} frames, {target.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
