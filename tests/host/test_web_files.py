"""What the page asks of us in a folder whose name has a space and a dot."""

import urllib.error
import urllib.request
from urllib.parse import quote

import pytest
from comfy_host import EXTENSION_FOLDER, PROJECT

HELP_FOLDER = EXTENSION_FOLDER.partition(".")[0]  # as the page shortens it


def fetch(host, address: str) -> bytes:
    with urllib.request.urlopen(host.url + quote(address), timeout=30) as answer:
        return answer.read()


@pytest.mark.parametrize(
    "address, file",
    [
        (f"/extensions/{EXTENSION_FOLDER}/compare.js", "web/compare.js"),
        (f"/api/extensions/{EXTENSION_FOLDER}/compare.css", "web/compare.css"),
        (f"/extensions/{HELP_FOLDER}/docs/StyleGANFusionCompareSamples.md", "web/docs/StyleGANFusionCompareSamples.md"),
        (f"/api/workflow_templates/{EXTENSION_FOLDER}/quickstart.json", "example_workflows/quickstart.json"),
    ],
)
def test_the_page_gets_our_files(host, address, file):
    assert fetch(host, address) == (PROJECT / file).read_bytes()


@pytest.mark.parametrize("path", ["../pyproject.toml", "docs", "nothing.js"])
def test_nothing_else_is_served(host, path):
    with pytest.raises(urllib.error.HTTPError) as error:
        fetch(host, f"/extensions/{EXTENSION_FOLDER}/{path}")
    assert error.value.code == 404


def test_every_script_that_the_page_is_told_of_is_there(host):
    ours = [address for address in host.get("/extensions") if quote(EXTENSION_FOLDER) in address]
    assert any(address.endswith("/compare.js") for address in ours)
    for address in ours:
        with urllib.request.urlopen(host.url + address, timeout=30) as answer:
            assert answer.status == 200
