"""The options of cameras, for generators that draw in three dimensions."""

import argparse

from .arguments import positive
from .terminal import UsageError

_OWN = "the generator's own"


def add_camera(parser: argparse.ArgumentParser, orbit: bool = False) -> None:
    """Add where the camera is; with `orbit`, that it moves."""
    of = parser.add_argument_group("the camera of a generator that draws in 3D (EG3D)")
    of.add_argument("--yaw", type=float, metavar="DEGREES", help="to the right of the front (default: 0)")
    of.add_argument("--pitch", type=float, metavar="DEGREES", help="above the front (default: 0)")
    of.add_argument("--radius", type=float, help=f"distance from what it looks at (default: {_OWN})")
    of.add_argument("--fov", type=float, metavar="DEGREES", help=f"vertical field of view (default: {_OWN})")
    if orbit:
        of.add_argument(
            "--orbit", type=positive, metavar="N", help="draw each image from N sides, on a way around that loops"
        )
        of.add_argument(
            "--orbit-angle",
            type=float,
            metavar="DEGREES",
            help="how far the way goes to each side, and half as far up and down; 180: once around (default: 20)",
        )


def views(options: argparse.Namespace) -> int:
    """Return from how many sides each image is drawn. Raises UsageError."""
    count = getattr(options, "orbit", None)
    if count is None and getattr(options, "orbit_angle", None) is not None:
        raise UsageError("--orbit-angle is of a way around; add --orbit N.")
    return count or 1


def camera_notes(options: argparse.Namespace) -> dict[str, float]:
    """Return the options that were given, which tell a picture from others."""
    names = ("yaw", "pitch", "radius", "fov", "orbit", "orbit_angle")
    given = {f"--{name.replace('_', '-')}": getattr(options, name, None) for name in names}
    return {option: value for option, value in given.items() if value is not None}


def cameras_for(options: argparse.Namespace, generator):
    """Return the cameras [views, 25] that were asked for; None: the generator's usual one, or none for a flat one. Raises
    ValueError for a flat one with a camera."""
    from ..stylegan import Views

    if not camera_notes(options):
        return None
    seen = Views((options.yaw or 0.0,), (options.pitch or 0.0,), options.radius, options.fov)
    if getattr(options, "orbit", None) is not None:
        seen = seen.orbit(options.orbit, 20.0 if options.orbit_angle is None else options.orbit_angle)
    return seen.cameras(generator.config)
