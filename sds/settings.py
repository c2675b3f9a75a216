"""The settings of adapting a generator, each declared once."""

import math
from dataclasses import dataclass

from ..stylegan import Crop
from ..training.ramps import Ramp, cooldown, linear
from ..training.settings import check_settings, setting
from .parameters import PARAMETERIZATIONS
from .schedules import TIMESTEP_SCHEDULES, WEIGHTINGS

PARAMETER_GROUPS = ("constant", "4x4", "to_rgb", "decoder", "superresolution")
"""Groups that are frozen by default and can be trained too, by name."""

TRAIN, GUIDANCE, OPTIMIZER, LAYERS = "Train Generator", "SDS Guidance", "Optimizer", "Layer Select"
"""The nodes that show settings."""


def parse_groups(text: str) -> tuple[str, ...]:
    """Return the names of parameter groups written with commas, none for ""; `TrainSettings` checks them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True)
class TrainSettings:
    """TrainSettings say how long, how fast and at which timesteps to train. Raises ValueError naming the
    setting that is out of range."""

    steps: int = setting(
        1000,
        "Training steps. 1000 for faces, 2000 for cats with all layers; fewer layers need more.",
        least=1,
        node=TRAIN,
        shown=(1, 100_000, 1),
        added_later=False,
    )
    batch_size: int = setting(
        1,
        "Images in each step, which share a timestep. More are steadier, slower, and take more memory; 1 to 4 are usual.",
        least=1,
        node=TRAIN,
        shown=(1, 256, 1),
        added_later=False,
    )
    accumulation: int = setting(
        1,
        "Batches in each step, one after the other: like a batch that many times as large, in the memory of one.",
        least=1,
        node=TRAIN,
        advanced=True,
        shown=(1, 256, 1),
        metavar="N",
    )
    learning_rate: float = setting(  # Adam gets 4/5 of it, StyleGAN2's factor for its lazy regularization
        0.001,
        "Size of the steps. Half of it where the images break, twice as much where too little happens. Adam takes 4/5 of "
        "it, as StyleGAN2 does, and Muon 20 times it.",
        what="The learning rate",
        wants="it must be above 0 (0.001 is the default)",
        above=0,
        node=TRAIN,
        shown=(0.00001, 0.1, 0.00001),  # the page rounds to its step
        added_later=False,
    )
    cooldown: float = setting(
        0.0,
        "Share of the steps, the last ones, over which the learning rate falls to 0. 0 keeps it constant, as in the paper; "
        "0.6 with a higher learning rate gave cleaner images on the miniature.",
        what="The cooldown",
        wants="give a share of the steps from 0 (none) to 1 (all)",
        least=0,
        most=1,
        node=TRAIN,
        advanced=True,
        shown=(0.0, 1.0, 0.05),
    )
    t_min: float = setting(
        0.01,
        "Lowest timestep, as a fraction of the schedule: 0 is clean. 0.01 is right for nearly everything.",
        unit="a fraction",
        least=0,
        most=1,
        node=GUIDANCE,
        shown=(0.0, 1.0, 0.01),
        added_later=False,
    )
    t_max: float = setting(
        0.5,
        "Highest timestep, as a fraction: 1 is pure noise. About 0.3 changes the style, 0.5 and more the shape.",
        unit="a fraction",
        least=0,
        most=1,
        node=GUIDANCE,
        shown=(0.0, 1.0, 0.01),
        added_later=False,
    )
    timestep_schedule: str = setting(
        "uniform",
        "How timesteps are taken from their range. uniform: at random. annealed: at random, the largest falling to t_min. "
        "linear and sqrt: from t_max down to t_min, first shapes, then details.",
        choices=tuple(TIMESTEP_SCHEDULES),
        node=GUIDANCE,
        advanced=True,
    )
    timesteps_per_image: int = setting(
        1,
        "Timesteps at which each image of a step is looked at, spread over their range. More make steadier steps and cost "
        "evaluations of the diffusion model alone: the image is drawn and encoded once.",
        least=1,
        most=64,
        metavar="N",
    )
    weighting: str = setting(
        "sds",
        "How much a timestep counts: sds is sigma^2 as in the paper, uniform the same for all, fantasia3d alpha sigma^2, "
        "x0 sigma/alpha.",
        choices=tuple(WEIGHTINGS),
        node=GUIDANCE,
        advanced=True,
    )
    guidance_end: float = setting(
        1.0,
        "Share of the guidance scale that is left at the last step; it changes steadily. 1 keeps it.",
        wants="give the share of the guidance scale that is left at the last step, 1 to keep it",
        least=0,
        node=GUIDANCE,
        advanced=True,
        shown=(0.0, 10.0, 0.05),
        metavar="SHARE",
    )
    seed: int = setting(
        0,
        "Latents, noise and timesteps of every step follow from it: the same seed gives the same generator.",
        what="The seed",
        wants="give a whole number from 0 to 2^64 - 1",
        least=0,
        most=2**64 - 1,
        node=TRAIN,
        shown=(0, 2**63 - 1, 1),
        control="fixed",  # the next run of the graph goes on with this training
        added_later=False,
    )
    optimizer: str = setting(
        "auto",
        "What turns gradients into steps. adam is the paper's; muon draws new outlines in fewer steps. auto: muon towards "
        "targets, adam else.",
        choices=("auto", "adam", "muon"),
        node=OPTIMIZER,
        added_later=False,
    )
    average: float | None = setting(
        None,
        "Decay of an average of the weights, which is then the generator that comes out: 0.99 averages about the last 100 "
        "steps, 0 is off. Automatic: 0.99 where muon is not slowed down by a cooldown, else off.",
        what="The decay of the average",
        wants="give a share from 0 (off) to below 1, 0.99 for example",
        least=0,
        most=0.99999,
        node=OPTIMIZER,
        none_as=-1,
        shown=(-1.0, 0.9999, 0.0001),
        metavar="DECAY",
        added_later=False,
    )
    precision: str = setting(
        "float32",
        "Numbers that the generator computes with while it trains. bfloat16 is faster and a little coarser; auto takes it "
        "where the processor is made for it.",
        choices=("float32", "bfloat16", "auto"),
        node=OPTIMIZER,
        added_later=False,
    )
    gradient_clamp: float | None = setting(
        1.0,
        "Each term's latent gradient is clamped to plus and minus this; None: not at all.",
        wants="give a number above 0, or None to turn it off",
        above=0,
        option="",
    )
    gradient_scale: float | None = setting(
        None,
        "What every term's gradient is multiplied by, before it is clamped. Automatic: 0.01 for generators that draw in 3D, "
        "as the method has it there, else 1.",
        wants="give a number above 0, or None for the one that suits the generator",
        above=0,
        metavar="FACTOR",
    )
    image_clamp_quantile: float | None = setting(
        0.95,
        "Each sample's image gradient is clamped at this quantile of its absolute values; None: not at all.",
        wants="give a fraction above 0 and at most 1, or None to turn it off",
        above=0,
        most=1,
        option="",
    )
    also_train: tuple[str, ...] = setting(
        (),
        f"Groups that are otherwise frozen, with commas: {', '.join(PARAMETER_GROUPS)}. StyleGAN3 has no 4x4; its constant "
        "is the Fourier input. Decoder and superresolution are EG3D's.",
        what="parameter group",
        choices=PARAMETER_GROUPS,
        node=TRAIN,
        advanced=True,
        added_later=False,
        metavar="GROUPS",
    )
    parameterization: str = setting(
        "weights",
        "What of each layer is trained. weights: all that the paper trains. styles: one shift of each style channel, as in "
        "StyleDomain: some thousand numbers in a file of 40 kB, for domains that are near the generator's.",
        what="parameterization",
        choices=tuple(PARAMETERIZATIONS),
        node=LAYERS,
    )
    class_index: int | None = setting(
        None,
        "For generators with classes (CIFAR-10 has 0 to 9): the one to draw.",
        least=0,
        node=TRAIN,
        advanced=True,
        none="all",
        none_as=-1,
        shown=(-1, 65535, 1),
        metavar="N",
    )
    crop: Crop | None = None  # what the prior looks at of each image; None: all
    camera_yaw: float = setting(
        20.0,
        "For generators that draw in 3D: how far cameras turn to each side, in degrees. 180: all around.",
        unit="degrees",
        above=0,
        most=180,
        node=GUIDANCE,
        advanced=True,
        shown=(1.0, 180.0, 1.0),
        metavar="DEGREES",
    )
    camera_pitch: float = setting(
        14.0,
        "For generators that draw in 3D: how far cameras turn up and down, in degrees as EG3D counts them.",
        unit="degrees",
        least=0,
        most=80,
        node=GUIDANCE,
        advanced=True,
        shown=(0.0, 80.0, 1.0),
        metavar="DEGREES",
    )
    diversity_every: int = setting(
        50, "Steps between two measurements of diversity.", least=1, option="", changes_weights=False
    )
    diversity_samples: int = setting(
        16,
        "Samples that a measurement of diversity compares.",
        wants="a distance needs at least 2 samples",
        least=2,
        option="",
    )
    collapse_threshold: float = setting(
        0.5,
        "Warn when the images' diversity falls below this share of what it was; the latest generator before that is the "
        "best generator. 0 never warns.",
        what="The collapse threshold",
        wants="give a share from 0 (never warn) to 1",
        least=0,
        most=1,
        node=TRAIN,
        advanced=True,
        shown=(0.0, 1.0, 0.05),
        metavar="SHARE",
        changes_weights=False,
    )
    when_collapsed: str = setting(
        "warn",
        "What happens then. warn: the training goes on. stop: it ends there, and the latest generator before that is kept.",
        choices=("warn", "stop"),
        node=TRAIN,
        advanced=True,
        changes_weights=False,
    )
    recompute: bool | None = setting(
        None,
        "Compute activations twice instead of keeping them: a little slower, and much less memory. Automatic: when the "
        "diffusion model looks at more than 256 pixels; on the command line only where memory is short.",
        node=TRAIN,
        advanced=True,
        node_input="memory",
        labels={"auto": None, "keep activations": False, "compute again": True},
        earlier_option="--checkpoint",
        changes_weights=False,
    )
    latent_pool: int = setting(
        0,
        "Latents that all steps draw from, again and again: what the frozen generator draws of each is then encoded once. 0 "
        "draws new ones in every step.",
        what="The number of latents",
        least=0,
        node=TRAIN,
        advanced=True,
        shown=(0, 10_000, 1),
        metavar="K",
    )
    noise_pool: int = setting(
        0,
        "Noises, each at a timestep of its own, with which each latent of the pool is looked at: what the diffusion model "
        "says of the frozen generator's pictures is then computed once. 0 draws new ones in every step.",
        what="The number of noises",
        least=0,
        node=TRAIN,
        advanced=True,
        shown=(0, 1_000, 1),
        metavar="M",
    )
    max_skipped_in_a_row: int = setting(
        10,
        "Steps in a row with a non-finite gradient that end the training.",
        least=1,
        option="",
        changes_weights=False,
    )

    def __post_init__(self):
        if isinstance(self.also_train, list):
            object.__setattr__(self, "also_train", tuple(self.also_train))
        low, high = self.t_min, self.t_max
        if not all(isinstance(t, int | float) for t in (low, high)):
            check_settings(self)
        if not (math.isfinite(low) and math.isfinite(high) and 0.0 <= low <= 1.0 and 0.0 <= high <= 1.0):
            raise ValueError(
                f"The timestep range {low} to {high} leaves the schedule; "
                "give two fractions between 0 (clean) and 1 (pure noise)."
            )
        if low > high:
            raise ValueError(f"The timestep range {low} to {high} is empty; t_min must not be above t_max.")
        check_settings(self)
        if self.noise_pool:
            self._check_noise_pool()

    def _check_noise_pool(self) -> None:
        if not self.latent_pool:
            raise ValueError("A noise pool is that of the latents in a latent pool; set latent_pool, too.")
        if self.timestep_schedule != "uniform" or self.guidance_end != 1:
            raise ValueError(
                "The timesteps and the guidance scale of a noise pool stay as they are; set timestep_schedule to uniform and "
                "guidance_end to 1, or noise_pool to 0."
            )
        if self.timesteps_per_image > self.noise_pool:
            raise ValueError(
                f"An image cannot be looked at {self.timesteps_per_image} times with {self.noise_pool} noises; set noise_pool "
                "to as many at least."
            )

    @property
    def rate(self) -> Ramp:
        """Return the learning rate over the training."""
        return cooldown(self.learning_rate, self.steps, self.cooldown)

    @property
    def guidance(self) -> Ramp:
        """Return what the prior's guidance scale is multiplied by over the training."""
        return linear(1.0, self.guidance_end, self.steps)
