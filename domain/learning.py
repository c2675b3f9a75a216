"""Learning a domain: what the phase of the training computes, and the training itself."""

import contextlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from ..sds.denoising import LONGEST_GRADIENT, Denoising
from ..training.draws import MicroStep
from ..training.endings import (
    NoMemoryLeft,
    RepeatedlySkipped,
    TrainingDiverged,
    TrainingInterrupted,
    TrainingOutOfMemory,
)
from ..training.history import History
from ..training.loop import Callback, SkipLimit, Training, fit, recording_gradients
from ..training.low_rank import LowRank, added_low_rank
from ..training.out_of_memory import MemoryPolicy, handle_out_of_memory, no_memory_message
from ..training.parallel import ALONE, Alone
from ..training.phases import Average, Outcome, Phase
from ..training.precision import computes_in_half
from ..training.saving import SavedTraining, Saving, try_to_save
from .images import Pictures
from .score import TextFreeScore
from .settings import DomainSettings
from .text_free import ConstantAttention

BETAS, WEIGHT_DECAY = (0.9, 0.999), 1e-2
"""The published settings of Adam."""

MOST_SKIPPED = 10
"""Steps in a row with a gradient that is not finite, after which the training ends."""

ADVICE = "Choose a smaller image_size or batch_size, a low rank, or close other programs that use the device."


@dataclass(frozen=True)
class LearningProgress:
    """LearningProgress is what is known after a step."""

    step: int
    steps: int
    losses: dict[str, float]
    skipped: str | None
    warning: str | None
    history: History
    averaged: Callable[[], contextlib.AbstractContextManager]  # within it the score is what would come out now
    weights: Callable[[], dict[str, Tensor]]  # what would come out now, copied
    weight_bytes: int  # what these take


@dataclass(frozen=True)
class Learned:
    """Learned is what came of a training: the weights that are the domain, by their names in the denoiser."""

    weights: dict[str, Tensor]  # float32, on the CPU
    steps_done: int
    history: History
    interrupted: bool

    @property
    def losses(self) -> list[float]:
        """Return the error of each step."""
        return [record.losses.get("error", float("nan")) for record in self.history.records]


@dataclass
class DomainLearning:
    """DomainLearning trains a text-free copy on latents of pictures."""

    score: TextFreeScore
    pictures: Pictures
    settings: DomainSettings
    memory: MemoryPolicy
    low_rank: dict[str, LowRank] = field(default_factory=dict)  # by the name of the layer that each changes

    def __post_init__(self):
        self.score.denoiser.requires_grad_(False)
        if self.settings.rank:
            self.low_rank = added_low_rank(self.score.denoiser, self.settings.rank, self.settings.seed)
        self.trained = nn.ParameterDict({name.replace(".", "/"): one for name, one in self._trained()})
        for one in self.trained.values():
            one.requires_grad_(True)

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, module in self.score.denoiser.named_modules():
            own = isinstance(module, ConstantAttention)
            if (own and self.settings.train_vectors) or (not own and not self.low_rank):
                yield from ((f"{name}.{key}".lstrip("."), one) for key, one in module.named_parameters(recurse=False))
        for name, change in self.low_rank.items():
            yield f"{name}.down", change.down.weight
            yield f"{name}.up", change.up.weight

    def phase(self) -> Phase:
        """Make the phase that trains the copy."""
        optimizer = torch.optim.AdamW(
            self.trained.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY, foreach=False
        )  # one tensor after the other: all at once would take as much memory again
        decay = self.settings.average
        average = Average.of(self.trained, lambda step: min(decay, (1 + step) / (10 + step))) if decay else None
        return Phase(
            "domain",
            self.trained,
            optimizer,
            self.compute,
            self.settings.rate,
            average=average,
            longest_gradient=LONGEST_GRADIENT,
        )

    def compute(self, micro_steps: Sequence[MicroStep]) -> Outcome:
        """Compute the gradient of the error at timesteps that are drawn evenly, for each row its own."""
        half = computes_in_half(self.settings.precision, self.score.device)
        denoising = Denoising(self.score, self.trained, self.memory, half, "error")
        return denoising.outcome(map(self._batch, micro_steps))

    def _batch(self, micro_step: MicroStep) -> tuple[Tensor, Tensor, list[float]]:
        """Latents, noise and timesteps of a batch."""
        z = self.pictures.batch(micro_step.rng("pictures"), self.settings.batch_size)
        eps = torch.randn(z.shape, generator=micro_step.rng("noise"))
        return z, eps, torch.rand(len(z), generator=micro_step.rng("timestep")).tolist()

    @contextlib.contextmanager
    def averaged(self, phase: Phase) -> Iterator[None]:
        """Put the average of the weights, where there is one, in their place in the body."""
        if phase.average is None:
            yield
            return
        own = [one.detach().clone() for one in self.trained.values()]
        try:
            self._put(phase.average.module.values())
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values) -> None:
        for one, value in zip(self.trained.values(), values, strict=True):
            one.copy_(value)

    def weights(self, phase: Phase) -> dict[str, Tensor]:
        """Return copies of the weights that are the domain."""
        source = self.trained if phase.average is None else phase.average.module
        return {
            name.replace("/", "."): one.detach().to("cpu", torch.float32, copy=True) for name, one in source.items()
        }

    def describe(self) -> dict:
        """Describe the training in JSON's types: what tells it from others."""
        return {"settings": describe_settings(self.settings)}


