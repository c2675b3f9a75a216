"""ComfyUI's page in a headless Chromium: what a user opens, reads and saves."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

READY = "() => window.app?.vueAppReady && window.app.graph && LiteGraph.registered_node_types['KSampler']"


class BrowserNotFound(Exception):
    """No Chromium on this machine."""


def find_chromium() -> str:
    """$CHROMIUM, else a Chromium or Chrome on the path."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise BrowserNotFound("no Chromium on the path: install it or set CHROMIUM to its executable")
    return found


class ComfyPage:
    """The open page. outside_requests lists what it tried to fetch from elsewhere (and was refused)."""

    def __init__(self, browser, url: str):
        self.outside_requests: list[str] = []
        self.errors: list[str] = []
        # Wide, so that a whole graph is drawn large enough to be read.
        self._page = browser.new_page(viewport={"width": 2400, "height": 1350})
        self._page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._page.route(lambda address: not address.startswith((url, "data:", "blob:")), self._refuse)
        self._page.goto(url)
        self._page.wait_for_function(READY, timeout=90_000)

    def _refuse(self, route) -> None:
        self.outside_requests.append(route.request.url)
        route.abort()

    def open(self, workflow: dict | Path) -> None:
        """Open a workflow, a dictionary or a file, as the page's own "Open" does."""
        if isinstance(workflow, Path):
            workflow = json.loads(workflow.read_text(encoding="utf-8"))
        self._page.evaluate("async workflow => { await window.app.loadGraphData(workflow) }", workflow)

    def api_form(self, workflow: dict | Path) -> dict:
        """Open the workflow; the graph that pressing "Run" would submit."""
        self.open(workflow)
        return self._page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def saved_form(self) -> dict:
        """The open graph as the page saves it to a workflow file."""
        return self._page.evaluate("async () => (await window.app.graphToPrompt()).workflow")

    def overlapping_nodes(self) -> list[tuple[str, str]]:
        """Titles of each two nodes of the open graph whose boxes, title bars included, overlap."""
        boxes = self._page.evaluate(
            """() => window.app.graph.nodes.map(n => [n.title, n.pos[0], n.pos[1] - LiteGraph.NODE_TITLE_HEIGHT,
                                                      n.pos[0] + n.size[0], n.pos[1] + n.size[1]])"""
        )
        return [
            (a[0], b[0])
            for i, a in enumerate(boxes)
            for b in boxes[i + 1 :]
            if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]
        ]

    def screenshot(self, path: Path) -> Path:
        """The page with the whole graph in view."""
        self._page.evaluate("() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self._page.wait_for_timeout(1500)  # the view moves with an animation
        self._page.screenshot(path=path)
        return path


@contextmanager
def open_page(url: str):
    """The page at url; BrowserNotFound without a Chromium."""
    executable = find_chromium()
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        except Error as e:
            raise BrowserNotFound(f"{executable} did not start: {e}") from e
        try:
            yield ComfyPage(browser, url)
        finally:
            browser.close()
