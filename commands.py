"""What the command line does, once the arguments are read: demo, adapt, sample, convert."""

import argparse
import math
from pathlib import Path

from .adapting import adapt, resume
from .miniature.settings import DEMOS, MINIATURE_SETTINGS
from .terminal import UsageError, device_named, free_folder, load_generator, make_folder, require_free, write_png

DEMO_FOLDER = "stylegan-fusion-demo"

IN_GRID = 64  # images


def demo(options: argparse.Namespace) -> int:
    if options.output is None:
        options.output = free_folder(Path(DEMO_FOLDER))
    options.miniature_settings = DEMOS[options.target]
    options.prompt = options.prompt or options.miniature_settings.prompt
    print(
        "Adapting the miniature's person generator; a few minutes on two processor cores. Ctrl-C keeps what is trained."
    )
    return adapt(options)


def adapt_or_resume(options: argparse.Namespace) -> int:
    if options.resume is not None:
        return resume(options.resume)
    options.miniature_settings = MINIATURE_SETTINGS
    return adapt(options)


def sample(options: argparse.Namespace) -> int:
    import torch

    from .metrics.figures import sample_grid, to_pictures
    from .stylegan import draw_codes, sample_codes, sample_z

    if not math.isfinite(options.truncation_psi):
        raise UsageError(f"--truncation-psi is {options.truncation_psi}; give a number, 0.7 for example.")
    names = [f"{index:05}.png" for index in range(options.count)]
    require_free(options.output, [*names, "grid.png"])
    device = device_named(options.device)
    generator, _, crop = load_generator(options.generator, device)
    z = sample_z(generator.z_dim, options.count, options.seed)
    ws = sample_codes(generator, z, options.truncation_psi, options.truncation_cutoff, options.class_index)
    make_folder(options.output)
    written, first = iter(names), []
    for images in draw_codes(generator, ws, options.noise):
        images = images if crop is None else crop.apply(images)
        for picture in to_pictures(images):
            write_png(picture, options.output / next(written))
        first += images[: IN_GRID - len(first)]
    write_png(sample_grid(torch.stack(first)), options.output / "grid.png")
    print(f"Wrote {options.count} images and grid.png to {options.output.resolve()}")
    return 0


def convert(options: argparse.Namespace) -> int:
    from .miniature import generator_path
    from .stylegan import SUFFIXES, load_checkpoint, provenance, with_crop, write_generator

    if options.output.suffix not in SUFFIXES:
        raise UsageError(f"{options.output} ends in neither {' nor '.join(SUFFIXES)}; the ending says what to write.")
    with_crop({}, options.crop)
    require_free(options.output.parent, [options.output.name])
    checkpoint = load_checkpoint(generator_path(options.file))
    metadata = with_crop(provenance(checkpoint, Path(options.file).name), options.crop)
    if options.license_note:
        metadata["license"] = options.license_note
    write_generator(checkpoint.generator, options.output, metadata)
    config = checkpoint.generator.config
    kind = {"stylegan2": "StyleGAN2", "stylegan3": "StyleGAN3"}[config.architecture]
    print(
        f"Read {options.file}: {checkpoint.format}, {kind} of {config.resolution} x {config.resolution} pixels", end=""
    )
    print(f", {config.c_dim} classes" if config.c_dim else "", end="")
    print(f", of which {metadata['crop']} count" if "crop" in metadata else "")
    print(f"Wrote {options.output.resolve()}")
    return 0
