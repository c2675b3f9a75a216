"""What went wrong, in one sentence: the only place where errors become words, for all commands."""

import errno
import traceback

from ..domain.files import DomainError
from ..domain.text_free import NotTextFree
from ..sds import SavedTrainingError, TargetsError
from ..stylegan import CheckpointError
from ..training.out_of_memory import is_out_of_memory
from .run_folder import RunError
from .terminal import UsageError

ISSUES = "https://github.com/stylegan-fusion/comfyui-stylegan-fusion/issues"

PACKAGE = __name__.rpartition(".cli")[0]

_OURS = (UsageError, RunError, CheckpointError, SavedTrainingError, TargetsError, DomainError, NotTextFree)
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def explanation(error: BaseException, asks_a_model: bool = True) -> str | None:
    """Return what an error says to the user, and what to do next; None: it is a fault of the program, about which its
    user can do nothing. `asks_a_model` says that a diffusion model may have taken the memory.

    ValueErrors and ImportErrors count only where this package itself raised them, with a sentence: what a library
    says is meant for programmers, and its advice may be wrong here."""
    if is_out_of_memory(error):
        less = "try --half or --batch-size 1" if asks_a_model else "close other programs"
        return f"Out of memory; {less}, or add --device cpu."
    if isinstance(error, _OURS) or (isinstance(error, ValueError | ImportError | OSError) and _is_our_sentence(error)):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f'The library {error.name} is not installed; install this package with its extra "headless".'
    if isinstance(error, OSError):
        return _of_system(error)
    return None


def fault(error: BaseException) -> str:
    """Return what is printed of a fault of the program itself: where it happened, and where to report it."""
    where = "".join(traceback.format_exception(error))
    return f"{where}stylegan-fusion: This is a fault of the program. Please report it, with the lines above: {ISSUES}"


def _of_system(error: OSError) -> str:
    if error.errno in _FULL:
        advice = "free some space or choose another folder"
    elif error.errno in _FORBIDDEN:
        advice = "see that you may read and write there, or choose another folder"
    else:
        advice = "check the file and its folder, or choose others"
    return (
        f"{error.filename or 'A file'} could not be read or written ({error.strerror or 'unknown reason'}); {advice}."
    )


def _is_our_sentence(error: BaseException) -> bool:
    """Tell whether this package raised the error, with a sentence."""
    raised = error.__traceback__
    while raised is not None and raised.tb_next is not None:
        raised = raised.tb_next
    module = raised.tb_frame.f_globals.get("__name__", "") if raised else ""
    return module.startswith(f"{PACKAGE}.") and str(error).endswith(".")
