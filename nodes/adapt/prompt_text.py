"""The words behind a CONDITIONING: it carries none itself, but the graph that is running knows them. Knows nothing of
ComfyUI's modules, only how its nodes name their inputs."""

from collections.abc import Iterator, Mapping

ENCODERS = frozenset({"clip_l", "clip_g", "t5xxl", "llama", "mt5xl", "bert", "qwen25_7b"})
"""Inputs of encoders that take a text for each of their networks."""

STRINGS = ("value", "string", "choice")
"""How nodes behind a text's link name it, at the beginning or the end."""

NOT_WORDS = frozenset(
    {"model", "clip", "vae", "control_net", "clip_vision_output", "image", "images", "pixels", "latent", "samples"}
    | {"mask", "system_prompt"}
)
"""Inputs behind which there may be words, but not of this prompt."""

NO_PROMPT = frozenset({"ConditioningZeroOut"})
"""Nodes that take the meaning out of what they are given."""

SIDES = ("positive", "negative")
"""Texts themselves, in nodes that do everything."""


def prompt_behind(graph: Mapping | None, node_id: str | None, input_name: str) -> str:
    """Find every text that goes into an input of a node, in the order of the graph's links, joined by " | ".

    Of a node on the way that takes both, the negative prompt is followed where input_name is "negative", and else what
    is not negative. graph is the API form, {id: {"class_type", "inputs"}}; a link is [id, output index]. "" when
    nothing is found."""
    return _words(graph or {}, _inputs(graph or {}, node_id).get(input_name), input_name == "negative")


def is_blank(graph: Mapping | None, node_id: str | None, input_name: str) -> bool:
    """Tell whether texts go into an input of a node, and all of them are blank."""
    graph = graph or {}
    texts = _texts(graph, _inputs(graph, node_id).get(input_name), input_name == "negative")
    return bool(texts) and not any(text.strip() for text in texts)


def negative_of_guider(graph: Mapping | None, node_id: str | None) -> str:
    """Find the negative prompt of the guider that goes into a node's input "guider"; "" for one without."""
    graph = graph or {}
    waiting, seen = [_inputs(graph, node_id).get("guider")], set()
    while waiting:  # the guider itself may come through nodes that choose or pass on
        link = waiting.pop(0)
        if not is_link(graph, link) or link[0] in seen:
            continue
        seen.add(link[0])
        inputs = _inputs(graph, link[0])
        if "negative" in inputs:
            return _words(graph, inputs["negative"], True)
        waiting += [value for name, value in inputs.items() if name not in NOT_WORDS and not name.startswith("cond")]
    return ""


def is_link(graph: Mapping, value) -> bool:
    """Tell whether the value of an input is the output of another node of the graph; lists may be values, too."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in graph


def _words(graph: Mapping, link, negative: bool) -> str:
    return " | ".join(dict.fromkeys(text for text in _texts(graph, link, negative) if text))


def _texts(graph: Mapping, link, negative: bool) -> list[str]:
    texts: list[str] = []
    waiting, seen = [(link, False)], set()
    while waiting:
        link, of_text = waiting.pop(0)
        if not is_link(graph, link) or link[0] in seen or graph[link[0]].get("class_type") in NO_PROMPT:
            continue
        seen.add(link[0])
        for name, value in _followed(_inputs(graph, link[0]), negative):
            names_text = name in ENCODERS or name in SIDES or "text" in name or "prompt" in name
            names_string = name.startswith(STRINGS) or name.endswith(STRINGS)
            if isinstance(value, str) and (names_text or (of_text and names_string)):
                texts.append(value)
            waiting.append((value, names_text or of_text))
    return texts


def _followed(inputs: Mapping, negative: bool) -> Iterator[tuple[str, object]]:
    has_negative = any(name.startswith("negative") for name in inputs)
    for name, value in inputs.items():
        other = name.startswith("positive") or (name == "prompt" and "negative_prompt" in inputs)
        if name not in NOT_WORDS and not (has_negative and (other if negative else name.startswith("negative"))):
            yield name, value


def _inputs(graph: Mapping, node_id: str | None) -> Mapping:
    return (graph.get(node_id) or {}).get("inputs", {})
