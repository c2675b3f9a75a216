import pytest
from comfyui_stylegan_fusion.nodes.panel.panels import Panels
from running import Node, Page


@pytest.fixture
def page():
    return Page()


@pytest.fixture
def panels(page, tmp_path):
    return Panels(page, lambda: tmp_path / "moments")


@pytest.fixture
def panel(panels):
    return panels.open("a key")


@pytest.fixture
def node():
    return Node()
