"""What a training holds, in one object."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..stylegan import Generator, class_labels, render_samples, sample_z
from .layers import LayerChoice
from .objective import Objective
from .parameters import copy_generator, group_parameters, layer_parameters
from .prior import Prior
from .progress import History, TrainResult
from .regularizers import Regularizer
from .settings import TrainSettings

ADAM_FACTOR = 4 / 5
"""StyleGAN2's correction of Adam for its lazy regularization, kept by the method: a factor of the learning rate, and an
exponent of the betas (0, 0.99)."""


@dataclass
class TrainState:
    """Everything of a training. Random numbers are a function of (seed, step): nothing of them needs keeping."""

    settings: TrainSettings
    objective: Objective
    layers: LayerChoice
    candidates: tuple[int, ...]  # the layers that may be chosen
    frozen: Generator  # the generator as given, on the prior's device
    generator: Generator  # its copy in training
    optimizer: torch.optim.Adam
    home: torch.device  # where the given generator lives
    step: int = 0  # steps done
    history: History = field(default_factory=History)

    @classmethod
    def start(
        cls,
        generator: Generator,
        prior: Prior,
        settings: TrainSettings,
        regularizers: Sequence[Regularizer],
        layers: LayerChoice,
    ) -> "TrainState":
        """Raises ValueError when generator, regularizers and layers do not fit together."""
        regularizers = [regularizer for regularizer in regularizers if regularizer.weight > 0]
        candidates = layers.candidates(len(generator.synthesis.layers))
        _check(generator, regularizers, settings)
        trained = copy_generator(generator, prior.device)
        parameters = trained_parameters(trained, candidates, settings.also_train)
        for parameter in parameters:
            parameter.requires_grad_(True)
        return cls(
            settings=settings,
            objective=Objective(
                prior, regularizers, settings.gradient_clamp, settings.image_clamp_quantile, settings.crop
            ),
            layers=layers,
            candidates=candidates,
            frozen=copy_generator(generator, prior.device),
            generator=trained,
            optimizer=torch.optim.Adam(parameters, betas=(0.0, 0.99**ADAM_FACTOR)),  # the rate: update()
            home=next(generator.parameters()).device,
        )

    def parameters(self, layers: Sequence[int]) -> list[nn.Parameter]:
        """The parameters that a step with these layers updates."""
        return trained_parameters(self.generator, layers, self.settings.also_train)

    def update(self) -> None:
        """Let Adam use the gradients that are there, at this step's learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.step) * ADAM_FACTOR
        self.optimizer.step()

    def samples(self, count: int) -> Tensor:
        """Images [count, 3, R, R] on the CPU by the generator in training, from latents that never change."""
        z = sample_z(self.generator.z_dim, count, self.settings.seed)
        return render_samples(self.generator, z, class_index=self.settings.class_index)

    def result(self) -> TrainResult:
        generator = copy_generator(self.generator, self.home)
        return TrainResult(generator, self.history, self.step, interrupted=self.step < self.settings.steps)


def trained_parameters(generator: Generator, layers: Sequence[int], groups: Sequence[str]) -> list[nn.Parameter]:
    """The parameters of these layers and groups, each once."""
    parameters = [p for index in layers for p in layer_parameters(generator, index)]
    parameters += [p for group in groups for p in group_parameters(generator, group)]
    return list(dict.fromkeys(parameters))


def _check(generator: Generator, regularizers: Sequence[Regularizer], settings: TrainSettings) -> None:
    channels = generator.config.img_channels
    if channels != 3:
        raise ValueError(f"The generator makes images of {channels} channels; give one that makes RGB images.")
    class_labels(generator.c_dim, 1, class_index=settings.class_index)
    names = [regularizer.name for regularizer in regularizers]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"The {twice[0]} regularizer is given {names.count(twice[0])} times; give it once.")