def describe_settings(settings: DomainSettings) -> dict:
    """Return the settings that tell a training from others, in JSON's types."""
    # Without a cooldown more steps are only more of the same.
    left_out = {"recompute", *([] if settings.cooldown else ["steps"])}
    return {name: value for name, value in asdict(settings).items() if name not in left_out}


def learn_domain(
    score: TextFreeScore,
    pictures: Pictures,
    settings: DomainSettings,
    progress: Callable[[LearningProgress], None] | None = None,
    saved: SavedTraining | None = None,
    release_memory: Callable[[], None] = lambda: None,
    parallel: Alone = ALONE,
) -> Learned:
    """Train a text-free copy on pictures (arXiv 2312.08195): the plain error of its predictions, at timesteps drawn
    evenly. The same seed gives the same weights, on the CPU bit for bit with the same number of threads.

    `progress` is called after every step and may raise to end the training. With `saved`, the training is written there
    and goes on from there, bit for bit. With several processes each computes its share of the `settings.accumulation`
    batches of a step; only the first one saves. Raises SavedTrainingError, TrainingInterrupted, TrainingDiverged and
    TrainingOutOfMemory, the last three with what was Learned so far."""
    with recording_gradients():
        recompute = pictures.longest_side > 256 if settings.recompute is None else settings.recompute
        memory = MemoryPolicy(settings.batch_size, recompute, ADVICE, release_memory, settings.recompute is None)
        learning = DomainLearning(score, pictures, settings, memory)
        phase = learning.phase()
        training = Training(
            [phase],
            settings.steps,
            settings.seed,
            settings.accumulation,
            memory,
            {"memory": memory},
            learning.describe(),
            parallel=parallel,
        )
        if saved is not None:
            saved.restore(training)
            saved = saved if parallel.first else None

        def learned() -> Learned:
            interrupted = training.step < training.steps
            return Learned(learning.weights(phase), training.step, training.history, interrupted)

        callbacks = [
            *([Saving(saved)] if saved is not None else []),
            *([_Reporting(progress, learning, phase)] if progress else []),
            SkipLimit(MOST_SKIPPED),
        ]
        try:
            fit(training, callbacks)
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)
            ending = _ending(error, training, saved, learned)
            if ending is error:
                raise
            raise ending from error
        return learned()


def _ending(error: BaseException, training: Training, saved: SavedTraining | None, learned) -> BaseException:
    """What to raise for an error that ended a training, once what was trained is kept."""
    # Of a step that was cut short within its update the weights are kept all the same; going on with it would be another
    # training than without the break.
    whole = training.consistent or (saved is not None and saved.restore(training))
    if saved is not None and training.step and whole:
        try_to_save(saved, training)
    if isinstance(error, RepeatedlySkipped):
        return TrainingDiverged(
            f"Training stopped at step {training.step}: the gradient was not finite in {MOST_SKIPPED} steps in a row. Lower "
            "the learning rate, or use float32.",
            learned(),
        )
    if isinstance(error, NoMemoryLeft) or handle_out_of_memory(error):
        said = str(error) if isinstance(error, NoMemoryLeft) else no_memory_message(str(error), ADVICE)
        return TrainingOutOfMemory(said, learned())
    if training.step == 0:
        return error
    reason = str(error) or type(error).__name__
    return TrainingInterrupted(
        f"The training ended after {training.step} of {training.steps} steps: {reason}", learned()
    )


class _Reporting(Callback):
    """Calls the progress callback."""

    def __init__(self, progress: Callable[[LearningProgress], None], learning: DomainLearning, phase: Phase):
        self.progress, self.learning, self.phase = progress, learning, phase

    def after_step(self, training: Training) -> None:
        record = training.history.records[-1]
        self.progress(
            LearningProgress(
                training.step,
                training.steps,
                record.losses,
                record.skipped,
                training.warning,
                training.history,
                lambda: self.learning.averaged(self.phase),
                lambda: self.learning.weights(self.phase),
                4 * sum(one.numel() for one in self.learning.trained.values()),
            )
        )
