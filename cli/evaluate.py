"""The command evaluate: measures what generators draw, or folders of images."""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

from ..metrics.pictures import picture_files, read_picture
from ..metrics.report import SETS
from ..stylegan.inception_files import WHERE_FROM
from .arguments import GENERATOR, add_class, add_device, add_psi, at_least, name, path
from .drawing import Drawer
from .signals import stop_noted, stopping
from .terminal import (
    BUNDLED,
    MINIATURE,
    UsageError,
    counting_bar,
    device_named,
    make_folder,
    require_free,
    write_png,
)

PIECE = 16  # images that are looked at together
VARIED = 2000  # images of which the diversity is measured
REPORT, PICTURE, NUMBERS = "report.txt", "report.png", "report.json"


def add(commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure how near a generator's images are to a folder of images, to a text, and how varied they are",
        description="Measures Fréchet and kernel distance to the images in a folder (FID and KID with --inception), CLIP "
        "score and LPIPS diversity. No number is good by itself: compare with the generator before, by --before.",
    )
    parser.add_argument("images", type=name, metavar="WHAT", help=f"a generator ({GENERATOR}), or a folder of images")
    parser.add_argument(
        "--before",
        type=name,
        metavar="WHAT",
        help="what to compare it with: the generator before, or a folder of images",
    )
    parser.add_argument(
        "--reference",
        type=path,
        metavar="FOLDER",
        help="images as you want them; without them there is no Fréchet and no kernel distance",
    )
    parser.add_argument(
        "--count",
        type=at_least(2),
        default=1000,
        help="images that a generator draws; published FIDs have 50000, and folders are taken whole (default: 1000)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the latents; the same seed measures the same images (0)"
    )
    add_psi(parser, 1.0)
    add_class(parser)
    parser.add_argument(
        "--inception",
        type=name,
        metavar="FILE",
        help=f"Inception v3's weights, for distances that compare with the FID and KID of others. {WHERE_FROM}; needs the "
        "package torch-fidelity",
    )
    parser.add_argument(
        "--clip",
        type=name,
        metavar="FOLDER",
        help=f'a CLIP in the layout of transformers, or "{MINIATURE}": for CLIP score, and for distances without '
        "--inception",
    )
    parser.add_argument(
        "--text",
        help="what the images shall show, for CLIP score; of one with commas each phrase is scored by itself, too",
    )
    parser.add_argument(
        "--phrase",
        action="append",
        metavar="TEXT",
        help="a phrase to score in place of those of --text; can be repeated",
    )
    parser.add_argument(
        "--features",
        type=name,
        default=MINIATURE,
        metavar="FILE",
        help=f'the network of the diversity: VGG16\'s weights, or "{MINIATURE}" (default); for distances, too, without '
        "--inception and --clip",
    )
    parser.add_argument(
        "--output", type=path, metavar="DIR", help=f"folder for the report as {REPORT}, {PICTURE} and {NUMBERS}"
    )
    add_device(parser)
    parser.set_defaults(command=evaluate)


