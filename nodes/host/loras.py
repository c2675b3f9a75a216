"""LoRAs of ours on models of the host."""

from pathlib import Path
from typing import Any

import folder_paths

from .compatibility import incompatible

try:
    import comfy.sd
    import comfy.utils
    from server import PromptServer

    load_lora_for_models = comfy.sd.load_lora_for_models
except (ImportError, AttributeError) as error:
    raise incompatible(error) from error

STOCK_LOADERS = ("LoraLoaderModelOnly", "LoraLoader")
"""The host's own nodes that load LoRAs."""


def with_lora(model, path: Path, strength: float):
    """Return a MODEL with the LoRA of a file, as the host's own nodes do."""
    lora = comfy.utils.load_torch_file(str(path), safe_load=True)
    return load_lora_for_models(model, None, lora, strength, 0)[0]


def replace_stock_loaders(lora_name: str, class_type: str) -> None:
    """Let graphs that come in with a LoRA of ours in one of the host's own nodes, whose lists it stood in before, run with
    our node of this type in its place; to be called before the server starts."""
    PromptServer.instance.add_on_prompt_handler(lambda asked: _replaced(asked, lora_name, class_type))


def _replaced(asked: dict[str, Any], lora_name: str, class_type: str) -> dict[str, Any]:
    graph = asked.get("prompt")
    if not isinstance(graph, dict) or lora_name in folder_paths.get_filename_list(
        "loras"
    ):  # the user's own file counts
        return asked
    clips = {}
    for name, node in graph.items():
        inputs = node.get("inputs", {}) if isinstance(node, dict) else {}
        if inputs.get("lora_name") == lora_name and node.get("class_type") in STOCK_LOADERS:
            if "clip" in inputs:
                clips[name] = inputs["clip"]
            node["class_type"] = class_type
            node["inputs"] = {"model": inputs.get("model"), "strength": inputs.get("strength_model", 1.0)}
    for node in graph.values() if clips else ():
        for key, value in node.get("inputs", {}).items():
            if isinstance(value, list) and len(value) == 2 and value[0] in clips and value[1] == 1:
                node["inputs"][key] = clips[value[0]]
    return asked
