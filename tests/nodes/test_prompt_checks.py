"""What is said of prompts before a training."""

import pytest
from comfyui_stylegan_fusion.nodes.adapt.prompt_checks import EMPTY, SAME, prompt_warnings
from comfyui_stylegan_fusion.nodes.adapt.prompt_text import is_blank, prompt_behind


def graph(**texts):
    encoders = {name: {"class_type": "CLIPTextEncode", "inputs": {"text": text}} for name, text in texts.items()}
    return {**encoders, "guidance": {"class_type": "SDS", "inputs": {name: [name, 0] for name in texts}}}


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_a_blank_prompt_is_told_from_none(text):
    assert is_blank(graph(positive=text), "guidance", "positive")
    assert not is_blank(graph(positive=text), "guidance", "negative")
    assert not is_blank(graph(positive="a fox"), "guidance", "positive")


def test_one_blank_text_beside_another_is_no_blank_prompt():
    both = {
        "both": {
            "class_type": "ConditioningCombine",
            "inputs": {"conditioning_1": ["a", 0], "conditioning_2": ["b", 0]},
        }
    }
    linked = {**graph(a="", b="a fox"), **both, "guidance": {"class_type": "SDS", "inputs": {"positive": ["both", 0]}}}
    assert not is_blank(linked, "guidance", "positive") and prompt_behind(linked, "guidance", "positive") == "a fox"


def test_each_thing_is_said_once():
    assert prompt_warnings(False, False, []) == ()
    assert prompt_warnings(True, True, []) == (EMPTY,)
    assert prompt_warnings(False, True, []) == (SAME,)
    (said,) = prompt_warnings(False, False, ["werewolf", "spaceship"])
    assert 'never learned "werewolf", "spaceship" and reads them letter by letter' in said and "fox" in said
