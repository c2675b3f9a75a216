"""The settings that suit the miniature world: of the demo, the quick start, and the measurements."""

from ..domain.settings import DomainSettings
from ..sds.presets import PRESETS
from ..sds.presets import Preset as MiniatureSettings

__all__ = ["LEARNING", "MINIATURE_SETTINGS", "SDS_SETTINGS", "SOURCES", "TARGETS", "MiniatureSettings", "prompt_for"]

SOURCES = ("person", "cat")
"""What the bundled generators draw."""

TARGETS = ("fox", "robot", "zombie", "doll", "cat", "person")
"""What the demo can make of them."""


SDS_SETTINGS = PRESETS["miniature, score distillation"]
"""Of score distillation as in the paper."""

MINIATURE_SETTINGS = PRESETS["miniature"]
"""Of the demo, the quick start, and of a miniature adapted without a word about settings: for any prompt."""


LEARNING = DomainSettings(steps=150, batch_size=8, learning_rate=4e-4, average=0.98, cooldown=0.5)
"""Of learning a domain from a few dozen pictures: the published rate is made for far longer trainings."""


def prompt_for(domain: str) -> str:
    """Return the prompt that names a domain."""
    return f"a portrait of a {domain}"
