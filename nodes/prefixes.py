"""Prefixes of files with placeholders, as the host's own saving nodes and its page fill them. Knows nothing of ComfyUI."""

import re
from collections.abc import Mapping
from datetime import datetime

from .file_names import NOT_ON_WINDOWS

LONGEST_VALUE = 60
"""Letters of a widget's value in a name: prompts are longer than names may be."""

_TOKENS = {"yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "hh": "%H", "mm": "%M", "ss": "%S"}
_SINGLE = {"M": "month", "d": "day", "h": "hour", "m": "minute", "s": "second"}
_PARTS = ("year", "month", "day", "hour", "minute", "second")


def filled(prefix: str, graph: Mapping | None, now: datetime | None = None) -> str:
    """Fill in %date%, %date:yyyy-MM-dd%, %time%, %year% to %second%, and %Title.widget% with the value that the node of
    this title has there; others stay.

    graph is the API form, {id: {"class_type", "inputs", "_meta"}}; None: not known yet, every widget counts as filled
    in."""
    now = now or datetime.now()
    return re.sub(r"%([^%]+)%", lambda match: _value(match[1], graph, now) or match[0], prefix)


def _value(name: str, graph: Mapping | None, now: datetime) -> str | None:
    if name in ("date", "time"):
        return now.strftime("%Y-%m-%d" if name == "date" else "%H-%M-%S")
    if name in _PARTS:
        return f"{getattr(now, name):02}"
    if name.startswith("date:"):
        return _storable(_date(name.removeprefix("date:"), now))
    title, dot, widget = name.rpartition(".")
    if not dot:
        return None
    if graph is None:
        return "value"
    for node in graph.values():
        value = node.get("inputs", {}).get(widget)
        if title in (node.get("_meta", {}).get("title"), node.get("class_type")) and isinstance(
            value, str | int | float
        ):
            return _storable(str(value))[:LONGEST_VALUE].rstrip(". ")
    return None


def _date(form: str, now: datetime) -> str:
    def part(match: re.Match) -> str:
        found = match[0]
        return now.strftime(_TOKENS[found]) if found in _TOKENS else str(getattr(now, _SINGLE[found]))

    return re.sub("|".join((*_TOKENS, *_SINGLE)), part, form)


def _storable(text: str) -> str:
    return "".join("_" if letter in NOT_ON_WINDOWS or letter in "/\\:" else letter for letter in text)
