"""The command mesh: the shape of what a generator draws in three dimensions, as a file."""

import argparse
from pathlib import Path

from .arguments import add_device, add_generator, at_least, path
from .drawing import Drawer
from .sources import Files, add_source, source_of, tell_of_another_mapping
from .terminal import UsageError, make_folder


def add(commands) -> None:
    parser = commands.add_parser(
        "mesh",
        help="write the shape of what a generator draws in 3D (EG3D) as .glb, with its colours",
        description="Finds the surface in the density of a generator that draws in 3D, by marching cubes, and writes it with "
        "the generator's colours, for any program that opens .glb. Of several latents the first one counts.",
    )
    add_generator(parser)
    parser.add_argument("--output", required=True, type=path, metavar="FILE", help="the file, with the ending .glb")
    add_source(parser, count=1, psi=0.7)
    parser.add_argument(
        "--size", type=at_least(16), default=256, metavar="N", help="points of the grid on each side (default: 256)"
    )
    parser.add_argument(
        "--level", type=float, default=10.0, help="density of the surface; 2 to 20 are useful (default: 10)"
    )
    parser.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="STEPS",
        help="blur of the density, in steps of the grid (default: 0)",
    )
    parser.add_argument(
        "--whole", action="store_true", help="keep every part, not only the one in the middle: the background, too"
    )
    add_device(parser)
    parser.set_defaults(command=mesh)


def mesh(options: argparse.Namespace) -> int:
    from ..stylegan.glb import glb
    from ..stylegan.shapes import extract_shape
    from ..training.files import write_atomically

    output: Path = options.output
    if output.suffix.lower() != ".glb":
        raise UsageError(f"{output} does not end in .glb, which is what is written; change the ending.")
    if output.exists():
        raise UsageError(f"{output} exists already; give another name as --output, so that nothing is lost.")
    source = source_of(options)
    drawer = Drawer(options.generator, options.device)
    if isinstance(source, Files) and (told := tell_of_another_mapping(drawer.generator, source.codes)):
        print(told)
    _, ws, _ = next(source.pieces(drawer.generator, lambda index: index == 0))
    shape = extract_shape(drawer.generator, ws, options.size, options.level, options.smooth, options.whole)
    make_folder(output.parent)
    write_atomically(output, glb(shape, {"generator": drawer.name, "latent": source.description}))
    print(f"Wrote {len(shape.vertices)} vertices and {len(shape.faces)} triangles to {output.resolve()}")
    return 0
