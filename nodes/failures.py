"""What the training node says when a training ends early."""

from ..sds import TrainingOutOfMemory, TrainingStopped
from .adapter import is_interruption

LESS = "Choose a smaller image_size or batch_size, close other programs that use the device, or start ComfyUI with --lowvram."
"""What to do when memory runs out."""


def out_of_memory_at_first(error: BaseException) -> RuntimeError:
    """For memory that runs out before there is anything to keep."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return RuntimeError(f"Out of memory before the first step ({said}). {LESS}")


def failure(stopped: TrainingStopped, kept: str) -> BaseException:
    """What to raise for a training that ended early; `kept` says what was kept of it."""
    cause = stopped.__cause__
    if is_interruption(cause):
        return cause.with_traceback(None)
    said = sentence(stopped)
    if isinstance(stopped, TrainingOutOfMemory):
        said += " Starting ComfyUI with --lowvram helps, too. Other settings begin a new training."
    raised = RuntimeError(f"{said} {kept}")
    raised.__cause__ = cause
    return raised


def sentence(error: BaseException) -> str:
    """What an error says, with a full stop."""
    said = str(error).strip() or type(error).__name__
    return said if said.endswith((".", "!", "?")) else f"{said}."
