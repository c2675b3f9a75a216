"""The command project: finds the latents of pictures."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..metrics.pictures import picture_files, read_picture
from ..stylegan.alignment import FRAMINGS, Eyes
from ..stylegan.projection import ProjectionSettings
from ..training.settings import declared_settings
from .arguments import add_device, add_generator, add_output, add_setting, name, path, shown
from .cameras import add_camera, cameras_for
from .drawing import Drawer
from .signals import stop_noted, stopping
from .terminal import BUNDLED, MINIATURE, UsageError, counting_bar, make_folder, require_free, write_png

LATENTS, COMPARED = "latents.safetensors", "compared.png"
IN_PICTURE = 12  # pictures


def add(commands) -> None:
    parser = commands.add_parser(
        "project",
        help="find the latents from which a generator draws your pictures",
        description="Finds latents (W+) of pictures, for a generator as it was before it was adapted; sample --latents then "
        "draws them with an adapted one. Pictures must be framed as the generator draws: --align does it for faces. Writes "
        f"{LATENTS}, what the generator draws from each as NAME.png, and {COMPARED}.",
    )
    parser.add_argument("pictures", nargs="+", type=path, metavar="PICTURE", help="pictures, or folders of them")
    add_generator(parser)
    add_output(parser, "folder for the latents and what is drawn from them")
    parser.add_argument(
        "--align",
        action="store_true",
        help="find the eyes of a face, and turn and cut the picture so that they lie where the generator has them; needs "
        "dlib (the extra faces)",
    )
    parser.add_argument(
        "--eyes",
        action="append",
        type=_eyes,
        metavar="X,Y,X,Y",
        help="the same with the eyes given in pixels of the picture; once for each picture, in their order",
    )
    parser.add_argument(
        "--framing",
        choices=tuple(FRAMINGS),
        help="where the generator has the eyes (default: FFHQ; miniature for the bundled one)",
    )
    parser.add_argument(
        "--features",
        type=name,
        default=MINIATURE,
        metavar="FILE",
        help="the network that compares: VGG16's weights, torchvision's vgg16-397923af.pth for example, better for photos; "
        f'or "{MINIATURE}", which sees 64 pixels (default)',
    )
    for declared in declared_settings(ProjectionSettings).values():
        usual = shown(getattr(ProjectionSettings(), declared.name), declared)
        add_setting(parser, declared, f"(default: {usual})")
    add_camera(parser)
    add_device(parser)
    parser.set_defaults(command=project)


def project(options: argparse.Namespace) -> int:
    import torch

    from .. import stylegan
    from ..metrics.figures import before_after, to_pictures
    from ..miniature.perceptual import load_features
    from ..stylegan.code_files import Codes, save_codes
    from ..stylegan.projection import project as find

    asked = {
        name: value
        for name in declared_settings(ProjectionSettings)
        if (value := getattr(options, name, None)) is not None
    }
    settings = ProjectionSettings(**asked)
    files = picture_files(options.pictures)
    _check_eyes(options, files)
    names = _names(files)
    require_free(options.output, [*names, LATENTS, COMPARED])
    drawer = Drawer(options.generator, options.device)
    generator, crop = drawer.generator, drawer.crop
    camera = cameras_for(options, generator)
    targets = [_target(options, index, file, generator, crop) for index, file in enumerate(files)]
    features = load_features(options.features)
    make_folder(options.output)
    found, stopped = [], None
    try:
        with (
            stop_noted() as request,
            stopping(request, counting_bar(len(files) * settings.all_steps, "step")) as report,
        ):
            for target, file in zip(targets, names, strict=True):
                projection = find(generator, target, features, settings, crop, lambda progress: report(1), camera)
                found.append(projection)
                write_png(to_pictures(_cropped(projection.image, crop))[0], options.output / file)
    except KeyboardInterrupt:
        stopped = request.status
    if found:
        description = f"{len(found)} projected ({', '.join(file.name for file in files[: len(found)][:8])})"
        ws = torch.cat([projection.ws for projection in found])
        save_codes(options.output / LATENTS, Codes(ws, stylegan.mapping_digest(generator), description))
        first = slice(0, min(IN_PICTURE, len(found)))
        images = torch.cat([_cropped(projection.image, crop) for projection in found[first]])
        write_png(before_after(torch.cat(targets[first]), images, 256, ("picture", "found")), options.output / COMPARED)
    for file, projection in zip(files, found, strict=False):
        near = f"perceptual distance {projection.distance:.3g}, pixel error {projection.pixel_error:.3g}"
        print(f"{file}: {near}{projection.found_at}")
    if stopped is not None:
        print(f"Stopped. {len(found)} of {len(files)} pictures are done.")
        return stopped
    print(f"Wrote {LATENTS} and what is drawn from them to {options.output.resolve()}")
    return 0


def _target(options: argparse.Namespace, index: int, file: Path, generator, crop):
    """The picture [1, 3, H, W] in [-1, 1] as it is to be found."""
    from ..metrics.figures import from_picture
    from ..stylegan import picture_size
    from ..stylegan.alignment import align
    from ..stylegan.projection import fitted

    picture, (width, height) = from_picture(read_picture(file)), picture_size(generator, crop)
    if options.align or options.eyes:
        eyes = options.eyes[index] if options.eyes else _found_eyes(file, picture)
        if not all(0 <= x <= picture.shape[-1] and 0 <= y <= picture.shape[-2] for x, y in (eyes.left, eyes.right)):
            raise UsageError(
                f"{file} has {picture.shape[-1]} x {picture.shape[-2]} pixels, and --eyes lie outside of it."
            )
        picture = align(picture, eyes, FRAMINGS[_framing(options)], (height, width))
    return fitted(picture, width, height).clamp(-1, 1)


def _found_eyes(file: Path, picture) -> Eyes:
    """The eyes in a picture [1, 3, H, W] in [-1, 1]. Raises UsageError."""
    from ..stylegan.faces import find_eyes

    eyes = find_eyes((picture[0] + 1) / 2)
    if eyes is None:
        raise UsageError(f"{file}: no face was found; say where its eyes are with --eyes X,Y,X,Y in place of --align.")
    return eyes


def _framing(options: argparse.Namespace) -> str:
    bundled = options.generator in BUNDLED
    return options.framing or ("miniature" if bundled else "FFHQ")


def _check_eyes(options: argparse.Namespace, files: Sequence[Path]) -> None:
    if options.eyes and options.align:
        raise UsageError("--align finds the eyes that --eyes gives; leave out one of them.")
    if options.eyes and len(options.eyes) != len(files):
        raise UsageError(f"--eyes is given {len(options.eyes)} times for {len(files)} pictures; give it once for each.")
    if options.framing and not (options.align or options.eyes):
        raise UsageError("--framing says where the eyes shall lie; add --align.")


def _eyes(text: str) -> Eyes:
    try:
        return Eyes.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(files: Sequence[Path]) -> list[str]:
    """A name for what is drawn of each picture, none of them twice."""
    taken: set[str] = {LATENTS, COMPARED}
    names = []
    for file in files:
        number, found = 1, f"{file.stem}.png"
        while found.casefold() in taken:
            number += 1
            found = f"{file.stem}-{number}.png"
        taken.add(found.casefold())
        names.append(found)
    return names


def _cropped(images, crop):
    return images if crop is None else crop.apply(images)
