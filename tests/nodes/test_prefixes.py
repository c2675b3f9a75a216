"""Placeholders in the prefixes of files."""

from datetime import datetime

import pytest
from comfyui_stylegan_fusion.nodes.outputs import claimed, new_path
from comfyui_stylegan_fusion.nodes.prefixes import filled

NOW = datetime(2026, 3, 4, 5, 6, 7)
GRAPH = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 42, "model": ["2", 0]}, "_meta": {"title": "Sampler: last"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox/wolf: " + "very " * 30}},
}


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        ("fox", "fox"),
        ("%date%/fox", "2026-03-04/fox"),
        ("%date:yyyy-MM-dd%_fox", "2026-03-04_fox"),
        ("%date:d.M.yy%", "4.3.26"),
        ("%date:hh:mm:ss%", "05_06_07"),
        ("%year%%month%%day%-%hour%%minute%%second%", "20260304-050607"),
        ("%time%", "05-06-07"),
        ("%Sampler: last.seed%", "42"),
        ("%KSampler.seed%", "42"),
        ("%KSampler.model%", "%KSampler.model%"),
        ("%Nobody.seed%", "%Nobody.seed%"),
        ("100%", "100%"),
        ("50% of 100%", "50% of 100%"),
    ],
)
def test_placeholders_are_filled_as_the_host_does(prefix, wanted):
    assert filled(prefix, GRAPH, NOW) == wanted


def test_words_of_a_prompt_become_a_name_that_can_be_stored(tmp_path):
    with claimed(tmp_path, "%CLIPTextEncode.text%/fox", graph=GRAPH) as path:
        assert path.parent.name.startswith("a fox_wolf_ very very") and path.name == "fox_00001.safetensors"


def test_a_prefix_is_judged_before_its_graph_is_known(tmp_path):
    assert new_path(tmp_path, "%Sampler: last.seed%/%date:hh:mm%_fox").name.endswith("_fox_00001.safetensors")
    with pytest.raises(ValueError, match="leads out"):
        new_path(tmp_path, "../%date%")
    for folder in ("unfinished", "Moments"):
        with pytest.raises(ValueError, match="are kept for a while"):
            new_path(tmp_path, f"{folder}/fox")
