"""Adapting a generator to a prior by score distillation: the loop."""

import contextlib
import logging
import traceback
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..stylegan import Generator
from ..training.out_of_memory import NoMemoryLeft, handle_out_of_memory, no_memory_message
from .layers import AllLayers, LayerChoice
from .prior import Prior
from .progress import Progress, StepRecord, TrainingDiverged, TrainingInterrupted, TrainingOutOfMemory, TrainResult
from .regularizers import ImageRegularizer, Regularizer
from .saving import SavedTraining, SavedTrainingError
from .settings import TrainSettings
from .state import TrainState
from .step import train_step

logger = logging.getLogger(__name__)

DIVERSITY_SIZE = 32
"""Side in pixels of the images that diversity compares."""


def train_generator(
    generator: Generator,
    prior: Prior,
    settings: TrainSettings | None = None,
    regularizers: Sequence[Regularizer | ImageRegularizer] = (),
    layers: LayerChoice | None = None,
    progress: Callable[[Progress], None] | None = None,
    saved: SavedTraining | None = None,
) -> TrainResult:
    """Adapt a generator to the prior's prompt (arXiv 2212.04473).

    The generator itself stays as it is: a float32 copy is trained on the prior's device and comes back on the
    generator's device, in eval mode, its parameters not recording gradients. Trained are the synthesis convolutions
    from 8x8 up (weight, style affine weight, noise strength), or the ones that `layers` chooses, and the groups in
    `settings.also_train`. The same seed gives the same weights, bit for bit on the CPU.

    `progress` is called after every step and may raise to end the training. With `saved`, the training is written there
    from time to time and when it ends early, and goes on from there when the file exists: on the CPU to the same weights
    as without the break, bit for bit. Works within torch.inference_mode, too.

    Raises ValueError when generator, settings and regularizers do not fit together; SavedTrainingError when what is saved
    is damaged or of another run; TrainingInterrupted when any exception (its `__cause__`) ends the training after at
    least one step; TrainingDiverged when gradients stay non-finite; TrainingOutOfMemory when a step does not fit. The
    last three carry the generator as trained so far in `result`."""
    settings = settings or TrainSettings()
    with _recording_gradients():
        state = TrainState.start(generator, prior, settings, regularizers, layers or AllLayers())
        if saved is not None:
            saved.restore(state)
        try:
            if state.step < settings.steps:
                prior.run(lambda: _train(state, progress, saved), state.work())
        except TrainingDiverged:
            raise
        except BaseException as error:
            # The frames that it passed through hold on to tensors; what remains to be done needs memory, too.
            traceback.clear_frames(error.__traceback__)
            if not state.whole:
                saved = _gone_back(state, saved)
            reason = str(error) or type(error).__name__
            if isinstance(error, NoMemoryLeft) or handle_out_of_memory(error):
                message = reason if isinstance(error, NoMemoryLeft) else no_memory_message(reason)
                raise TrainingOutOfMemory(message, _ended(state, saved)) from None
            if state.step == 0:
                raise
            raise TrainingInterrupted(
                f"The training ended after {state.step} of {settings.steps} steps: {reason}", _ended(state, saved)
            ) from error
        finally:
            for regularizer in state.objective.on_images:
                regularizer.release()
        return state.result()


def _train(state: TrainState, progress: Callable[[Progress], None] | None, saved: SavedTraining | None) -> None:
    # Once more: the prior may have entered another mode on the way here.
    with _recording_gradients():
        if _is_due(state) and state.step not in state.history.diversity:  # at first, or where it was cut short
            _measure_diversity(state)
        while state.step < state.settings.steps:
            record, warning = train_step(state), None
            if _is_due(state):
                warning = _measure_diversity(state)
            if saved is not None and saved.every is not None and state.step % saved.every == 0:
                warning = _save(state, saved) or warning
            if progress:
                progress(_report(state, record, warning))
            if state.skipped_in_a_row >= state.settings.max_skipped_in_a_row:
                raise _diverged(state, record, saved)


