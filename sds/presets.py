"""Settings that suit one generator, one model and one kind of change together: the one table of them, for nodes, command
line and demo alike. Numbers are changed here and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .layers import AllLayers, LayerChoice
from .settings import TrainSettings
from .targets.settings import TargetSettings


@dataclass(frozen=True)
class Preset:
    """A Preset is everything that adapts a generator."""

    guidance_scale: float  # of score distillation
    weights: Mapping[str, float]  # of the regularizers, by their kind in TERMS
    training: TrainSettings
    targets: TargetSettings | None = None  # None: by score distillation alone
    target_scale: float = 2.0  # the guidance scale while targets are made
    layers: LayerChoice = field(default_factory=AllLayers)
    about: str = ""  # for people: what it is for, and where its numbers come from


_PAPER = "From the paper's runs at 512 pixels (arXiv 2212.04473)."
_UNMEASURED = "Not measured by us yet: begin here, and judge by eye."


def _stable_diffusion(t_max: float, strength: float, about: str, steps: int = 1000, weights=None) -> Preset:
    """Make a preset of the paper's: scale 100, one image in each step, Adam's usual rate."""
    return Preset(
        guidance_scale=100.0,
        weights={"directional": 1.0} if weights is None else weights,
        training=TrainSettings(steps=steps, batch_size=1, learning_rate=0.001, t_min=0.01, t_max=t_max),
        targets=TargetSettings(count=200, strength=strength),
        target_scale=5.0,
        about=about,
    )


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "miniature": Preset(
            guidance_scale=1.25,
            weights={},
            training=TrainSettings(steps=500, batch_size=8, cooldown=0.6, t_min=0.3, t_max=0.95, precision="auto"),
            targets=TargetSettings(count=400, strength=0.8, levels=5, batch_size=16, refresh=170, refresh_share=0.2),
            target_scale=1.75,
            about="The bundled models, on targets: any prompt that they know. Measured.",
        ),
        "miniature, score distillation": Preset(
            guidance_scale=1.25,
            weights={"directional": 2.0},
            training=TrainSettings(steps=350, batch_size=4, learning_rate=0.012, cooldown=0.6, t_min=0.3, t_max=0.95),
            about="The bundled models without targets, as in the paper. Measured.",
        ),
        "SD 1.5 style": _stable_diffusion(0.3, 0.5, f"Other colours and details, the same shapes. {_PAPER}"),
        "SD 1.5 shape": _stable_diffusion(0.5, 0.8, f"Other outlines, too. {_PAPER}"),
        "SDXL": _stable_diffusion(0.5, 0.8, f"As SD 1.5 shape. {_UNMEASURED}"),
        "faces": _stable_diffusion(0.5, 0.7, f"Generators of faces, such as FFHQ. {_PAPER}"),
        "cats": _stable_diffusion(
            0.3, 0.7, f"Generators of cats, such as AFHQ. {_PAPER}", steps=2000, weights={"reconstruction": 0.5}
        ),
    }
)
"""The presets by name, in the order in which they are offered."""
