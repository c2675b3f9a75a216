"""Which layers a command mixes or edits."""

import argparse

from ..stylegan import LAYER_RANGES


def add_layers(parser: argparse.ArgumentParser, default: str, what: str) -> None:
    parser.add_argument(
        "--layers",
        default=default,
        metavar="CHOICE",
        help=f"{what}: {', '.join(LAYER_RANGES)}, or numbers as 0-3,6 with 0 the coarsest. coarse: up to 8 pixels over the "
        f"image (pose, shape); middle: to 32 (features); fine: above (colours, texture) (default: {default})",
    )


def layers_of(generator, text: str) -> tuple[int, ...]:
    """Return the indices of the codes that were asked for. Raises ValueError."""
    from ..stylegan import codes_of

    name = " ".join(text.lower().replace("-and-", " and ").split())
    return codes_of(generator, name if name in LAYER_RANGES else text)
