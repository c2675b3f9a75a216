"""Presets as the page fills them in: which input of which node gets which value."""

from typing import Any

from aiohttp import web

from ...sds import TargetSettings, TrainSettings
from ...sds.presets import PRESETS, Preset
from ...sds.settings import GUIDANCE, TRAIN
from ...sds.targets.settings import MAKE
from ...training.settings import node_input_of
from ..settings import shown_settings

PATH = "/stylegan_fusion/presets"

NODES = {
    TRAIN: "StyleGANFusionTrainGenerator",
    GUIDANCE: "StyleGANFusionSDSGuidance",
    MAKE: "StyleGANFusionMakeTargets",
}
REGULARIZERS = {
    "directional": "StyleGANFusionDirectionalRegularizer",
    "reconstruction": "StyleGANFusionReconstructionRegularizer",
}
"""The nodes that a preset fills in, by what declares their settings, and by the term that they make."""

FILLED = {
    TRAIN: ("steps", "batch_size", "learning_rate", "cooldown"),
    GUIDANCE: ("t_min", "t_max"),
    MAKE: ("count", "strength", "levels", "refresh", "refresh_share"),
}
"""Settings that belong to a preset. The others are of a picture, a generator or a machine: seeds, classes, memory."""


def values_of(preset: Preset) -> dict[str, dict[str, Any]]:
    """Return what a preset fills in: node id to input to value."""
    found = {NODES[node]: _values(preset.training, TrainSettings, node) for node in (TRAIN, GUIDANCE)}
    found[NODES[GUIDANCE]]["guidance_scale"] = preset.guidance_scale
    if preset.targets is not None:
        made = _values(preset.targets, TargetSettings, MAKE)
        found[NODES[MAKE]] = {**made, "guidance_scale": preset.target_scale}
    for term, weight in preset.weights.items():
        found[REGULARIZERS[term]] = {"weight": weight}
    return found


def _values(settings: Any, owner: type, node: str) -> dict[str, Any]:
    shown = shown_settings(owner, node)
    return {node_input_of(shown[name]): getattr(settings, name) for name in FILLED[node]}


def register_presets(routes: web.RouteTableDef) -> None:
    """Add to a server's routes, before it starts, the one on which its page asks for the presets."""

    @routes.get(PATH)
    async def presets(_):
        return web.json_response(
            {name: {"about": preset.about, "nodes": values_of(preset)} for name, preset in PRESETS.items()}
        )
