"""The command mix: the grid of style mixing."""

import argparse

from .arguments import add_class, add_device, add_generator, add_noise, add_output, add_psi, at_least
from .drawing import Drawer
from .layers import add_layers, layers_of
from .sources import add_source, all_codes, source_of, tell_of_another_mapping
from .terminal import make_folder, require_free, write_png

GRID, LATENTS = "grid.png", "latents.safetensors"


def add(commands) -> None:
    parser = commands.add_parser(
        "mix",
        help="mix the styles of latents, as in the grid of the StyleGAN papers",
        description=f"Draws every image of the left column with the chosen layers of every image of the top row: {GRID}, "
        f"each mixture by itself, and their {LATENTS} for other commands.",
    )
    add_generator(parser)
    add_output(parser, "folder for the grid, the mixtures and their latents")
    add_layers(parser, "coarse", "what comes from the top row")
    add_source(parser, count=3, psi=0.7, of="row-")
    add_source(parser, count=4, psi=0.7, of="column-")
    add_psi(parser, 0.7)
    add_class(parser)
    add_noise(parser)
    parser.add_argument(
        "--cell-size", type=at_least(32), default=256, metavar="PIXELS", help="width of an image in the grid (256)"
    )
    add_device(parser)
    parser.set_defaults(command=mix)


def mix(options: argparse.Namespace) -> int:
    import torch

    from ..metrics.figures import mixing_grid, to_pictures
    from ..stylegan import mix_styles, noise_seeds
    from ..stylegan.code_files import Codes, joined, save_codes

    sources = [source_of(options, of) for of in ("row-", "column-")]
    rows, columns = (source.count for source in sources)
    names = [f"{sources[0].name(i)}-{sources[1].name(j)}.png" for i in range(rows) for j in range(columns)]
    require_free(options.output, [*names, GRID, LATENTS])
    drawer = Drawer(options.generator, options.device)
    codes = layers_of(drawer.generator, options.layers)
    left, top = (all_codes(source, drawer.generator) for source in sources)
    mixed = mix_styles(left.ws[:, None], top.ws[None], codes).flatten(0, 1)
    both = joined([left, top])
    if told := tell_of_another_mapping(drawer.generator, both):
        print(told)
    seeds = noise_seeds(getattr(sources[0], "seed", 0), 0, rows + columns + len(mixed))
    images = torch.cat(list(drawer.images(torch.cat([both.ws, mixed]), options.noise, seeds)))
    make_folder(options.output)
    for name, picture in zip(names, to_pictures(images[rows + columns :]), strict=True):
        write_png(picture, options.output / name)
    write_png(mixing_grid(images, rows, columns, options.cell_size), options.output / GRID)
    description = f"layers {options.layers} of {top.description} in {left.description}"
    save_codes(options.output / LATENTS, Codes(mixed, both.mapping, description))
    print(f"Wrote {GRID}, {len(mixed)} mixtures and {LATENTS} to {options.output.resolve()}")
    return 0
