"""Saved workflows beside the schemas of the nodes in them, without running anything."""

from __future__ import annotations

import re
from collections.abc import Iterator

from registered import inputs_of

# Nodes that the page has by itself.
OF_THE_PAGE = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
VALUES = {
    "INT": lambda value: type(value) is int,
    "FLOAT": lambda value: type(value) in (int, float),
    "STRING": lambda value: isinstance(value, str),
    "BOOLEAN": lambda value: isinstance(value, bool),
    "COMBO": lambda value: isinstance(value, str | int | float),
    "STYLEGAN_FUSION_PANEL": lambda value: isinstance(value, str),
}
SEEDS = ("seed", "noise_seed")  # the page gives them this widget unasked
CONTROLS = ("fixed", "increment", "decrement", "randomize")
FILE = re.compile(r"\.\w{2,11}$")  # what there is of these differs from one machine to the next


def complaints(workflow: dict, info: dict) -> list[str]:
    """What in a saved workflow does not fit the nodes of an answer of /object_info; one sentence each."""
    found = []
    for part in [workflow, *(workflow.get("definitions") or {}).get("subgraphs", [])]:
        inner = {graph["id"] for graph in (workflow.get("definitions") or {}).get("subgraphs", [])}
        nodes = {node["id"]: node for node in part["nodes"] if node["type"] not in OF_THE_PAGE | inner}
        for node in nodes.values():
            if node["type"] not in info:
                found.append(f"there is no node {node['type']}")
            else:
                found += [f"{node['type']} {node['id']}: {said}" for said in _about_values(node, info[node["type"]])]
        if not any("there is no node" in said for said in found):
            found += [
                f"link {link[0]}: {said}"
                for link in map(_link, part["links"])
                for said in _about_link(link, nodes, info)
            ]
    return found


def _about_values(node: dict, schema: dict) -> Iterator[str]:
    values = list(node.get("widgets_values") or [])
    rows = [row for row in inputs_of(schema) if row["type"] in VALUES and not row.get("forceInput")]
    for row in rows:
        if not values:
            if not row["optional"]:
                yield f"it has no value for {row['name']}"
            continue
        yield from _about_value(row, values.pop(0))
        if row.get("control_after_generate", row["name"] in SEEDS):
            control = values.pop(0) if values else None
            if control not in CONTROLS:
                yield f"{control!r} is not what happens to {row['name']} after a run"
        if row.get("image_upload") and values:
            values.pop(0)  # the button
    if values:
        yield f"it has more values than widgets: {values}"
    known = {row["name"] for row in inputs_of(schema)}
    yield from (f"it has no input {slot['name']}" for slot in node.get("inputs", []) if slot["name"] not in known)


def _about_value(row: dict, value) -> Iterator[str]:
    if not VALUES[row["type"]](value):
        yield f"{value!r} is no {row['type']} for {row['name']}"
    elif row["type"] == "COMBO":
        if row["options"] and value not in row["options"] and not FILE.search(str(value)):
            yield f"{value!r} is no option of {row['name']}"
    elif row["type"] in ("INT", "FLOAT") and not row.get("min", value) <= value <= row.get("max", value):
        yield f"{value!r} is out of range for {row['name']}"


def _link(link) -> list:
    """A link of a subgraph, which is a dictionary, as those of workflows: id, origin, slot, target, slot, type."""
    order = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return [link[key] for key in order] if isinstance(link, dict) else link


def _about_link(link: list, nodes: dict, info: dict) -> Iterator[str]:
    _, origin, slot, target, into, kind = link
    if origin in nodes:
        offered = info[nodes[origin]["type"]]["output"]
        if slot >= len(offered) or not _agree(offered[slot], kind):
            yield f"{nodes[origin]['type']} has no output {slot} of type {kind}"
    if target in nodes:
        name = nodes[target]["inputs"][into]["name"]
        taken = {row["name"]: row["type"] for row in inputs_of(info[nodes[target]["type"]])}
        if not _agree(taken.get(name, ""), kind):
            yield f"{nodes[target]['type']}.{name} takes no {kind}"


def _agree(one, other) -> bool:
    kinds = [{"COMBO"} if isinstance(kind, list) else {*kind.split(",")} for kind in (one, other)]
    return any("*" in kind for kind in kinds) or bool(kinds[0] & kinds[1])
