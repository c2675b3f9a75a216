"""The command sample: draws images, as many as are wanted, and goes on where it was stopped."""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from .arguments import add_device, add_generator, add_noise, add_output
from .cameras import add_camera, camera_notes, cameras_for, views
from .drawing import Drawer
from .signals import stop_noted, stopping
from .sources import Files, Source, add_source, all_codes, source_of, tell_of_another_mapping
from .terminal import UsageError, counting_bar, make_folder, require_free, write_png

GRID, LATENTS = "grid.png", "latents.safetensors"
IN_GRID = 64  # images
CELL = 256  # pixels of an image in it
NOTES = "stylegan-fusion"  # the text entry of a picture that says how it was drawn


def add(commands) -> None:
    parser = commands.add_parser(
        "sample",
        help="draw images with a generator",
        description="Draws images and writes each as soon as it is there: 00000.png and so on, or seed00001.png for a "
        f"list of seeds, and {GRID}, which shows the first {IN_GRID}. With --orbit each from several sides: 00000-00.png, "
        "00000-01.png and so on.",
    )
    add_generator(parser)
    add_output(parser, "folder for the images and their grid")
    add_source(parser, count=16, psi=1.0)
    add_noise(parser)
    add_camera(parser, orbit=True)
    parser.add_argument(
        "--continue",
        action="store_true",
        dest="go_on",
        help="go on in a folder that holds images of the same command, or draw more of them",
    )
    parser.add_argument(
        "--keep-latents", action="store_true", help=f"write {LATENTS}, too, for the --latents of other commands"
    )
    add_device(parser)
    parser.set_defaults(command=sample)


def sample(options: argparse.Namespace) -> int:
    from ..stylegan.code_files import save_codes

    source = source_of(options)
    files = _Files(options.output, source, views(options))
    if not options.go_on and options.output.exists():
        require_free(options.output, itertools.chain([GRID], [LATENTS] * options.keep_latents, files))
    drawer = Drawer(options.generator, options.device)
    if isinstance(source, Files) and (told := tell_of_another_mapping(drawer.generator, source.codes)):
        print(told)
    drawing = _Drawing(
        drawer, source, files, options.noise, cameras_for(options, drawer.generator), camera_notes(options)
    )
    known = drawing.check_known() if options.go_on else frozenset()
    make_folder(options.output)
    try:
        with stop_noted() as request, stopping(request, counting_bar(files.count, "image", len(known))) as report:
            drawing.run(known, report)
    except KeyboardInterrupt:
        done = sum(path.exists() for path in files.paths())
        print(
            f"Stopped. {done} of {files.count} images are in {options.output}. Go on with the same command and --continue."
        )
        return request.status
    if options.keep_latents:
        save_codes(options.output / LATENTS, all_codes(source, drawer.generator))
    print(f"Wrote {files.count - len(known)} images and {GRID} to {options.output.resolve()}")
    return 0


class _Files:
    """The names of the images' files: of each latent one, or one for each side that it is seen from."""

    def __init__(self, folder: Path, source: Source, views: int = 1):
        self.folder, self.source, self.views = folder, source, views

    @property
    def count(self) -> int:
        return self.source.count * self.views

    def __iter__(self) -> Iterator[str]:
        return (self._name(index) for index in range(self.count))

    def _name(self, index: int) -> str:
        latent, view = divmod(index, self.views)
        name = self.source.name(latent)
        return f"{name}.png" if self.views == 1 else f"{name}-{view:02}.png"

    def path(self, index: int) -> Path:
        return self.folder / self._name(index)

    def paths(self) -> Iterator[Path]:
        return map(self.path, range(self.count))


class _Drawing:
    """Images drawn one after the other, each with notes on how; the first ones are kept small for the grid."""

    def __init__(self, drawer: Drawer, source: Source, files: _Files, noise: str, cameras, camera: dict[str, float]):
        from ..training.digests import weights_digest

        self.drawer, self.source, self.files, self.noise = drawer, source, files, noise
        self.about = {
            "--generator": drawer.name,
            "its weights": weights_digest(drawer.generator)[:16],
            "--noise": noise,
            **camera,
        }
        self.cameras = cameras
        self.small: dict[int, object] = {}

    def notes(self, index: int) -> dict[str, object]:
        latent, view = divmod(index, self.files.views)
        of_view = {} if self.files.views == 1 else {"view": view}
        return {**self.source.notes(latent), **of_view, **self.about}

    def check_known(self) -> frozenset[int]:
        """Return the numbers of the images that are there. Raises UsageError for one that was drawn otherwise."""
        known = set()
        for index, path in enumerate(self.files.paths()):
            if path.exists():
                self._check(path, self.notes(index))
                known.add(index)
        return frozenset(known)

    def run(self, known: frozenset[int], report) -> None:
        """Draw the images that are not known, and then the grid."""
        from ..metrics.figures import fitted_picture, picture_grid

        for index in (index for index in range(min(IN_GRID, self.files.count)) if index in known):
            self.small[index] = fitted_picture(_read(self.files.path(index)), CELL)
        sides = range(self.files.views)
        seen_from = lambda latent: (latent * len(sides) + side for side in sides)  # noqa: E731
        wanted = lambda latent: any(index not in known for index in seen_from(latent))  # noqa: E731
        for latents, ws, seeds in self.source.pieces(self.drawer.generator, wanted):
            rows = {
                index: row for row, latent in enumerate(latents) for index in seen_from(latent) if index not in known
            }
            drawn = self.drawer.pictures(
                ws[list(rows.values())],
                self.noise,
                [seeds[row] for row in rows.values()],
                None if self.cameras is None else self.cameras[[index % len(sides) for index in rows]],
            )
            for index, picture in zip(rows, drawn, strict=True):
                write_png(picture, self.files.path(index), {NOTES: json.dumps(self.notes(index))})
                if index < IN_GRID:
                    self.small[index] = fitted_picture(picture, CELL)
                report(1)
        write_png(picture_grid([self.small[index] for index in sorted(self.small)]), self.files.folder / GRID)

    def _check(self, path: Path, wanted: dict[str, object]) -> None:
        advice = "give another folder as --output, or leave out --continue"
        try:
            found = json.loads(_read(path).info.get(NOTES, "null"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UsageError(f"{path} does not say how it was drawn, so it is not of this command; {advice}.")
        wanted = json.loads(json.dumps(wanted))
        differing = [name for name in wanted | found if wanted.get(name) != found.get(name)]
        if differing:
            raise UsageError(f"{path} was drawn otherwise (different: {', '.join(differing)}); {advice}.")


def _read(path: Path):
    from PIL import Image

    try:
        return Image.open(path)
    except (OSError, SyntaxError) as error:
        raise UsageError(
            f"{path} cannot be read as a picture ({error}); remove it, then --continue draws it."
        ) from error
