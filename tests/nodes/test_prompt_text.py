"""Which words are taken for the prompt of a graph."""

import pytest
from comfyui_stylegan_fusion.nodes.adapt.prompt_text import negative_of_guider, prompt_behind


def graph(**nodes):
    """Nodes by their ids: (class, inputs). "guidance" has the links to "plus" and "minus"."""
    known = {
        "loader": ("CheckpointLoaderSimple", {"ckpt_name": "text.safetensors"}),
        "minus": ("CLIPTextEncode", {"text": "blurry", "clip": ["loader", 1]}),
        "guidance": ("StyleGANFusionSDSGuidance", {"positive": ["plus", 0], "negative": ["minus", 0]}),
        **nodes,
    }
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in known.items()}


PLAIN = ("CLIPTextEncode", {"text": "a werewolf", "clip": ["loader", 1]})
POSITIVE = {
    "plain": {"plus": PLAIN},
    "a linked text": {
        "plus": ("CLIPTextEncode", {"text": ["words", 0], "clip": ["loader", 1]}),
        "words": ("PrimitiveStringMultiline", {"value": "a werewolf"}),
    },
    "two encoders": {"plus": ("CLIPTextEncodeFlux", {"clip_l": "a werewolf", "t5xxl": "a werewolf", "guidance": 3.5})},
    "user_prompt": {"plus": ("CLIPTextEncodeLumina2", {"system_prompt": "superior", "user_prompt": "a werewolf"})},
    "a chosen text": {
        "plus": ("CLIPTextEncode", {"text": ["words", 0]}),
        "words": ("CustomCombo", {"choice": "a werewolf"}),
    },
    "a text with a list of two in it": {
        "plus": ("CLIPTextEncode", {"text": ["words", 0]}),
        "words": ("Formatted", {"f_string": "a werewolf", "boxes": [{"x": 0}, {"x": 1}], "points": [[0, 0], [1, 1]]}),
    },
    "of a pair": {
        "plus": ("PairConditioningSetProperties", {"positive_NEW": ["words", 0], "negative_NEW": ["minus", 0]}),
        "words": PLAIN,
    },
    "of a node that does everything": {"plus": ("EfficientLoader", {"positive": "a werewolf", "negative": "blurry"})},
    "behind a ControlNet": {
        "plus": (
            "ControlNetApplyAdvanced",
            {"positive": ["words", 0], "negative": ["minus", 0], "control_net": ["net", 0], "image": ["drawn", 0]},
        ),
        "words": PLAIN,
        "net": ("ControlNetLoader", {"control_net_name": "text"}),
        "drawn": ("DrawText", {"text": "something else"}),
    },
}


@pytest.mark.parametrize("nodes", POSITIVE.values(), ids=POSITIVE)
def test_the_prompt_is_what_its_encoder_reads(nodes):
    assert prompt_behind(graph(**nodes), "guidance", "positive") == "a werewolf"
    assert prompt_behind(graph(**nodes), "guidance", "negative") == "blurry"


def test_several_prompts_come_in_the_order_of_their_links():
    combined = ("ConditioningCombine", {"conditioning_1": ["one", 0], "conditioning_2": ["two", 0]})
    nodes = {"one": ("CLIPTextEncode", {"text": "a wolf"}), "two": ("CLIPTextEncode", {"text": "a man"})}
    assert prompt_behind(graph(plus=combined, **nodes), "guidance", "positive") == "a wolf | a man"


def test_a_prompt_without_meaning_has_no_words():
    zeroed = graph(plus=PLAIN, minus=("ConditioningZeroOut", {"conditioning": ["plus", 0]}))
    assert prompt_behind(zeroed, "guidance", "negative") == ""


def test_a_guider_has_both_prompts():
    guider = ("CFGGuider", {"model": ["loader", 0], "positive": ["plus", 0], "negative": ["minus", 0], "cfg": 7})
    guided = graph(plus=PLAIN, guider=guider, guidance=("StyleGANFusionSDSGuidance", {"guider": ["guider", 0]}))
    assert prompt_behind(guided, "guidance", "guider") == "a werewolf"
    assert negative_of_guider(guided, "guidance") == "blurry"
    guided["guidance"]["inputs"]["guider"] = ["switch", 0]
    guided["switch"] = {"class_type": "Switch", "inputs": {"on_true": ["guider", 0], "switch": True}}
    assert negative_of_guider(guided, "guidance") == "blurry"
    dual = {"cond1": ["plus", 0], "cond2": ["plus", 0], "negative": ["minus", 0]}
    guided["guider"] = {"class_type": "DualCFGGuider", "inputs": dual}
    assert prompt_behind(guided, "guidance", "guider") == "a werewolf"
    guided["guider"] = {"class_type": "BasicGuider", "inputs": {"conditioning": ["plus", 0]}}
    assert prompt_behind(guided, "guidance", "guider") == "a werewolf"
    assert negative_of_guider(guided, "guidance") == ""


@pytest.mark.parametrize("graph_of", [None, {}, {"guidance": {"inputs": {"positive": ["guidance", 0]}}}])
def test_nothing_is_found_where_nothing_is(graph_of):
    assert prompt_behind(graph_of, "guidance", "positive") == negative_of_guider(graph_of, "guidance") == ""
