"""Adapting a generator to a prior by score distillation: the loop."""

import contextlib
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..stylegan import Generator
from .layers import AllLayers, LayerChoice
from .prior import Prior
from .progress import Progress, StepRecord, TrainingDiverged, TrainingInterrupted, TrainResult
from .regularizers import Regularizer
from .settings import TrainSettings
from .state import TrainState
from .step import train_step

DIVERSITY_SIZE = 32
"""Side in pixels of the images that diversity compares."""


def train_generator(
    generator: Generator,
    prior: Prior,
    settings: TrainSettings | None = None,
    regularizers: Sequence[Regularizer] = (),
    layers: LayerChoice | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Adapt a generator to the prior's prompt (arXiv 2212.04473).

    The generator itself stays as it is: a float32 copy is trained on the prior's device and comes back on the
    generator's device, in eval mode, its parameters not recording gradients. Trained are the synthesis convolutions
    from 8x8 up (weight, style affine weight, noise strength), or the ones that `layers` chooses, and the groups in
    `settings.also_train`. The same seed gives the same weights, bit for bit on the CPU.

    `progress` is called after every step and may raise to end the training. Works within torch.inference_mode, too.

    Raises ValueError when generator, settings and regularizers do not fit together; TrainingInterrupted when any
    exception (its `__cause__`) ends the training after at least one step; TrainingDiverged when gradients stay
    non-finite. The last two carry the generator as trained so far in `result`."""
    settings = settings or TrainSettings()
    with _recording_gradients():
        state = TrainState.start(generator, prior, settings, regularizers, layers or AllLayers())
        try:
            prior.run(lambda: _train(state, progress), rows=settings.batch_size * state.objective.rows_per_sample)
        except TrainingDiverged:
            raise
        except BaseException as error:
            if state.step == 0:
                raise
            reason = str(error) or type(error).__name__
            raise TrainingInterrupted(
                f"The training ended after {state.step} of {settings.steps} steps: {reason}", state.result()
            ) from error
        return state.result()


def _train(state: TrainState, progress: Callable[[Progress], None] | None) -> None:
    # Once more: the prior may have entered another mode on the way here.
    with _recording_gradients():
        _measure_diversity(state)
        skipped_in_a_row = 0
        while state.step < state.settings.steps:
            record = train_step(state)
            state.history.records.append(record)
            if state.step % state.settings.diversity_every == 0 or state.step == state.settings.steps:
                _measure_diversity(state)
            if progress:
                progress(_report(state, record))
            skipped_in_a_row = skipped_in_a_row + 1 if record.skipped else 0
            if skipped_in_a_row == state.settings.max_skipped_in_a_row:
                raise _diverged(state, record)


def diversity(images: Tensor) -> float:
    """Mean over all pairs of images [B, 3, R, R], B >= 2, of their root-mean-square difference at 32 pixels.

    Near 0 when the generator has collapsed to one image."""
    if images.shape[-1] > DIVERSITY_SIZE:
        images = F.adaptive_avg_pool2d(images, DIVERSITY_SIZE)
    rows = images.clamp(-1, 1).flatten(1).double()
    return (torch.pdist(rows) / rows.shape[1] ** 0.5).mean().item()


def _measure_diversity(state: TrainState) -> None:
    state.history.diversity[state.step] = diversity(state.samples(state.settings.diversity_samples))


def _report(state: TrainState, record: StepRecord) -> Progress:
    return Progress(
        step=state.step,
        steps=state.settings.steps,
        losses=record.losses,
        diversity=state.history.diversity.get(state.step),
        layers=record.layers,
        skipped=record.skipped,
        samples=state.samples,
    )


def _diverged(state: TrainState, record: StepRecord) -> TrainingDiverged:
    count = state.settings.max_skipped_in_a_row
    return TrainingDiverged(
        f"Training stopped at step {state.step}: {record.skipped} was not finite in {count} steps in a row "
        f"(the last at timestep {record.t:.2f}). The generator is kept as it was at step {state.step - count}. "
        "Lower the learning rate or the guidance scale, narrow the timestep range, or use float32.",
        state.result(),
    )


@contextlib.contextmanager
def _recording_gradients():
    """Normal tensors and gradients, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
