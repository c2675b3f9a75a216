"""The command edit: moves latents along directions that the generator's weights contain."""

import argparse

from .arguments import add_device, add_generator, add_noise, add_output, positive
from .drawing import Drawer
from .layers import add_layers, layers_of
from .sources import add_source, all_codes, source_of, tell_of_another_mapping
from .terminal import UsageError, make_folder, require_free, write_png

GRID, LATENTS = "grid.png", "latents.safetensors"


def add(commands) -> None:
    parser = commands.add_parser(
        "edit",
        help="move latents along directions found in the weights (SeFa)",
        description="Moves latents along directions that the generator's weights contain: turning, age, hair, light and so "
        "on. Which direction does what differs between generators: look at the first ten with --direction 0-9 --strip 5. "
        f"Writes {GRID}, each image by itself, and their {LATENTS} for other commands.",
    )
    add_generator(parser)
    add_output(parser, "folder for the grid, the images and their latents")
    add_source(parser, count=1, psi=0.7)
    parser.add_argument(
        "--direction",
        default="0",
        metavar="LIST",
        help="numbers of directions, 0-9 for example: 0 changes most, later ones ever less; each is tried by itself "
        "(default: 0)",
    )
    add_layers(parser, "all", "which layers a direction is made for and applied to")
    parser.add_argument(
        "--strength",
        type=float,
        default=3.0,
        help="how far to go, in standard deviations of w: 2 to 5 either way are common (default: 3)",
    )
    parser.add_argument(
        "--strip",
        type=positive,
        default=1,
        metavar="N",
        help="1: each latent at this strength; more: that many times, from the opposite strength to this one (default: 1)",
    )
    add_noise(parser)
    add_device(parser)
    parser.set_defaults(command=edit)


def edit(options: argparse.Namespace) -> int:
    import math

    import torch

    from ..metrics.figures import labelled_grid, to_pictures
    from ..stylegan import edit_codes, noise_seeds
    from ..stylegan.code_files import Codes, save_codes

    directions = _directions(options.direction)
    if not math.isfinite(options.strength):
        raise UsageError(f"--strength is {options.strength}; give a number, 3 for example.")
    source = source_of(options)
    latents = [(index, direction) for direction in directions for index in range(source.count)]
    strips = [f"-{step}" for step in range(options.strip)] if options.strip > 1 else [""]
    names = [f"{source.name(i)}-direction{direction}{step}.png" for i, direction in latents for step in strips]
    require_free(options.output, [*names, GRID, LATENTS])
    drawer = Drawer(options.generator, options.device)
    generator = drawer.generator
    codes, layers = all_codes(source, generator), layers_of(generator, options.layers)
    if told := tell_of_another_mapping(generator, codes):
        print(told)
    how = layers, options.strength, options.strip
    edited = torch.cat([edit_codes(generator, codes.ws, direction, *how) for direction in directions])
    noise = noise_seeds(getattr(source, "seed", 0), 0, source.count)
    seeds = [noise[index] for index, _ in latents for _ in strips]  # one image, edited, keeps its noise
    images = torch.cat(list(drawer.images(edited, options.noise, seeds)))
    make_folder(options.output)
    for name, picture in zip(names, to_pictures(images), strict=True):
        write_png(picture, options.output / name)
    steps = torch.linspace(-1, 1, options.strip).tolist() if options.strip > 1 else [1.0]
    rows = [f"direction {direction}" + (f", {source.name(i)}" if source.count > 1 else "") for i, direction in latents]
    columns = [f"{options.strength * step:+.2g}" for step in steps]
    write_png(labelled_grid(images.split(options.strip), rows, columns), options.output / GRID)
    description = f"direction {options.direction} of {codes.description}"
    save_codes(options.output / LATENTS, Codes(edited, codes.mapping, description))
    print(f"Wrote {GRID}, {len(edited)} images and {LATENTS} to {options.output.resolve()}")
    return 0


def _directions(text: str) -> tuple[int, ...]:
    from ..stylegan import parse_codes

    try:
        return parse_codes(text)
    except ValueError:
        raise UsageError(f"--direction {text!r} is no list of numbers; write for example 0-9.") from None
