"""The settings of learning a domain, each declared once."""

from dataclasses import dataclass

from ..training.ramps import Ramp, cooldown
from ..training.settings import check_settings, setting

LEARN = "Train Domain"
"""The node that shows them."""

CROPS = ("buckets", "square")
"""How pictures of any shape become pictures that the model was made for."""


@dataclass(frozen=True)
class DomainSettings:
    """DomainSettings say how long, how fast and of what to learn a domain. Raises ValueError naming the setting that is
    out of range."""

    steps: int = setting(
        2000,
        "Training steps. Some hundred are enough for thirty pictures, thousands for thousands.",
        least=1,
        node=LEARN,
        shown=(1, 1_000_000, 1),
        added_later=False,
    )
    batch_size: int = setting(
        4,
        "Pictures in each step. More are steadier and take more memory.",
        least=1,
        node=LEARN,
        shown=(1, 256, 1),
        added_later=False,
    )
    learning_rate: float = setting(
        1e-5,
        "Size of the steps. The published 0.00001 is for all weights and long trainings; low rank takes about ten times as much.",
        what="The learning rate",
        wants="it must be above 0 (0.00001 is the default)",
        above=0,
        node=LEARN,
        shown=(0.000001, 0.1, 0.000001),
        added_later=False,
    )
    rank: int = setting(
        0,
        "0 trains all weights of the copy. Above 0: a change of low rank, 16 for example, which takes far less memory and a "
        "file of some megabytes.",
        what="The rank",
        least=0,
        most=1024,
        node=LEARN,
        shown=(0, 1024, 1),
        added_later=False,
    )
    seed: int = setting(
        0,
        "Which pictures, noise and timesteps each step takes: the same seed gives the same domain.",
        what="The seed",
        wants="give a whole number from 0 to 2^64 - 1",
        least=0,
        most=2**64 - 1,
        node=LEARN,
        shown=(0, 2**63 - 1, 1),
        control="fixed",  # the next run of the graph goes on with this training
        added_later=False,
    )
    mirror: bool = setting(
        True,
        "Show each picture mirrored, too, half of the time. Not for writing and other things that have a side.",
        node=LEARN,
        added_later=False,
    )
    crop: str = setting(
        "buckets",
        "buckets: pictures keep about their shape, those of one shape are learned together. square: the middle of each.",
        choices=CROPS,
        node=LEARN,
        advanced=True,
        added_later=False,
    )
    accumulation: int = setting(
        1,
        "Batches in each step, one after the other: like a batch that many times as large, in the memory of one.",
        least=1,
        node=LEARN,
        advanced=True,
        shown=(1, 256, 1),
        metavar="N",
        added_later=False,
    )
    cooldown: float = setting(
        0.0,
        "Share of the steps, the last ones, over which the learning rate falls to 0.",
        what="The cooldown",
        wants="give a share of the steps from 0 (none) to 1 (all)",
        least=0,
        most=1,
        node=LEARN,
        advanced=True,
        shown=(0.0, 1.0, 0.05),
        added_later=False,
    )
    average: float = setting(
        0.999,
        "Decay of the average of the weights, which is the domain that comes out; it follows faster at first. 0 is off.",
        what="The decay of the average",
        wants="give a share from 0 (off) to below 1, 0.999 for example",
        least=0,
        most=0.99999,
        node=LEARN,
        advanced=True,
        shown=(0.0, 0.9999, 0.0001),
        metavar="DECAY",
        added_later=False,
    )
    train_vectors: bool = setting(
        False,
        "Train what stands in place of the text, too. The published method keeps it.",
        node=LEARN,
        advanced=True,
        added_later=False,
    )
    precision: str = setting(
        "auto",
        "Numbers that the copy computes with. auto takes bfloat16 where the processor is made for it; its weights are float32 "
        "in any case.",
        choices=("auto", "float32", "bfloat16"),
        node=LEARN,
        advanced=True,
        added_later=False,
    )
    recompute: bool | None = setting(
        None,
        "Compute activations twice instead of keeping them: a little slower, and much less memory. Automatic: above 256 "
        "pixels.",
        node=LEARN,
        advanced=True,
        node_input="memory",
        labels={"auto": None, "keep activations": False, "compute again": True},
        changes_weights=False,
        added_later=False,
    )
    image_size: int = setting(
        0,
        "Side in pixels of the pictures that are learned, of their area where they are no squares. 0: what the model was made "
        "for.",
        what="The image size",
        least=0,
        most=4096,
        node=LEARN,
        advanced=True,
        shown=(0, 4096, 8),
        metavar="PIXELS",
        added_later=False,
    )

    def __post_init__(self):
        check_settings(self)

    @property
    def rate(self) -> Ramp:
        """Return the learning rate over the training."""
        return cooldown(self.learning_rate, self.steps, self.cooldown)
