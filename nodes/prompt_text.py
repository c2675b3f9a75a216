"""The words behind a CONDITIONING: it carries none itself, but the graph that is running knows them."""

from collections.abc import Mapping


def prompt_behind(graph: Mapping | None, node_id: str | None, input_name: str) -> str:
    """Every text that goes into an input of a node, in the order of the graph's links, joined by " | ".

    graph is the API form, {id: {"class_type", "inputs"}}; a link is [id, output index]. "" when nothing is found."""
    texts: list[str] = []
    start = ((graph or {}).get(node_id) or {}).get("inputs", {}).get(input_name)
    waiting, seen = [start], set()
    while waiting:
        link = waiting.pop(0)
        if not (isinstance(link, list) and len(link) == 2 and link[0] in graph) or link[0] in seen:
            continue
        seen.add(link[0])
        inputs = graph[link[0]].get("inputs", {})
        texts += [value for name, value in inputs.items() if "text" in name and isinstance(value, str) and value]
        waiting += inputs.values()
    return " | ".join(dict.fromkeys(texts))
