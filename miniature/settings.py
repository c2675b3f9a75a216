"""The settings that suit the miniature world: of the demo, the quick start, and the measurements."""

from dataclasses import dataclass, field

from ..sds import AllLayers, LayerChoice, TrainSettings


@dataclass(frozen=True)
class MiniatureSettings:
    """Everything an adaptation of the miniature needs besides the prompt."""

    prompt: str = "a portrait of a fox"
    negative_prompt: str = "a portrait of a person"  # away from the source: hats and colours stay, which neither names
    guidance_scale: float = 1.25  # 100, right for Stable Diffusion at 512 pixels, saturates the miniature
    directional_weight: float = 0.75
    reconstruction_weight: float = 0.0
    layers: LayerChoice = field(default_factory=AllLayers)
    training: TrainSettings = field(
        default_factory=lambda: TrainSettings(steps=280, batch_size=4, learning_rate=0.0025, t_min=0.1, t_max=0.85)
    )


MINIATURE_SETTINGS = MiniatureSettings()
