"""The command convert: writes a generator of any known format as another one."""

import argparse
from pathlib import Path

from .arguments import KNOWN_FORMATS, add_layout, name, path
from .terminal import require_free


def add(commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="write a generator of any known format as safetensors, or as a .pt for other programs",
        description=f"Reads {KNOWN_FORMATS}, whatever its name, and executes nothing that is in it.",
    )
    parser.add_argument("file", type=name, metavar="FILE", help="the generator to read")
    parser.add_argument(
        "--output",
        required=True,
        type=path,
        metavar="FILE",
        help="where to write: FILE.safetensors, or FILE.pt in the --layout of another program",
    )
    add_layout(parser)
    parser.add_argument("--license-note", metavar="TEXT", help="licence, for the metadata (default: the source's)")
    parser.add_argument(
        "--crop",
        default="auto",
        metavar="WxH",
        help="middle of the pictures that counts, 512x384 for LSUN cars (default: auto, between black bars; or none)",
    )
    parser.set_defaults(command=convert)


def convert(options: argparse.Namespace) -> int:
    from ..miniature import generator_path
    from ..stylegan import (
        ARCHITECTURES,
        CHANNELS,
        load_checkpoint,
        provenance,
        require_layout,
        with_crop,
        write_generator,
    )

    require_layout(options.output, options.layout)
    with_crop({}, options.crop)
    require_free(options.output.parent, [options.output.name])
    checkpoint = load_checkpoint(generator_path(options.file))
    metadata = with_crop(provenance(checkpoint, Path(options.file).name), options.crop)
    if options.license_note:
        metadata["license"] = options.license_note
    write_generator(checkpoint.generator, options.output, metadata, options.layout)
    config = checkpoint.generator.config
    kind = ARCHITECTURES[config.architecture].title
    print(f"Read {options.file}: {checkpoint.format}, {kind} of {config.width} x {config.height} pixels", end="")
    print("" if config.img_channels == 3 else f", {CHANNELS[config.img_channels]}", end="")
    print(f", {config.c_dim} classes" if config.c_dim else "", end="")
    print(f", of which {metadata['crop']} count" if "crop" in metadata else "")
    print(f"Wrote {options.output.resolve()}")
    return 0
