"""The command line: adapt a generator to a prompt, draw samples with one, or see a demo of it all."""

import sys
from collections.abc import Sequence

from .display import displayed
from .errors import explanation, fault
from .options import parse, uses_a_model
from .signals import stop_interrupts
from .terminal import quiet_libraries


@displayed
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 for an error that is explained, 130 when Ctrl-C ended
    the run (128 and the number of another signal that did)."""
    options = parse(arguments)
    try:
        with stop_interrupts() as request:
            quiet_libraries()
            return options.command(options)
    except KeyboardInterrupt:
        print("\nstylegan-fusion: stopped.", file=sys.stderr)
        return request.status
    except Exception as error:
        said = explanation(error, uses_a_model(options))
        print(fault(error) if said is None else f"stylegan-fusion: {said}", file=sys.stderr)
        return 1
