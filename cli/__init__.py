"""The command line: adapt a generator to a prompt, draw samples with one, or see a demo of it all."""

import io
import sys
from collections.abc import Sequence

from ..sds import SavedTrainingError
from ..stylegan import CheckpointError
from ..training.out_of_memory import is_out_of_memory
from .options import parse, uses_a_model
from .run_folder import RunError
from .terminal import INTERRUPTED, UsageError, quiet_libraries


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 for an error that is explained, 130 when Ctrl-C ended the run."""
    for stream in (sys.stdout, sys.stderr):  # on Windows a pipe may lack letters that are in file names
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = parse(arguments)
    try:
        quiet_libraries()
        return options.command(options)
    except (
        UsageError,
        RunError,
        CheckpointError,
        SavedTrainingError,
        ValueError,
        ImportError,
        FileNotFoundError,
    ) as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or 'A file'} could not be read or written ({error.strerror or error}); free some space or choose another folder."
    except KeyboardInterrupt:
        print("\nstylegan-fusion: stopped.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        less = "try --half or --batch-size 1" if uses_a_model(options) else "close other programs"
        message = f"Out of memory; {less}, or add --device cpu."
    print(f"stylegan-fusion: {message}", file=sys.stderr)
    return 1
