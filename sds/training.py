"""Adapting a generator to a prior: what a training is made of, and how it may end."""

import contextlib
import traceback
from collections.abc import Callable, Sequence

import torch

from ..stylegan import Generator
from ..training.allocator import free_bytes
from ..training.endings import (
    NoMemoryLeft,
    RepeatedlySkipped,
    TrainingDiverged,
    TrainingInterrupted,
    TrainingOutOfMemory,
)
from ..training.loop import Callback, SkipLimit, Training, fit, recording_gradients
from ..training.out_of_memory import MemoryPolicy, handle_out_of_memory, no_memory_message
from ..training.parallel import ALONE, Alone
from ..training.precision import computes_in_half
from ..training.saving import SavedTraining, SavedTrainingError, Saving, try_to_save
from .adapting import Adaptation, require_parts, require_trainable
from .collapse import CollapseWatch, StopWhenCollapsed
from .describing import describe
from .earlier import earlier_savings
from .layers import AllLayers, LayerChoice
from .objective import Objective
from .parameters import copy_generator
from .pictures import PicturesPrior
from .prior import Prior
from .refreshing import RefreshedTargets
from .results import Progress, TrainResult
from .settings import TrainSettings
from .snapshots import Snapshots
from .targets.pool import Made
from .terms import ScoreDistillation, Surroundings, Term, of_objective
from .views import require_views

RECOMPUTE_ABOVE = 256
"""Pixels of the prior's images above which activations are computed again, unless the settings say otherwise or there is
room for them: up to there they are small beside the models."""

KEPT_OF_ENCODER, KEPT_OF_GENERATOR = 11_000, 2_400
"""Bytes that the encoder of Stable Diffusion keeps for each pixel of an image for its backward pass, and a StyleGAN2 of
1024 pixels for each of its own."""

SCALE_IN_3D = 0.01
"""Of the gradients of generators that draw in 3D, as the method's official code has it: many rays add up in each weight."""

ADVICE = (
    "Choose a smaller image size for the diffusion model, leave out the directional regularizer, or close other programs "
    "that use the device."
)
"""What to do when memory has run out."""


def train_generator(
    generator: Generator,
    prior: Prior,
    settings: TrainSettings | None = None,
    terms: Sequence[Term] = (),
    layers: LayerChoice | None = None,
    progress: Callable[[Progress], None] | None = None,
    saved: SavedTraining | None = None,
    parallel: Alone = ALONE,
    refreshing: Callable[[Made], None] | None = None,
) -> TrainResult:
    """Adapt a generator to the prior's prompt (arXiv 2212.04473).

    The generator itself stays as it is: a float32 copy is trained on the prior's device and comes back on the
    generator's device, in eval mode, its parameters not recording gradients. Trained are the synthesis convolutions
    from 8x8 up (weight, style affine weight, noise strength), or the ones that `layers` chooses, and the groups in
    `settings.also_train`. `terms` are regularizers beside SDS, or a distillation that takes its place. The same seed
    gives the same weights, on the CPU bit for bit with the same number of threads.

    `progress` is called after every step and may raise to end the training; so may `refreshing`, called after every few
    targets that are made anew between two steps. With `saved`, the training is written there from time to time and when
    it ends early, and goes on from there when the file exists: on the CPU to the same
    weights as without the break, bit for bit with the same number of threads. Works within torch.inference_mode, too.

    With several processes (`training.parallel.joined`) each computes its share of the `settings.accumulation` batches of a
    step, and all end with the same weights; only the first one saves.

    Raises ValueError when generator, settings and terms do not fit together; SavedTrainingError when what is saved
    is damaged or of another run; TrainingInterrupted when any exception (its `__cause__`) ends the training after at
    least one step; TrainingDiverged when gradients stay non-finite; TrainingOutOfMemory when a step does not fit. The
    last three carry the generator as trained so far in `result`."""
    with recording_gradients():
        given = generator, prior, settings or TrainSettings(), terms, layers or AllLayers()
        run = GeneratorTraining(*given, parallel, refreshing)
        if saved is not None:
            saved.restore(run.training, run.earlier)
            saved = saved if parallel.first else None
        try:
            if run.training.step < run.training.steps:
                request = run.adaptation.memory_request()
                prior.session.run(lambda: fit(run.training, run.callbacks(progress, saved)), request)
        except BaseException as error:
            # The frames that it passed through hold on to tensors; what remains to be done needs memory, too.
            traceback.clear_frames(error.__traceback__)
            ending = run.ending(error, saved)
            if ending is error:
                raise
            raise ending from (None if run.is_known(error) else error)
        finally:
            for term in run.adaptation.objective.terms:
                term.release()
        return run.result()


