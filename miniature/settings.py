"""The settings that suit the miniature world: of the demo, the quick start, and the measurements."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..sds import AllLayers, LayerChoice, TrainSettings


@dataclass(frozen=True)
class MiniatureSettings:
    """MiniatureSettings are everything that adapts the miniature's persons."""

    prompt: str
    guidance_scale: float  # 100, right for Stable Diffusion at 512 pixels, saturates the miniature
    weights: Mapping[str, float]  # of the regularizers, by their kind in TERMS
    training: TrainSettings
    negative_prompt: str = "a portrait of a person"  # away from the source: hats and colours stay, which neither names
    layers: LayerChoice = field(default_factory=AllLayers)


DEMOS = {
    "fox": MiniatureSettings(
        "a portrait of a fox",
        guidance_scale=1.25,
        weights={"directional": 2.0},
        training=TrainSettings(steps=350, batch_size=4, learning_rate=0.006, cooldown=0.6, t_min=0.3, t_max=0.95),
    ),
    # The outline lies farther from a person's: a stronger pull, less to hold on to, and timesteps that draw details.
    "robot": MiniatureSettings(
        "a portrait of a robot",
        guidance_scale=1.5,
        weights={"directional": 1.0},
        training=TrainSettings(steps=320, batch_size=4, learning_rate=0.003, cooldown=0.6, t_min=0.05, t_max=0.85),
    ),
}
"""What the demo can make of a person, and what was measured."""

MINIATURE_SETTINGS = DEMOS["fox"]
"""Of the quick start, and of a miniature adapted without a word about settings."""
