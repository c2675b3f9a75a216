"""How a training ends: what is kept of it, and what the node says."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from ...sds import TrainingOutOfMemory, TrainingStopped, TrainResult
from ...stylegan import CheckpointError, Generator, save_generator, save_or_rescue
from ..outputs import SUBFOLDER, new_path
from ..sentences import sentence

logger = logging.getLogger(__name__)

LESS = "Choose a smaller image_size or batch_size, close other programs that use the device, or start ComfyUI with --lowvram."
"""What to do when memory runs out."""

NOTHING_YET = "Nothing was trained yet."
"""What is said in place of what was kept."""


def out_of_memory_at_first(error: BaseException) -> RuntimeError:
    """Return what to raise when memory runs out before there is anything to keep."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return RuntimeError(f"Out of memory before the first step ({said}). {LESS}")


def failure(
    stopped: TrainingStopped, kept: str, is_interruption: Callable[[BaseException | None], bool]
) -> BaseException:
    """Return what to raise for a training that ended early; `kept` says what was kept of it."""
    cause = stopped.__cause__
    if is_interruption(cause):
        return cause.with_traceback(None)
    said = sentence(stopped)
    if isinstance(stopped, TrainingOutOfMemory):
        said += " Starting ComfyUI with --lowvram helps, too. Other settings begin a new training."
    raised = RuntimeError(f"{said} {kept}")
    raised.__cause__ = cause
    return raised


def keep_latest(folder: Path, generator: Generator, metadata: Mapping[str, str]) -> None:
    """Write a finished generator as latest.safetensors into output/stylegan (`folder`), and keep the one before:
    whatever happens before the graph has saved it, it is not lost."""
    latest = folder / "latest.safetensors"
    try:
        if latest.exists():
            latest.replace(latest.with_name("latest-but-one.safetensors"))
        save_generator(generator, latest, dict(metadata))
    except (CheckpointError, OSError) as error:
        logger.warning("StyleGAN Fusion: the generator is not kept as %s (%s).", latest.name, error)


def keep(folder: Path, result: TrainResult, metadata: Mapping[str, str], going_on_from: int) -> str:
    """Write what was trained to a recovery file in output/stylegan (`folder`), and where images became alike the state
    before that. Returns sentences that say where they are, and from which step the training can go on (0: from
    none)."""
    done, best = result.steps_done, result.best_step
    if done == 0:
        return NOTHING_YET
    trained = f"The generator as trained for {done} step{'s' * (done != 1)}"
    try:
        kept = f"{trained} is in {_written(folder, result.generator, metadata, done)}"
        if 0 < best < max(result.history.diversity, default=0):  # healthy ones are the best so far at each measurement
            kept += (
                f", the latest one before its images became alike in {_written(folder, result.best, metadata, best)}"
            )
        kept += "; Load StyleGAN2 loads it."
    except (CheckpointError, OSError) as error:
        kept = f"{trained} could not be kept: {error}"
    if result.interrupted and going_on_from:
        kept += f" Run the same graph again, with seed {metadata['seed']}, to go on from step {going_on_from}."
    logger.warning("StyleGAN Fusion: %s", kept)
    return kept


def _written(folder: Path, generator: Generator, metadata: Mapping[str, str], steps: int) -> str:
    wanted = new_path(folder, "recovered")
    path = save_or_rescue(generator, wanted, {**metadata, "steps_done": str(steps)})
    return f"output/{SUBFOLDER}/{path.name}" if path == wanted else str(path)