def gradient_scale(generator: Generator, settings: TrainSettings) -> float:
    """Return what gradients are multiplied by: what the settings say, or what suits the generator."""
    if settings.gradient_scale is not None:
        return settings.gradient_scale
    return SCALE_IN_3D if generator.config.takes_cameras else 1.0


def has_room(generator: Generator, prior: Prior, settings: TrainSettings) -> bool:
    """Tell whether the device has twice the memory that activations take which are kept. A host that makes room for what is
    told it beforehand is not asked."""
    config = generator.config
    needed = KEPT_OF_ENCODER * prior.image_size**2 + KEPT_OF_GENERATOR * config.width * config.height
    return not prior.session.makes_room and free_bytes(prior.device) >= 2 * needed * settings.batch_size


class GeneratorTraining:
    """A GeneratorTraining is the training of one generator with all that belongs to it. Raises ValueError when
    generator, settings, terms and layers do not fit together."""

    def __init__(
        self,
        generator: Generator,
        prior: Prior,
        settings: TrainSettings,
        terms: Sequence[Term],
        layers: LayerChoice,
        parallel: Alone = ALONE,
        refreshing: Callable[[Made], None] | None = None,
    ):
        terms = of_objective(terms, default=ScoreDistillation())
        require_trainable(generator, settings, terms, layers)
        require_parts(prior, terms)
        require_views(generator, prior.views)
        recompute = settings.recompute
        if recompute is None:
            recompute = prior.image_size > RECOMPUTE_ABOVE and not has_room(generator, prior, settings)
        memory = MemoryPolicy(
            settings.batch_size,
            recompute,
            ADVICE,
            prior.session.release_memory,
            may_recompute=settings.recompute is None,
        )
        half = computes_in_half(settings.precision, prior.device)
        terms = [term.own(Surroundings(prior, settings, memory, half)) for term in terms]
        self.adaptation = Adaptation(
            settings,
            Objective(
                prior,
                terms,
                settings.gradient_clamp,
                settings.image_clamp_quantile,
                settings.crop,
                settings.weighting,
                scale=gradient_scale(generator, settings),
                half=half,
            ),
            layers,
            layers.selectable(len(generator.synthesis.layers)),
            frozen=copy_generator(generator, prior.device),
            generator=copy_generator(generator, prior.device),
            memory=memory,
            parallel=parallel,
        )
        phase = self.adaptation.phase()
        self.snapshots = Snapshots(self.adaptation, phase, next(generator.parameters()).device)
        self.watch = CollapseWatch(self.snapshots, settings)
        self.refreshed = self._refreshed(prior, refreshing)
        self.training = Training(
            [phase, *(further for term in terms for further in term.phases())],
            settings.steps,
            settings.seed,
            settings.accumulation,
            self.adaptation.memory,
            {"best": self.watch, "memory": self.adaptation.memory, **self.refreshed},
            describe(self.adaptation),
            parallel=parallel,
        )
        self.earlier = [*earlier_savings(self.adaptation, self.training.description["generator"])]

    def _refreshed(self, prior: Prior, progress: Callable[[Made], None] | None) -> dict[str, RefreshedTargets]:
        """What makes the targets anew, where they are to be. Raises ValueError beside a diffusion model, which would have
        to be loaded twice."""
        pool = self.adaptation.objective.pool
        if pool is None or pool.refresher is None:
            return {}
        if not isinstance(prior, PicturesPrior):
            raise ValueError(
                "Targets can be refreshed in trainings towards targets alone; set refresh to 0, or leave out the other terms "
                "that ask the diffusion model."
            )
        return {"targets": RefreshedTargets(pool, self.snapshots, progress)}

    def callbacks(self, progress, saved: SavedTraining | None) -> list[Callback]:
        reporting = [_Reporting(self, progress)] if progress else []
        saving = [Saving(saved)] if saved is not None else []
        return [
            self.watch,
            *self.refreshed.values(),
            *saving,
            *reporting,
            StopWhenCollapsed(self.watch),
            SkipLimit(self.adaptation.settings.max_skipped_in_a_row),
        ]

    def result(self) -> TrainResult:
        training, watch = self.training, self.watch
        generator, best_step = self.snapshots.current(), watch.best_step
        if not watch.collapsed(training.history):
            best_step = training.step
        best = generator
        if best_step != training.step:
            best = self.snapshots.original() if watch.best is None else self.snapshots.with_weights(watch.best)
        interrupted = training.step < training.steps
        return TrainResult(generator, training.history, training.step, interrupted, best, best_step)

    @staticmethod
    def is_known(error: BaseException) -> bool:
        """Tell whether the ending says all that there is to say of its error."""
        return isinstance(error, RepeatedlySkipped | NoMemoryLeft) or handle_out_of_memory(error)

    def ending(self, error: BaseException, saved: SavedTraining | None) -> BaseException:
        """Return what to raise for an error that ended the training, once what was trained is kept."""
        training = self.training
        if isinstance(error, RepeatedlySkipped):
            return TrainingDiverged(_diverged(training), self._ended(saved))
        if not training.consistent:
            saved = self._restore_consistent(saved)
        reason = str(error) or type(error).__name__
        if self.is_known(error):
            message = reason if isinstance(error, NoMemoryLeft) else no_memory_message(reason, ADVICE)
            return TrainingOutOfMemory(message, self._ended(saved))
        if training.step == 0:
            return error
        message = f"The training ended after {training.step} of {training.steps} steps: {reason}"
        return TrainingInterrupted(message, self._ended(saved))

    def _ended(self, saved: SavedTraining | None) -> TrainResult:
        """The result of a training that ended early, saved so that it can go on."""
        if saved is not None and self.training.step > 0:
            try_to_save(saved, self.training)
        # Nothing trains any more; what this gives back may be what the copies take.
        for phase in self.training.phases:
            phase.optimizer.state.clear()
            phase.optimizer.zero_grad()
        self.adaptation.memory.release()
        try:
            return self.result()
        except Exception as error:
            if not handle_out_of_memory(error):
                raise
        self.snapshots.output_device = torch.device("cpu")
        return self.result()

    def _restore_consistent(self, saved: SavedTraining | None) -> SavedTraining | None:
        """Leave the weights of a step that was cut short within its update for the latest ones that are whole. Gives
        `saved` when it may be written: the best state is without what Adam remembered then, so no training could go on
        with it."""
        with contextlib.suppress(SavedTrainingError):
            if saved is not None and saved.restore(self.training, self.earlier):
                return saved
        self.watch.return_to_best(self.training)
        return None


class _Reporting(Callback):
    """Calls the progress callback."""

    def __init__(self, run: GeneratorTraining, progress: Callable[[Progress], None]):
        self.run, self.progress = run, progress

    def after_step(self, training: Training) -> None:
        record, snapshots = training.history.records[-1], self.run.snapshots
        self.progress(
            Progress(
                step=training.step,
                steps=training.steps,
                losses=record.losses,
                diversity=training.history.diversity.get(training.step),
                layers=record.layers,
                skipped=record.skipped,
                warning=training.warning,
                samples=snapshots.samples,
                weights=snapshots.weights,
                history=training.history,
                result=self.run.result,
            )
        )


def _diverged(training: Training) -> str:
    record, count = training.history.records[-1], training.history.skipped_in_a_row
    return (
        f"Training stopped at step {training.step}: {record.skipped} was not finite in {count} steps in a row "
        f"(the last at timestep {record.t:.2f}). The generator is kept as it was at step {training.step - count}. "
        "Lower the learning rate or the guidance scale, narrow the timestep range, or use float32."
    )
