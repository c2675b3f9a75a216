"""The command walk: a film from one latent to the next."""

import argparse
from contextlib import ExitStack
from pathlib import Path

from ..stylegan import PATHS
from .arguments import add_device, add_generator, add_noise, path, positive
from .drawing import Drawer
from .films import WRITERS, film, require_film
from .signals import stop_noted, stopping
from .sources import Files, add_source, all_codes, source_of, tell_of_another_mapping
from .terminal import UsageError, counting_bar, make_folder, require_free, write_png


def add(commands) -> None:
    parser = commands.add_parser(
        "walk",
        help="make a film that goes from one latent to the next",
        description="Makes a film through latents. Writes a film where the ending of --output says so, else its frames.",
    )
    add_generator(parser)
    parser.add_argument(
        "--output",
        required=True,
        type=path,
        metavar="FILE",
        help=f"the film ({', '.join(WRITERS)}), or a folder for the frames alone",
    )
    parser.add_argument("--frames", type=path, metavar="DIR", help="write the frames here, too, as 00000.png and so on")
    add_source(parser, count=4, psi=0.7, least=2)
    parser.add_argument(
        "--frames-per-key", type=positive, default=24, metavar="N", help="from one latent to the next (default: 24)"
    )
    parser.add_argument("--fps", type=float, default=24.0, metavar="RATE", help="frames a second (default: 24)")
    parser.add_argument(
        "--loop",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go back to the first latent at the end (default), for a film without a seam",
    )
    parser.add_argument(
        "--path",
        choices=PATHS,
        default="curve",
        help="curve: one smooth curve in W; straight: lines in W, with a corner at each latent; sphere: arcs in Z, which "
        "change more on the way (default: curve)",
    )
    parser.add_argument(
        "--pace",
        choices=("even", "slow"),
        default="even",
        help="slow rests a moment at each latent (default: even)",
    )
    add_noise(parser)
    add_device(parser)
    parser.set_defaults(command=walk)


def walk(options: argparse.Namespace) -> int:
    from ..stylegan import noise_seeds, walk_codes

    if not 0 < options.fps <= 1000:
        raise UsageError(f"--fps is {options.fps:g}; give a number above 0 and at most 1000.")
    source = source_of(options)
    is_film = bool(options.output.suffix)
    folders = [options.frames] if options.frames else []
    if is_film:
        require_film(options.output)
        require_free(options.output.parent, [options.output.name])
    else:
        folders.append(options.output)
    for folder in folders:
        require_free(folder, ["00000.png"])
    drawer = Drawer(options.generator, options.device)
    generator, how = drawer.generator, (options.frames_per_key, options.path, options.loop, options.pace == "slow")
    if isinstance(source, Files):
        ws = walk_codes(generator, *how, ws=all_codes(source, generator).ws)
        if told := tell_of_another_mapping(generator, source.codes):
            print(told)
    elif options.path == "sphere":
        psi, chosen = source.sampling.truncation_psi, source.sampling.class_index
        ws = walk_codes(generator, *how, z=source.z(generator), truncation_psi=psi, class_index=chosen)
    else:
        ws = walk_codes(generator, *how, ws=all_codes(source, generator).ws)
    for folder in [*folders, *([options.output.parent] if is_film else [])]:
        make_folder(folder)
    seeds, index = noise_seeds(getattr(source, "seed", 0), 0, len(ws)), -1
    try:
        with ExitStack() as stack:
            request = stack.enter_context(stop_noted())
            add_frame = stack.enter_context(film(options.output, options.fps)) if is_film else lambda picture: None
            report = stack.enter_context(stopping(request, counting_bar(len(ws), "frame")))
            for index, picture in enumerate(drawer.pictures(ws, options.noise, seeds)):
                add_frame(picture)
                for folder in folders:
                    write_png(picture, folder / f"{index:05}.png")
                report(1)
    except KeyboardInterrupt:
        print("Stopped; no film is written." if is_film else f"Stopped. {index + 1} frames are in {options.output}.")
        return request.status
    print(f"Wrote {len(ws)} frames ({len(ws) / options.fps:.1f} s) to {_places(options.output, options.frames)}")
    return 0


def _places(*places: Path | None) -> str:
    return " and ".join(str(place.resolve()) for place in places if place is not None)
