"""The commands difference and apply: what was trained of a generator by itself, and generators with one or more of it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .arguments import GENERATOR, add_layout, name, path
from .terminal import UsageError, require_free

WHAT = "what was changed of a generator, as a small file of half precision"


def add(commands) -> None:
    parser = commands.add_parser(
        "difference",
        help="keep of an adapted generator only what was trained",
        description=f"Writes {WHAT}: 40 kB of a training with --parameterization styles, 5 MB for a layer of a large "
        "generator. The generator that it began as is needed to draw with it: apply adds both.",
    )
    parser.add_argument("adapted", type=name, metavar="ADAPTED", help="the generator that was adapted")
    parser.add_argument("--source", required=True, type=name, metavar="FILE", help=f"the one it began as: {GENERATOR}")
    parser.add_argument("--output", required=True, type=path, metavar="FILE", help="FILE.difference.safetensors")
    parser.set_defaults(command=write_difference)
    parser = commands.add_parser(
        "apply",
        help="add one or more differences to a generator, each with an amount of its own",
        description="source + A1 D1 + A2 D2 ...: two domains mix without training, and an amount between 0 and 1 goes half "
        "the way. A generator that is a sibling of the source, of the same sizes, often takes the difference, too.",
    )
    parser.add_argument("source", type=name, metavar="SOURCE", help=f"the generator to begin with: {GENERATOR}")
    parser.add_argument(
        "differences",
        type=name,
        nargs="+",
        metavar="FILE[:AMOUNT]",
        help="a file that difference or adapt wrote, or miniature-zombie, miniature-doll, and how much of it (1)",
    )
    parser.add_argument(
        "--output", required=True, type=path, metavar="FILE", help="FILE.safetensors, or FILE.pt in another --layout"
    )
    add_layout(parser)
    parser.set_defaults(command=apply)


def write_difference(options: argparse.Namespace) -> int:
    from ..miniature import generator_path
    from ..stylegan import SUFFIX, difference, load_checkpoint, provenance, save_difference

    if not options.output.name.endswith(SUFFIX):
        raise UsageError(f"{options.output} does not end in {SUFFIX}, by which such files are told from generators.")
    require_free(options.output.parent, [options.output.name])
    source, adapted = (load_checkpoint(generator_path(file)) for file in (options.source, options.adapted))
    metadata = {**provenance(adapted, Path(options.adapted).name), "source": Path(options.source).name}
    found = difference(source.generator, adapted.generator, metadata)
    save_difference(found, options.output)
    numbers = sum(value.numel() for value in found.weights.values())
    print(f"Wrote {options.output.resolve()}: {numbers} numbers, {options.output.stat().st_size / 1000:.0f} kB")
    return 0


def apply(options: argparse.Namespace) -> int:
    from ..miniature import DIFFERENCES, generator_path
    from ..stylegan import (
        difference_metadata,
        load_checkpoint,
        load_difference,
        provenance,
        require_layout,
        with_differences,
        write_generator,
    )

    asked = parse_amounts(options.differences)
    require_layout(options.output, options.layout)
    require_free(options.output.parent, [options.output.name])
    source = load_checkpoint(generator_path(options.source))
    parts = [(Path(file).name, load_difference(DIFFERENCES.get(file, file)), amount) for file, amount in asked]
    result = with_differences(source.generator, [(one, amount) for _, one, amount in parts])
    of = Path(options.source).name, provenance(source, Path(options.source).name)
    metadata = difference_metadata(of, [(name, one.metadata, amount) for name, one, amount in parts])
    write_generator(result, options.output, metadata, options.layout)
    for file, one, amount in parts:
        said = "" if one.is_of(source.generator) else " (made from another generator than this one)"
        print(f"{amount:g} of {file}{said}")
    print(f"Wrote {options.output.resolve()}")
    return 0


def parse_amounts(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Return files and amounts of texts FILE or FILE:AMOUNT. Raises UsageError."""
    import math

    found = []
    for text in texts:
        file, colon, amount = text.rpartition(":")
        if not colon or len(file) == 1 or "/" in amount or "\\" in amount:  # C:\file, a folder with a colon
            file, amount = text, "1"
        try:
            number = float(amount)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"{text}: {amount!r} is no amount; write for example {file}:0.5.")
        found.append((file, number))
    return found
