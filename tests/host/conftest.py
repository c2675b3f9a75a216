"""Fixtures of the host tests: one ComfyUI and one page for the whole session."""

import sys
from functools import partial
from pathlib import Path

import pytest

# The tests are no package (a folder tests/nodes as one would shadow ComfyUI's own module): make the helpers importable.
sys.path.insert(0, str(Path(__file__).parent))

from comfy_host import Host, HostNotFound, find_comfyui, run_script
from comfy_page import BrowserNotFound, open_page
from panel_page import TITLE, workflow


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("host")


@pytest.fixture(scope="session")
def run_in_host():
    """A function that runs a script of this folder by ComfyUI's Python: run_in_host(name, *arguments)."""
    try:
        return partial(run_script, *find_comfyui())
    except HostNotFound as e:
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    """A running ComfyUI with this project and the zoo of tiny models as extensions."""
    try:
        folder, python = find_comfyui()
    except HostNotFound as e:
        pytest.skip(str(e))
    zoo = Path(__file__).parent / "zoo"
    with Host(folder, python, tmp_path_factory.mktemp("comfyui"), extensions=(zoo,)) as running:
        yield running


@pytest.fixture(scope="session")
def page(host):
    """ComfyUI's page, open in a headless Chromium."""
    try:
        with open_page(host.url) as page:
            yield page
    except BrowserNotFound as e:
        pytest.skip(str(e))


@pytest.fixture
def opened(page):
    """A function that opens a graph with trainings in the page: opened(steps, titles)."""
    page.errors.clear()  # the page of the oldest host starts with one of its own

    def open_graph(*arguments):
        page.evaluate("graph => window.app.loadApiJson(graph, 'test.json')", workflow(*arguments))
        page.look_at(TITLE)  # the page hides what is out of view
        return page

    yield open_graph
    page.evaluate("() => window.app.api.interrupt()")


@pytest.fixture(scope="module")
def pictures(host):
    """A folder of drawings, ink, in the host's input folder."""
    import torch
    from comfyui_stylegan_fusion.metrics.figures import to_pictures
    from comfyui_stylegan_fusion.miniature.factors import sample_factors
    from comfyui_stylegan_fusion.miniature.ink import render_ink

    folder = host.base / "input" / "ink"
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(
        to_pictures(render_ink(sample_factors(6, torch.Generator().manual_seed(1), "person")))
    ):
        picture.save(folder / f"{number}.png")
    return folder
