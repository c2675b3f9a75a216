"""ComfyUI's page in a headless Chromium: what a user opens, reads and saves."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Error, TimeoutError, sync_playwright

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
FIRST_GRAPH = "() => window.app.extensionManager.workflow.activeWorkflow"
FRAMES = """frames => new Promise(resolve => {
    const next = () => frames-- > 0 ? requestAnimationFrame(next) : resolve();
    next();
})"""

# Queues the open graph and waits for its last message: null when it succeeded, else what went wrong.
RUN = """async seconds => {
    const { api } = window.app, kinds = ["execution_success", "execution_error", "execution_interrupted"];
    let listener;
    const ended = new Promise(resolve => {
        listener = event => resolve(event.type === kinds[0] ? null : event.detail.exception_message ?? event.type);
        setTimeout(() => resolve(`not finished after ${seconds} s`), 1000 * seconds);
    });
    kinds.forEach(kind => api.addEventListener(kind, listener));
    try {
        await window.app.queuePrompt(0);
        const rejected = window.app.lastNodeErrors ?? {};
        return Object.keys(rejected).length ? JSON.stringify(rejected) : await ended;
    } finally {
        kinds.forEach(kind => api.removeEventListener(kind, listener));
    }
}"""

# One node's box on the page, in pixels: x, y, width, height, the title bar included.
NODE_BOX = """title => {
    const node = window.app.graph.nodes.find(n => n.title === title), view = window.app.canvas.ds;
    const canvas = window.app.canvas.canvas.getBoundingClientRect(), bar = LiteGraph.NODE_TITLE_HEIGHT;
    return {
        x: canvas.x + (node.pos[0] + view.offset[0]) * view.scale,
        y: canvas.y + (node.pos[1] - bar + view.offset[1]) * view.scale,
        width: node.size[0] * view.scale,
        height: (node.size[1] + bar) * view.scale,
    };
}"""

# The node's middle into the page's middle.
LOOK_AT = """([title, scale]) => {
    const node = window.app.graph.nodes.find(n => n.title === title), view = window.app.canvas.ds;
    const canvas = window.app.canvas.canvas.getBoundingClientRect();
    view.scale = scale;
    view.offset[0] = canvas.width / 2 / scale - node.pos[0] - node.size[0] / 2;
    view.offset[1] = canvas.height / 2 / scale - node.pos[1] - node.size[1] / 2;
    window.app.canvas.setDirty(true, true);
}"""

# Marks the HTML element of the node's widget, wherever the page has put it.
MARK_ELEMENT = """title => {
    const node = window.app.graph.nodes.find(n => n.title === title);
    const { element } = node.widgets.find(widget => widget.element);
    element.dataset.ofNode = title;
}"""


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

    def __init__(self, context, url: str):
        self.outside_requests: list[str] = []
        self.errors: list[str] = []
        self._page, self._url = context.new_page(), url
        self._page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._page.route(lambda address: not address.startswith((url, "data:", "blob:")), self._refuse)
        self._page.goto(url)
        self._wait_until_ready()

    @contextmanager
    def beside(self):
        """Another page of the same browser, in a tab of its own."""
        other = ComfyPage(self._page.context, self._url)
        try:
            yield other
        finally:
            other._page.close()

    def _wait_until_ready(self) -> None:
        self._page.wait_for_function(READY, timeout=90_000)
        # Newer pages open a graph of their own at last, which would replace ours; the oldest may open none.
        with suppress(TimeoutError):
            self._page.wait_for_function(FIRST_GRAPH, timeout=5_000)

    def _refuse(self, route) -> None:
        self.outside_requests.append(route.request.url)
        route.abort()

    def open(self, workflow: dict | Path) -> None:
        """Open a workflow, a dictionary or a file, as the page's own "Open" does."""
        if isinstance(workflow, Path):
            workflow = json.loads(workflow.read_text(encoding="utf-8"))
        self._page.evaluate("async workflow => { await window.app.loadGraphData(workflow) }", workflow)

    def reopen(self, workflow: dict) -> None:
        """Open a workflow in the place of the one that is shown, as undoing does."""
        script = """async workflow => {
            const { activeWorkflow } = window.app.extensionManager.workflow;
            await window.app.loadGraphData(workflow, true, true, activeWorkflow);
        }"""
        self._page.evaluate(script, workflow)

    def go_back(self) -> None:
        """Show the workflow in the tab before this one."""
        self._command("Workspace.PreviousOpenedWorkflow")

    def go_forward(self) -> None:
        """Show the workflow in the tab behind this one."""
        self._command("Workspace.NextOpenedWorkflow")

    def undo(self) -> None:
        """Take the latest change of the graph back."""
        self._command("Comfy.Undo")

    def close_others(self) -> None:
        """Close all workflows but the one that is shown."""
        script = """async () => {
            const store = window.app.extensionManager.workflow, kept = store.activeWorkflow.path;
            for (const one of [...store.openWorkflows]) if (one.path !== kept) await store.closeWorkflow(one);
        }"""
        self._page.evaluate(script)

    def _command(self, name: str) -> None:
        self._page.evaluate("name => window.app.extensionManager.command.execute(name).then(() => null)", name)
        self.pause(500)

    def drop(self, workflow: dict, name: str) -> None:
        """Drop a workflow's file on the page."""
        script = """async ([text, name]) => {
            await window.app.handleFile(new File([text], name, { type: "application/json" }));
        }"""
        self._page.evaluate(script, [json.dumps(workflow), name])
        self.pause(500)

    def api_form(self, workflow: dict | Path) -> dict:
        """Open the workflow; the graph that pressing "Run" would submit."""
        self.open(workflow)
        return self._page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def saved_form(self) -> dict:
        """The open graph as the page saves it to a workflow file."""
        # As text, as the page writes it: what is undefined is not there, where Playwright would make it null.
        return json.loads(
            self._page.evaluate("async () => JSON.stringify((await window.app.graphToPrompt()).workflow)")
        )

    def run(self, timeout: float = 300) -> str | None:
        """Queue the open graph as the button "Run" does and wait for its end: None when it succeeded, else what went
        wrong. Seeds that change after each run do so."""
        return self._page.evaluate(RUN, timeout)

    def queue(self) -> None:
        """Queue the open graph by the page, and do not wait."""
        self._page.evaluate("() => { window.app.queuePrompt(0) }")

    def pause(self, milliseconds: float) -> None:
        """Wait, while the page goes on: so long, and until it has drawn what it would in that time, however busy the
        machine is."""
        self._page.wait_for_timeout(milliseconds)
        self._page.evaluate(FRAMES, milliseconds // 33)

    def wait_until(self, script: str, *arguments, seconds: float = 60) -> None:
        """Wait until a function of JavaScript is true in the page. Arguments as for `evaluate`."""
        self._page.wait_for_function(script, arg=_as_one(arguments), timeout=1000 * seconds)

    def wait_until_idle(self, timeout: float = 300) -> None:
        """Wait until ComfyUI's queue is empty, in seconds."""
        script = """async () => {
            const queue = await (await window.app.api.fetchApi("/queue")).json();
            return queue.queue_running.length + queue.queue_pending.length;
        }"""
        deadline = time.monotonic() + timeout
        while self._page.evaluate(script):
            assert time.monotonic() < deadline, f"ComfyUI was still busy after {timeout} s"
            self.pause(100)

    def evaluate(self, script: str, *arguments):
        """What a function of JavaScript returns in the page; several arguments come as one array."""
        return self._page.evaluate(script, _as_one(arguments))

    @property
    def mouse(self):
        """Playwright's mouse and keyboard, in pixels of the page."""
        return self._page.mouse

    @property
    def keyboard(self):
        return self._page.keyboard

    def control(self, role: str, name: str):
        """Playwright's locator of a control of the page's own, by its role and its name for screen readers."""
        return self._page.get_by_role(role, name=name).first

    def download(self):
        """Playwright's context in whose body a file is downloaded: its value is the download."""
        return self._page.expect_download()

    def show_properties(self, shown: bool) -> bool:
        """Open or close the page's list of settings beside the graph. False where the page has none."""
        toggle = self.control("button", "Toggle properties panel")
        if not toggle.count():
            return False
        panel = self._page.get_by_test_id("properties-panel")
        if bool(panel.count()) != shown:
            toggle.click()
            panel.wait_for(state="visible" if shown else "detached")
        return True

    def look_at(self, title: str, scale: float = 1.0) -> None:
        """Move the view: the node in the middle, one unit of the graph as `scale` pixels."""
        self._page.evaluate(LOOK_AT, [title, scale])
        self.pause(300)  # until it is drawn, and the HTML on the node has followed

    def node_element(self, title: str):
        """Playwright's locator of the HTML element that one node's widget shows."""
        self._page.evaluate(MARK_ELEMENT, title)
        return self._page.locator(f'[data-of-node="{title}"]')

    def node_screenshot(self, title: str, path: Path, scale: float = 1.0, margin: float = 8) -> Path:
        """One node as it looks, with `margin` pixels around it."""
        self.look_at(title, scale)
        box = self._page.evaluate(NODE_BOX, title)
        clip = {side: box[side] - margin for side in ("x", "y")}
        clip |= {side: box[side] + 2 * margin for side in ("width", "height")}
        self._page.screenshot(path=path, clip=clip)
        return path

    def set_setting(self, name: str, value) -> None:
        """Change one of the page's settings as its dialog does."""
        script = "([name, value]) => window.app.extensionManager.setting.set(name, value)"
        self._page.evaluate(script, [name, value])
        self.pause(300)  # until the page looks like it

    def set_theme(self, name: str) -> None:
        """A colour palette of the page: "dark", "light"."""
        self.set_setting("Comfy.ColorPalette", name)

    def reload(self) -> None:
        """Reload the page. It opens the last workflow again only with the setting Comfy.Workflow.Persist."""
        self._page.reload()
        self._wait_until_ready()

    def resize(self, width: int, height: int) -> None:
        """Give the window another size, in pixels."""
        self._page.set_viewport_size({"width": width, "height": height})

    def picture(self, path: Path) -> Path:
        """The page as it is."""
        self._page.screenshot(path=path)
        return path

    def screenshot(self, path: Path) -> Path:
        """The page with the whole graph in view."""
        self._page.evaluate("() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.pause(1500)  # the view moves with an animation
        self._page.screenshot(path=path)
        return path


def _as_one(arguments: tuple):
    return arguments[0] if len(arguments) == 1 else list(arguments)


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
            # Wide, so that a whole graph is drawn large enough to be read.
            yield ComfyPage(browser.new_context(viewport={"width": 2400, "height": 1350}), url)
        finally:
            browser.close()
