"""The words behind a CONDITIONING: it carries none itself, but the graph that is running knows them. Knows nothing of
ComfyUI's modules, only how its nodes name their inputs."""

from collections.abc import Iterator, Mapping

ENCODERS = frozenset({"clip_l", "clip_g", "t5xxl", "llama", "mt5xl", "bert"})
"""Inputs of encoders that take a text for each of their networks."""

STRINGS = ("value", "string")
"""Beginnings of the names that nodes behind a text's link have for it."""

NOT_WORDS = frozenset({"model", "clip", "vae", "control_net", "clip_vision_output"}) | {
    *("image", "images", "pixels", "latent", "samples", "mask"),
    *("system_prompt",),
}
"""Inputs behind which there may be words, but not of this prompt."""

NO_PROMPT = frozenset({"ConditioningZeroOut"})
"""Nodes that take the meaning out of what they are given."""


def prompt_behind(graph: Mapping | None, node_id: str | None, input_name: str) -> str:
    """Every text that goes into an input of a node, in the order of the graph's links, joined by " | ".

    A node on the way that takes both, positive and negative, is followed to the negative where input_name is that, and
    else to all others. graph is the API form, {id: {"class_type", "inputs"}}; a link is [id, output index]. "" when
    nothing is found."""
    graph = graph or {}
    texts: list[str] = []
    waiting, seen = [(_inputs(graph, node_id).get(input_name), False)], set()
    while waiting:
        link, of_text = waiting.pop(0)
        if not _is_link(graph, link) or link[0] in seen or graph[link[0]].get("class_type") in NO_PROMPT:
            continue
        seen.add(link[0])
        for name, value in _followed(_inputs(graph, link[0]), input_name):
            names_text = name in ENCODERS or "text" in name or "prompt" in name
            if isinstance(value, str) and value and (names_text or (of_text and name.startswith(STRINGS))):
                texts.append(value)
            waiting.append((value, names_text or of_text))
    return " | ".join(dict.fromkeys(texts))


def negative_of_guider(graph: Mapping | None, node_id: str | None) -> str:
    """The negative prompt of the guider that goes into a node's input "guider"; "" for one without."""
    link = _inputs(graph or {}, node_id).get("guider")
    return prompt_behind(graph, link[0], "negative") if _is_link(graph or {}, link) else ""


def _followed(inputs: Mapping, wanted: str) -> Iterator[tuple[str, object]]:
    other = "positive" if wanted == "negative" else "negative"
    both = {"positive", "negative"} <= inputs.keys()
    return ((name, value) for name, value in inputs.items() if name not in NOT_WORDS and not (both and name == other))


def _inputs(graph: Mapping, node_id: str | None) -> Mapping:
    return (graph.get(node_id) or {}).get("inputs", {})


def _is_link(graph: Mapping, value) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] in graph
