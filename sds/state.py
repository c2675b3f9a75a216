"""What a training holds, in one object."""

import dataclasses
import gc
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..stylegan import Generator, class_labels, render_samples, sample_z
from ..training.memory import MemoryRequest
from ..training.out_of_memory import NoMemoryLeft, handle_out_of_memory, no_memory_message
from .layers import LayerChoice
from .memory import training_memory
from .objective import Objective
from .parameters import copy_generator, group_parameters, layer_parameters
from .prior import Prior
from .progress import History, TrainResult
from .regularizers import ImageRegularizer, Regularizer
from .settings import TrainSettings

logger = logging.getLogger(__name__)

ADAM_FACTOR = 4 / 5
"""StyleGAN2's correction of Adam for its lazy regularization, kept by the method: a factor of the learning rate, and an
exponent of the betas (0, 0.99)."""

CHECKPOINT_ABOVE = 256
"""Pixels of the prior's images above which activations are computed again, unless the settings say otherwise: up to
there they are small beside the models."""


@dataclass(frozen=True)
class Best:
    """The latest state that was not collapsed: SDS has no loss that would rank states, but diversity tells the spoiled."""

    step: int  # steps done
    weights: list[Tensor]  # of the trained parameters, in the optimizer's order, on the CPU


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
    piece: int  # samples that are rendered and evaluated together
    checkpoint: bool  # whether activations are computed again instead of kept
    step: int = 0  # steps done
    history: History = field(default_factory=History)
    best: Best | None = None  # None: the frozen generator
    whole: bool = True  # False while a step is changing weights: what is between two steps must not be saved

    @classmethod
    def start(
        cls,
        generator: Generator,
        prior: Prior,
        settings: TrainSettings,
        regularizers: Sequence[Regularizer | ImageRegularizer],
        layers: LayerChoice,
    ) -> "TrainState":
        """Raises ValueError when generator, regularizers and layers do not fit together."""
        regularizers = [regularizer for regularizer in regularizers if regularizer.weight > 0]
        require_trainable(generator, settings, regularizers, layers)
        candidates = layers.candidates(len(generator.synthesis.layers))
        trained = copy_generator(generator, prior.device)
        parameters = trained_parameters(trained, candidates, settings.also_train)
        for parameter in parameters:
            parameter.requires_grad_(True)
        checkpoint = prior.image_size > CHECKPOINT_ABOVE if settings.checkpoint is None else settings.checkpoint
        return cls(
            settings=settings,
            objective=Objective(
                prior,
                regularizers,
                settings.gradient_clamp,
                settings.image_clamp_quantile,
                settings.crop,
                settings.weighting,
            ),
            layers=layers,
            candidates=candidates,
            frozen=copy_generator(generator, prior.device),
            generator=trained,
            # The rate: update(). One tensor after the other: all at once would take as much memory again.
            optimizer=torch.optim.Adam(parameters, betas=(0.0, 0.99**ADAM_FACTOR), foreach=False),
            home=next(generator.parameters()).device,
            piece=settings.batch_size,
            checkpoint=checkpoint,
        )

    @property
    def trained(self) -> list[nn.Parameter]:
        """Every parameter that may change, in the optimizer's order."""
        return self.optimizer.param_groups[0]["params"]

    @property
    def skipped_in_a_row(self) -> int:
        """How many steps were skipped since the last one that was not."""
        count = 0
        for record in reversed(self.history.records):
            if not record.skipped:
                break
            count += 1
        return count

    def work(self) -> MemoryRequest:
        """What the training asks of its prior and of the device."""
        height, width = self.objective.image_size(self.generator.resolution)
        rows = self.piece * self.objective.rows_per_sample
        work = MemoryRequest(rows, height, width, images=self.piece, recompute=self.checkpoint)
        if not self.objective.prior.makes_room:
            return work
        held, peak = training_memory(
            self.generator, self.piece, recompute=self.checkpoint, accumulate=self.settings.accumulation > 1
        )
        here = sum(value.nbytes for copy in (self.frozen, self.generator) for value in copy.state_dict().values())
        return dataclasses.replace(work, resident_bytes=held - here, peak_bytes=peak)

    def give_up_attempt(self) -> None:
        """Free what a step took that did not come to its end."""
        self.optimizer.zero_grad()
        gc.collect()  # what an error's frames held in cycles
        self.objective.prior.release_memory()

    def use_less_memory(self, reason: str) -> None:
        """After memory has run out in a step: smaller pieces, at last of one sample, then no kept activations.

        Raises NoMemoryLeft when that is how it ran already."""
        if self.piece > 1:
            self.piece = (self.piece + 1) // 2
            logger.warning("Out of memory in step %d: going on with %d samples at a time.", self.step + 1, self.piece)
        elif not self.checkpoint:
            self.checkpoint = True
            logger.warning("Out of memory in step %d: going on without keeping activations.", self.step + 1)
        else:
            raise NoMemoryLeft(no_memory_message(reason, " with one image at a time"))

    def reserve(self, layers: Sequence[int]) -> None:
        """Let memory run out before an update with these layers changes the first weight, if it will: take what Adam is
        going to need, and give it back."""
        parameters = self.parameters(layers)
        moments = [torch.empty_like(p) for p in parameters if p not in self.optimizer.state for _ in range(2)]
        passing = [torch.empty_like(max(parameters, key=torch.numel)) for _ in range(2)]
        del moments, passing

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
        z, chosen = sample_z(self.generator.z_dim, count, self.settings.seed), self.settings.class_index
        try:
            return render_samples(self.generator, z, class_index=chosen)
        except Exception as error:
            if not handle_out_of_memory(error):
                raise
        self.objective.prior.release_memory()
        turns = range(count) if self.generator.c_dim and chosen is None else ()
        classes = [index % self.generator.c_dim for index in turns] or [chosen] * count
        one_by_one = zip(z.split(1), classes, strict=True)
        return torch.cat([render_samples(self.generator, row, class_index=index) for row, index in one_by_one])

    def weights(self) -> dict[str, Tensor]:
        """Copies of the trained parameters on the CPU, by their names in the generator."""
        names = {parameter: name for name, parameter in self.generator.named_parameters()}
        return {names[parameter]: parameter.detach().to("cpu", copy=True) for parameter in self.trained}

    def current(self) -> Generator:
        """A copy of the generator in training, where the given one lives."""
        return copy_generator(self.generator, self.home)

    @property
    def collapsed(self) -> bool:
        """Whether the samples had become alike when their diversity was last measured."""
        measured = self.history.diversity
        if not measured:
            return False
        return not measured[max(measured)] >= self.settings.collapse_threshold * measured.get(0, 0.0)

    def remember_best(self) -> None:
        """Take this state for the best one so far."""
        self.best = Best(self.step, [parameter.detach().to("cpu", copy=True) for parameter in self.trained])

    def best_generator(self) -> Generator:
        """A copy of the generator as it was in the best state."""
        if self.best is None:
            return copy_generator(self.frozen, self.home)
        generator = self.current()
        places = trained_parameters(generator, self.candidates, self.settings.also_train)
        with torch.no_grad():
            for place, weight in zip(places, self.best.weights, strict=True):
                place.copy_(weight)
        return generator

    def return_to_best(self) -> None:
        """Forget what came after the best state: when a step was cut short while it was changing weights."""
        best = self.best or Best(0, trained_parameters(self.frozen, self.candidates, self.settings.also_train))
        with torch.no_grad():
            for parameter, weight in zip(self.trained, best.weights, strict=True):
                parameter.copy_(weight)
        self.step, self.history = best.step, self.history.until(best.step)

    def result(self) -> TrainResult:
        generator, best_step = self.current(), self.best.step if self.best else 0
        if not self.collapsed:
            best_step = self.step
        return TrainResult(
            generator,
            self.history,
            self.step,
            interrupted=self.step < self.settings.steps,
            best=generator if best_step == self.step else self.best_generator(),
            best_step=best_step,
        )


def trained_parameters(generator: Generator, layers: Sequence[int], groups: Sequence[str]) -> list[nn.Parameter]:
    """The parameters of these layers and groups, each once."""
    parameters = [p for index in layers for p in layer_parameters(generator, index)]
    parameters += [p for group in groups for p in group_parameters(generator, group)]
    return list(dict.fromkeys(parameters))


def require_trainable(
    generator: Generator,
    settings: TrainSettings,
    regularizers: Sequence[Regularizer | ImageRegularizer],
    layers: LayerChoice,
) -> None:
    """Raises ValueError when these do not fit together; nothing is copied or computed."""
    channels = generator.config.img_channels
    if channels != 3:
        raise ValueError(f"The generator makes images of {channels} channels; give one that makes RGB images.")
    class_labels(generator.c_dim, 1, class_index=settings.class_index)
    trained_parameters(generator, layers.candidates(len(generator.synthesis.layers)), settings.also_train)
    names = [regularizer.name for regularizer in regularizers if regularizer.weight > 0]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"The {twice[0]} regularizer is given {names.count(twice[0])} times; give it once.")
