"""What ComfyUI says of our nodes, reduced to what saved workflows depend on (schemas.json) and to what translators need
(locales/en). python tests/host/registered.py starts a ComfyUI and writes both files."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from comfy_host import PROJECT, Host, find_comfyui

PREFIX = "StyleGANFusion"
SCHEMAS = Path(__file__).parent / "schemas.json"
LOCALE = PROJECT / "locales" / "en" / "nodeDefs.json"

# The page compiles translations: these are no letters to it. Texts with them come from the schema instead.
NOT_TRANSLATED = frozenset("{}@|$")


def ours(info: dict) -> dict[str, dict]:
    """Of an answer of /object_info."""
    return {name: node for name, node in sorted(info.items()) if name.startswith(PREFIX)}


def inputs_of(node: dict) -> list[dict]:
    """name, type, optional and the options of each input, in the order in which the page saves their values."""
    found = []
    for group in ("required", "optional"):
        for name, (kind, *options) in node["input"].get(group, {}).items():
            options = options[0] if options else {}
            if isinstance(kind, list):  # an older way to say it
                kind, options = "COMBO", {**options, "options": kind}
            found.append({"name": name, "type": kind, "optional": group == "optional", **options})
    return found


def schemas(info: dict) -> dict:
    """Node id to its inputs and outputs, of a ComfyUI without models."""
    kept = ("name", "type", "optional", "default", "min", "max", "options")
    return {
        name: {
            "inputs": [{key: row[key] for key in kept if key in row} for row in inputs_of(node)],
            "outputs": [list(pair) for pair in zip(node["output_name"], node["output"], strict=True)],
        }
        for name, node in ours(info).items()
    }


def breakages(before: dict, now: dict) -> list[str]:
    """What has become of `schemas` that would break saved workflows."""
    found = []
    for node, old in before.items():
        if node not in now:
            found.append(f"{node} is gone")
            continue
        old_inputs, new_inputs = old["inputs"], now[node]["inputs"]
        old_values, new_values = _saved_by_place(old_inputs), _saved_by_place(new_inputs)
        if new_values[: len(old_values)] != old_values:
            found.append(f"{node}: the widgets are not the old ones in their order, and new ones after them")
            continue
        is_now = {row["name"]: row for row in new_inputs}
        if gone := [row["name"] for row in old_inputs if row["name"] not in is_now]:
            found.append(f"{node}: {', '.join(gone)} are gone")
            continue
        for was in old_inputs:
            found += [f"{node}.{was['name']}: {change}" for change in _changes(was, is_now.pop(was["name"]))]
        found += [f"{node}.{name} is new and not optional" for name, row in is_now.items() if not row["optional"]]
        if now[node]["outputs"][: len(old["outputs"])] != old["outputs"]:
            found.append(f"{node}: the outputs are not the old ones in their order, and new ones after them")
    return found


def _saved_by_place(inputs: list[dict]) -> list[str]:
    """The names of the inputs whose values the page saves in a list. Links it saves by the input's name: a socket may
    become optional, and so come after the others."""
    sockets = {"MODEL", "VAE", "CLIP", "IMAGE", "MASK", "LATENT", "CONDITIONING", "GUIDER", "CLIP_VISION"}
    own = {row["type"] for row in inputs if row["type"].startswith("STYLEGAN_FUSION") and "PANEL" not in row["type"]}
    return [row["name"] for row in inputs if row["type"] not in sockets | own]


def _changes(was: dict, now: dict):
    if now["type"] != was["type"]:
        yield f"its type was {was['type']}"
    if was["optional"] and not now["optional"]:
        yield "it was optional"
    if "default" in was and now.get("default") != was["default"]:
        yield f"its default was {was['default']!r}"
    if now.get("min", float("-inf")) > was.get("min", float("-inf")) or now.get("max", 0) < was.get("max", 0):
        yield f"it took {was['min']} to {was['max']}"
    gone = [value for value in was.get("options", []) if value not in now.get("options", [])]
    if gone:
        yield f"{gone} cannot be chosen any more"


def locale(info: dict) -> dict:
    """The English texts of our nodes, as the page looks them up."""
    return {
        name: _clean(
            {
                "display_name": node["display_name"],
                "description": node["description"],
                "inputs": {
                    _key(row["name"]): {"name": row["name"], "tooltip": row.get("tooltip")} for row in inputs_of(node)
                },
                "outputs": {
                    str(i): {"name": label, "tooltip": tooltip}
                    for i, (label, tooltip) in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True))
                },
            }
        )
        for name, node in ours(info).items()
    }


def _key(name: str) -> str:
    return name.replace(".", "_")


def _clean(texts):
    if isinstance(texts, dict):
        return {key: cleaned for key, value in texts.items() if (cleaned := _clean(value))}
    return None if texts is None or NOT_TRANSLATED & {*texts} else texts


def as_json(content) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as base, Host(*find_comfyui(), Path(base)) as host:
        info = host.object_info()
    before = json.loads(SCHEMAS.read_text("utf-8")) if SCHEMAS.exists() else {}
    broken = breakages(before, schemas(info))
    if broken:
        sys.exit("\n".join([*broken, f"Workflows that people saved would break. If that is meant, delete {SCHEMAS}."]))
    SCHEMAS.write_text(as_json(schemas(info)), "utf-8", newline="\n")
    LOCALE.parent.mkdir(parents=True, exist_ok=True)
    LOCALE.write_text(as_json(locale(info)), "utf-8", newline="\n")
    print(f"Wrote {len(schemas(info))} nodes to {SCHEMAS} and {LOCALE}")


if __name__ == "__main__":
    main()
