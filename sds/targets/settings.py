"""The settings of making targets, each declared once."""

from dataclasses import dataclass

from ...training.settings import check_settings, setting
from .editing import INVERSIONS

MAKE = "Make Targets"
"""The node that shows settings."""


@dataclass(frozen=True)
class TargetSettings:
    """TargetSettings say how many samples of a generator are edited, and how. Raises ValueError naming the setting that
    is out of range."""

    count: int = setting(
        200,
        "Samples of the generator that are edited. More give more variety; 100 to 400 are usual.",
        what="The number of targets",
        least=2,
        node=MAKE,
        added_later=False,
        shown=(2, 4096, 1),
        option="",
    )
    strength: float = setting(
        0.8,
        "How far a sample is taken into the noise before it is drawn anew, as a fraction of the schedule. 0.5 keeps nearly "
        "everything, 0.8 changes the shape, 0.95 hardly keeps anything.",
        what="The targets' strength",
        unit="a fraction",
        above=0,
        most=1,
        node=MAKE,
        added_later=False,
        shown=(0.05, 1.0, 0.01),
        option="--target-strength",
    )
    levels: int = setting(
        8,
        "Steps up into the noise, and as many down. More are finer and take as much longer.",
        what="The targets' levels",
        least=1,
        node=MAKE,
        advanced=True,
        added_later=False,
        shown=(1, 1000, 1),
        option="--target-levels",
    )
    inversion: str = setting(
        "ddim",
        "How a sample gets into the noise. ddim: along the diffusion model's own path, from which it comes back as it was. "
        "noise: with one noise for all, for models that have no such path.",
        choices=INVERSIONS,
        node=MAKE,
        advanced=True,
        added_later=False,
        option="--target-inversion",
    )
    seed: int = setting(
        0,
        "The latents of the samples follow from it.",
        what="The targets' seed",
        least=0,
        most=2**64 - 1,
        node=MAKE,
        added_later=False,
        shown=(0, 2**63 - 1, 1),
        control="fixed",
        option="",
    )
    refresh: int = setting(
        0,
        "Steps of the training after which the targets are made anew, from what the generator draws by then, at half the "
        "strength; and again after as many. 0: they stay.",
        what="The targets' refresh",
        wants="give a number of steps, 0 for never",
        least=0,
        node=MAKE,
        advanced=True,
        shown=(0, 100_000, 1),
        option="--target-refresh",
        metavar="STEPS",
    )
    refresh_share: float = setting(
        1.0,
        "Share of the targets that are made anew then: those beside which the generator's samples are softest, with least of "
        "their fine detail. 1: all.",
        what="The share of refreshed targets",
        unit="a fraction",
        above=0,
        most=1,
        node=MAKE,
        advanced=True,
        shown=(0.01, 1.0, 0.01),
        option="--target-refresh-share",
    )
    batch_size: int = setting(
        8,
        "Samples that are edited at a time. Fewer take less memory.",
        what="The targets' batch size",
        least=1,
        node=MAKE,
        advanced=True,
        added_later=False,
        shown=(1, 256, 1),
        option="--target-batch",
        changes_weights=False,
    )

    def __post_init__(self):
        check_settings(self)