def diversity(images: Tensor) -> float:
    """Mean over all pairs of images [B, 3, R, R], B >= 2, of their root-mean-square difference at 32 pixels.

    Near 0 when the generator has collapsed to one image."""
    if images.shape[-1] > DIVERSITY_SIZE:
        images = F.adaptive_avg_pool2d(images, DIVERSITY_SIZE)
    rows = images.clamp(-1, 1).flatten(1).cpu().double()  # Apple's GPUs have no float64
    return (torch.pdist(rows) / rows.shape[1] ** 0.5).mean().item()


def _is_due(state: TrainState) -> bool:
    """Whether diversity is measured at this step."""
    return state.step % state.settings.diversity_every == 0 or state.step == state.settings.steps


def _measure_diversity(state: TrainState) -> str | None:
    """Note the samples' diversity, and the state as the best one unless it has collapsed; a warning when it just has."""
    measured, collapsed_before = state.history.diversity, state.collapsed
    found = measured[state.step] = diversity(state.samples(state.settings.diversity_samples))
    if not state.collapsed:
        if state.step > 0:
            state.remember_best()
        return None
    if collapsed_before:
        return None
    warning = (
        f"The images are becoming alike: at step {state.step} their diversity is {found / measured[0]:.0%} of what it was "
        "before. Raise the weight of the directional regularizer, lower the guidance scale or the learning rate, select "
        "fewer layers, or stop earlier; the latest generator before this is kept, too."
    )
    logger.warning("StyleGAN Fusion: %s", warning)
    return warning


def _save(state: TrainState, saved: SavedTraining) -> str | None:
    """Save, or say why not: a full disk is no reason to lose what is still in memory."""
    try:
        saved.save(state)
        return None
    except Exception as error:  # safetensors has an exception of its own for what the system refuses
        reason = getattr(error, "strerror", None) or str(error)
        warning = (
            f"The training could not be saved at step {state.step} ({reason}); free some space in {saved.path.parent}."
        )
        logger.warning("StyleGAN Fusion: %s", warning)
        return warning


def _ended(state: TrainState, saved: SavedTraining | None) -> TrainResult:
    """The result of a training that ended early, saved so that it can go on."""
    if saved is not None and state.step > 0:
        _save(state, saved)
    # Nothing trains any more; what this gives back may be what the copies take.
    state.optimizer.state.clear()
    state.optimizer.zero_grad()
    state.objective.prior.release_memory()
    try:
        return state.result()
    except Exception as error:
        if not handle_out_of_memory(error):
            raise
    state.home = torch.device("cpu")
    return state.result()


def _gone_back(state: TrainState, saved: SavedTraining | None) -> SavedTraining | None:
    """Leave the weights of a step that was cut short within its update for the latest ones that are whole. Gives `saved`
    when it may be written: the best state is without Adam's moments of its time, so no training could go on with it."""
    with contextlib.suppress(SavedTrainingError):
        if saved is not None and saved.restore(state):
            return saved
    state.return_to_best()
    return None


def _report(state: TrainState, record: StepRecord, warning: str | None) -> Progress:
    return Progress(
        step=state.step,
        steps=state.settings.steps,
        losses=record.losses,
        diversity=state.history.diversity.get(state.step),
        layers=record.layers,
        skipped=record.skipped,
        warning=warning,
        samples=state.samples,
        weights=state.weights,
        history=state.history,
        result=state.result,
    )


def _diverged(state: TrainState, record: StepRecord, saved: SavedTraining | None) -> TrainingDiverged:
    count = state.skipped_in_a_row
    return TrainingDiverged(
        f"Training stopped at step {state.step}: {record.skipped} was not finite in {count} steps in a row "
        f"(the last at timestep {record.t:.2f}). The generator is kept as it was at step {state.step - count}. "
        "Lower the learning rate or the guidance scale, narrow the timestep range, or use float32.",
        _ended(state, saved),
    )


@contextlib.contextmanager
def _recording_gradients():
    """Normal tensors and gradients, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
