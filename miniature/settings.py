"""The settings that suit the miniature world: of the demo, the quick start, and the measurements."""

from dataclasses import dataclass, field

from ..sds import LayerChoice, TopKLayers, TrainSettings


@dataclass(frozen=True)
class MiniatureSettings:
    """Everything an adaptation of the miniature needs besides the prompt."""

    prompt: str = "a portrait of a fox"
    negative_prompt: str = ""
    guidance_scale: float = 7.5  # 100, right for Stable Diffusion at 512 pixels, saturates the miniature
    directional_weight: float = 0.3
    reconstruction_weight: float = 0.0
    layers: LayerChoice = field(default_factory=lambda: TopKLayers(3))
    training: TrainSettings = field(
        default_factory=lambda: TrainSettings(steps=250, batch_size=4, t_min=0.02, t_max=0.8)
    )


MINIATURE_SETTINGS = MiniatureSettings()