def evaluate(options: argparse.Namespace) -> int:
    from ..metrics.evaluation import MissingPackage, phrases_of, require_distances
    from ..metrics.judging import Space, judge
    from ..metrics.report import evaluation_picture
    from ..miniature.perceptual import load_features
    from ..stylegan.inception_files import load_inception

    if not math.isfinite(options.truncation_psi):
        raise UsageError(f"--truncation-psi is {options.truncation_psi}; give a number, 1 for example.")
    for option, given in (("--text", options.text), ("--phrase", options.phrase)):
        if given is not None and options.clip is None:
            raise UsageError(f"{option} is for CLIP score, which needs a CLIP; add --clip FOLDER.")
    if options.inception is not None and options.reference is None:
        raise UsageError("--inception is for the distance to other images; add --reference FOLDER.")
    if options.output is not None:
        require_free(options.output, [REPORT, PICTURE, NUMBERS])
    if options.reference is not None:
        try:
            require_distances()
        except MissingPackage as error:
            raise UsageError(str(error)) from None
    device = device_named(options.device)
    sets = {
        name: _set_of(value, options)
        for name, value in zip(SETS, (options.images, options.before, options.reference), strict=True)
        if value is not None
    }
    network = load_features(options.features).to(device)
    clip = text = space = None
    phrases = {}
    if options.clip is not None:
        from .clip import Clip

        loaded = Clip(options.clip, device)
        clip, text = loaded.embed_images, loaded.embed_text(options.text) if options.text else None
        listed = phrases_of(options.text or "") if options.phrase is None else options.phrase
        phrases = {phrase: loaded.embed_text(phrase) for phrase in listed}
        space = Space(f"the CLIP in {Path(options.clip).name}", clip, is_square=True)
    if options.inception is not None:
        inception = load_inception(options.inception).to(device)
        space = Space(inception.name, inception, is_inception=True)
    if options.output is not None:
        make_folder(options.output)
    total = sum(len(images) + min(len(images), VARIED) for images in sets.values())
    with stop_noted() as request, stopping(request, counting_bar(total, "image")) as report:
        found = judge(sets, network, space, clip, text, options.seed, VARIED, report, phrases)
    print(found.text())
    if options.output is not None:
        from ..training.files import write_atomically

        write_atomically(options.output / REPORT, f"{found.text()}\n".encode())
        write_atomically(options.output / NUMBERS, json.dumps(_numbers(found, sets), indent=2).encode())
        write_png(evaluation_picture(found), options.output / PICTURE)
        print(f"Wrote {REPORT}, {PICTURE} and {NUMBERS} to {options.output.resolve()}")
    return 0


def _set_of(value: str | Path, options: argparse.Namespace):
    """The images in a folder, or what a generator will draw."""
    if value not in BUNDLED and Path(value).is_dir():
        return _Folder(Path(value))
    if isinstance(value, Path):
        raise UsageError(f"--reference {value} is no folder; give one with images as you want them.")
    return _Drawn(Drawer(value, options.device), options)


class _Drawn:
    """The images that a generator draws."""

    def __init__(self, drawer: Drawer, options: argparse.Namespace):
        from .sources import Sampling, Seed

        self.drawer = drawer
        self.source = Seed(options.seed, options.count, Sampling(options.truncation_psi, None, options.class_index))

    def __len__(self) -> int:
        return self.source.count

    def pieces(self) -> Iterator:
        import torch

        from ..metrics.colours import rgb

        for _, ws, _ in self.source.pieces(self.drawer.generator):
            for piece in ws.split(PIECE):
                yield rgb(torch.cat(list(self.drawer.images(piece)))).clamp(-1, 1)

    def size(self) -> tuple[int, int]:
        from ..stylegan import picture_size

        return picture_size(self.drawer.generator, self.drawer.crop)


class _Folder:
    """The images in a folder, brought to the size of the first one."""

    def __init__(self, folder: Path):
        self.folder, self.files = folder, picture_files([folder])
        self.wide, self.high = read_picture(self.files[0]).size
        if len(self.files) < 2:
            raise UsageError(f"{folder} holds one image; 2 or more are needed, better some hundred.")

    def __len__(self) -> int:
        return len(self.files)

    def pieces(self) -> Iterator:
        import torch

        from ..metrics.figures import from_picture
        from ..stylegan.projection import fitted

        for start in range(0, len(self.files), PIECE):
            pictures = map(read_picture, self.files[start : start + PIECE])
            yield torch.cat([fitted(from_picture(picture), self.wide, self.high) for picture in pictures]).clamp(-1, 1)

    def size(self) -> tuple[int, int]:
        return self.wide, self.high


def _numbers(found, sets) -> dict:
    return {
        "images": {name: len(images) for name, images in sets.items()},
        "measures": _of_rows(found.rows),
        "phrases": _of_rows(found.phrases),
        "notes": found.notes,
    }


def _of_rows(rows) -> dict:
    return {
        row.name: {name: {"value": _finite(one.value), "error": _finite(one.error)} for name, one in row.values.items()}
        for row in rows
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
