"""The command blend: makes one generator of two."""

import argparse
from pathlib import Path

from .arguments import GENERATOR, add_layout, name, path
from .terminal import UsageError, require_free


def add(commands) -> None:
    parser = commands.add_parser(
        "blend",
        help="make one generator of two that are built alike, such as one and what was adapted from it",
        description="A bit of both generators in every layer, or the coarse layers (pose, shape) of the first with the fine "
        "layers (colours, texture) of the second.",
    )
    parser.add_argument(
        "first", type=name, metavar="FIRST", help=f"{GENERATOR}; gives the coarse layers and the mapping"
    )
    parser.add_argument("second", type=name, metavar="SECOND", help="another; gives the fine layers")
    parser.add_argument(
        "--output",
        required=True,
        type=path,
        metavar="FILE",
        help="FILE.safetensors, or FILE.pt in the --layout of another program",
    )
    add_layout(parser)
    parser.add_argument(
        "--weight",
        type=float,
        help="share of the second: 0 is the first alone, 1 the second, above 1 exaggerates the difference; where layers "
        "are swapped the share in these (default: 0.5; 1 where layers are swapped)",
    )
    parser.add_argument(
        "--swap-from",
        type=int,
        metavar="PIXELS",
        help="swap layers: the second draws what is this many pixels over the image or finer; 16 or 32 keep the first "
        "one's pose and shape",
    )
    parser.add_argument(
        "--swap-layer", type=int, metavar="N", help="swap layers from this number on; 0 is the coarsest"
    )
    parser.add_argument(
        "--softness",
        type=float,
        default=0.0,
        metavar="LAYERS",
        help="how many layers the change takes on each side of the border (default: 0, a sharp one)",
    )
    parser.set_defaults(command=blend)


def blend(options: argparse.Namespace) -> int:
    import math

    from ..miniature import generator_path
    from ..stylegan import blend_metadata, blended, load_checkpoint, provenance, require_layout, write_generator

    swaps = options.swap_from is not None or options.swap_layer is not None
    if options.swap_from is not None and options.swap_layer is not None:
        raise UsageError("--swap-from and --swap-layer both say where the second begins; leave out one of them.")
    if options.softness and not swaps:
        raise UsageError("--softness is of the border between layers; add --swap-from 16.")
    weight = (1.0 if swaps else 0.5) if options.weight is None else options.weight
    numbers = {"--weight": weight, "--softness": options.softness}
    if unfit := next((name for name, value in numbers.items() if not math.isfinite(value)), None):
        raise UsageError(f"{unfit} is {numbers[unfit]}; give a number.")
    if options.softness < 0 or (options.swap_layer is not None and options.swap_layer < 0):
        raise UsageError("--softness and --swap-layer count layers; give 0 or more.")
    require_layout(options.output, options.layout)
    require_free(options.output.parent, [options.output.name])
    files = options.first, options.second
    checkpoints = [load_checkpoint(generator_path(file)) for file in files]
    generators = [checkpoint.generator for checkpoint in checkpoints]
    result, said = blended(*generators, weight, options.swap_from, options.softness, options.swap_layer)
    named = [(Path(file).name, provenance(one, Path(file).name)) for file, one in zip(files, checkpoints, strict=True)]
    write_generator(result, options.output, blend_metadata(*named, said), options.layout)
    print(f"Wrote {options.output.resolve()}: {named[0][0]} with {named[1][0]}; share of the second: {said}")
    return 0
