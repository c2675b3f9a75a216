"""The command line: adapt a generator to a prompt, draw samples with one, or see a demo of it all."""

import argparse
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .commands import DEMO_FOLDER, adapt_or_resume, convert, demo, sample
from .miniature.settings import DEMOS, MINIATURE_SETTINGS, MiniatureSettings
from .runs import RunError
from .sds import TIMESTEP_SCHEDULES, TRAINED_BY_DEFAULT, WEIGHTINGS, SavedTrainingError
from .stylegan import CheckpointError
from .terminal import INTERRUPTED, MINIATURE, UsageError, quiet_libraries
from .training.out_of_memory import is_out_of_memory

KNOWN_FORMATS = "a safetensors file of this program, a .pt in rosinality's layout, or a .pkl of NVlabs' StyleGAN2 or 3"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 for an error that is explained, 130 when Ctrl-C ended the run."""
    for stream in (sys.stdout, sys.stderr):  # on Windows a pipe may lack letters that are in file names
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = _parsed(arguments)
    try:
        quiet_libraries()
        return options.run(options)
    except (
        UsageError,
        RunError,
        CheckpointError,
        SavedTrainingError,
        ValueError,
        ImportError,
        FileNotFoundError,
    ) as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or 'A file'} could not be read or written ({error.strerror or error}); free some space or choose another folder."
    except KeyboardInterrupt:
        print("\nstylegan-fusion: stopped.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        less = "close other programs" if options.run in (sample, convert) else "try --half or --batch-size 1"
        message = f"Out of memory; {less}, or add --device cpu."
    print(f"stylegan-fusion: {message}", file=sys.stderr)
    return 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments read; ends the program with a usage message when they do not go together."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.run is adapt_or_resume:
        if options.resume is not None and len(arguments) > (2 if "=" in arguments[1] else 3):
            parser.error("--resume DIR goes on with the settings in the folder: leave out everything else.")
        missing = [name for name in ("generator", "model", "prompt", "output") if getattr(options, name) is None]
        if options.resume is None and missing:
            parser.error(f"adapt needs {', '.join(f'--{name}' for name in missing)} (or --resume DIR alone)")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stylegan-fusion", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo_parser = commands.add_parser(
        "demo", help="adapt the miniature's person generator to another domain, in minutes on any computer"
    )
    demo_parser.add_argument(
        "--output", type=Path, metavar="DIR", help=f"folder for the results (default: {DEMO_FOLDER})"
    )
    demo_parser.add_argument("--target", choices=DEMOS, default="fox", help="what the persons become (default: fox)")
    demo_parser.add_argument(
        "--prompt", help="what the generator shall draw, with the target's settings (default: the target)"
    )
    _training_options(demo_parser, DEMOS)
    demo_parser.set_defaults(run=demo, generator=MINIATURE, model=MINIATURE)

    adapt_parser = commands.add_parser("adapt", help="adapt a generator to a prompt", epilog=TRAINED_BY_DEFAULT)
    adapt_parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="go on with the run in this folder, with nothing else beside it"
    )
    adapt_parser.add_argument("--generator", metavar="FILE", help=f'{KNOWN_FORMATS}, or "{MINIATURE}"')
    adapt_parser.add_argument(
        "--model",
        metavar="FOLDER",
        help=f'Stable Diffusion in the layout of diffusers, or "{MINIATURE}"',
    )
    adapt_parser.add_argument("--output", type=Path, metavar="DIR", help="folder for the results")
    adapt_parser.add_argument("--prompt", help="what the generator shall draw")
    _training_options(adapt_parser, {MINIATURE: MINIATURE_SETTINGS})
    adapt_parser.set_defaults(run=adapt_or_resume)

    sample_parser = commands.add_parser("sample", help="draw images with a generator")
    sample_parser.add_argument("--generator", required=True, metavar="FILE", help=f'{KNOWN_FORMATS}, or "{MINIATURE}"')
    sample_parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for the images and their grid"
    )
    sample_parser.add_argument("--count", type=_positive, default=16, help="number of images (default: 16)")
    sample_parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same latents (default: 0)")
    sample_parser.add_argument(
        "--truncation-psi", type=float, default=1.0, help="below 1: nearer to the average (default: 1)"
    )
    sample_parser.add_argument(
        "--truncation-cutoff", type=_positive, help="truncate this many layers only, the coarse ones"
    )
    sample_parser.add_argument("--noise", choices=("const", "random", "none"), default="const", help="noise inputs")
    sample_parser.add_argument(
        "--class-index", type=int, metavar="N", help="class of a generator with classes (default: all)"
    )
    sample_parser.add_argument("--device", help="cpu, cuda, mps (default: the fastest there is)")
    sample_parser.set_defaults(run=sample)

    convert_parser = commands.add_parser(
        "convert",
        help="write a generator of any known format as safetensors, or as a .pt for other programs",
        description=f"Reads {KNOWN_FORMATS}, whatever its name, and executes nothing that is in it.",
    )
    convert_parser.add_argument("file", metavar="FILE", help="the generator to read")
    convert_parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="where to write: FILE.safetensors, or FILE.pt in rosinality's layout",
    )
    convert_parser.add_argument(
        "--license-note", metavar="TEXT", help="licence, for the metadata (default: the source's)"
    )
    convert_parser.add_argument(
        "--crop",
        default="auto",
        metavar="WxH",
        help="middle of the pictures that counts, 512x384 for LSUN cars (default: auto, between black bars; or none)",
    )
    convert_parser.set_defaults(run=convert)
    return parser


def _training_options(parser: argparse.ArgumentParser, miniature: Mapping[str, MiniatureSettings]) -> None:
    """The settings of a training; those left out are the miniature's own on the miniature, else the paper's.

    The help gives both: the paper's, and under its name each of `miniature`."""

    def usual(paper: object, read: Callable[[MiniatureSettings], object]) -> str:
        return f"({paper}; {', '.join(f'{name} {read(settings)}' for name, settings in miniature.items())})"

    parser.add_argument(
        "--negative-prompt", help=f"what it shall stay away from {usual('none', lambda s: s.negative_prompt)}"
    )
    parser.add_argument(
        "--guidance-scale",
        type=float,
        help=f"how strongly the prompt pulls {usual(100, lambda s: s.guidance_scale)}",
    )
    parser.add_argument(
        "--extra-prompt",
        nargs=2,
        action="append",
        metavar=("TEXT", "SCALE"),
        help="one more prompt with a guidance scale of its own, below 0 to stay away from it; can be repeated",
    )
    parser.add_argument(
        "--guidance-end",
        type=float,
        metavar="SHARE",
        help="share of the guidance scale that is left at the last step, to which it changes linearly (1: it stays)",
    )
    parser.add_argument("--steps", type=int, help=f"training steps {usual(1000, lambda s: s.training.steps)}")
    parser.add_argument("--batch-size", type=int, help=f"images a step {usual(1, lambda s: s.training.batch_size)}")
    parser.add_argument(
        "--accumulation",
        type=int,
        metavar="N",
        help="batches a step, one after the other: as a batch N times as large, in the memory of one (1)",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        help=f"size of Adam's steps {usual(0.001, lambda s: s.training.learning_rate)}",
    )
    parser.add_argument(
        "--cooldown",
        type=float,
        help="share of the steps, the last ones, over which the learning rate falls to 0 "
        + usual(0, lambda s: s.training.cooldown),
    )
    parser.add_argument(
        "--t-min", type=float, help=f"lowest timestep, 0 = clean {usual(0.01, lambda s: s.training.t_min)}"
    )
    parser.add_argument(
        "--t-max",
        type=float,
        help="highest timestep, 1 = pure noise; 0.3 changes style, more the shape "
        + usual(0.5, lambda s: s.training.t_max),
    )
    parser.add_argument(
        "--timestep-schedule",
        choices=TIMESTEP_SCHEDULES,
        help="uniform draws timesteps at random; annealed lets the largest fall to the lowest; linear and sqrt go from the "
        "largest to the lowest (uniform)",
    )
    parser.add_argument(
        "--weighting",
        choices=WEIGHTINGS,
        help="what a gradient counts at its timestep: sds is sigma^2, fantasia3d alpha sigma^2, x0 sigma/alpha (sds)",
    )
    parser.add_argument(
        "--image-size", type=_positive, metavar="PIXELS", help="image that the model sees (its own size)"
    )
    parser.add_argument(
        "--directional",
        type=float,
        metavar="WEIGHT",
        help=f"weight of the directional regularizer {usual(1.0, lambda s: s.directional_weight)}",
    )
    parser.add_argument(
        "--reconstruction", type=float, metavar="WEIGHT", help="weight of the reconstruction regularizer"
    )
    parser.add_argument(
        "--lpips",
        type=float,
        metavar="WEIGHT",
        help="weight of the LPIPS regularizer, which compares what images look like (0); at 512 pixels 600 to 2000 with calibrated "
        "VGG16, 60 to 200 with other features, for the miniature 1 to 3",
    )
    parser.add_argument(
        "--lpips-features",
        default=MINIATURE,
        metavar="FILE",
        help="VGG16's weights for LPIPS, torchvision's vgg16-397923af.pth for example; vgg.pth of the lpips project beside "
        f'it calibrates the metric; or "{MINIATURE}" (default)',
    )
    parser.add_argument(
        "--layers", metavar="CHOICE", help='"all", the k that matter most in each step as "top3", or a list as "1-3,6"'
    )
    parser.add_argument(
        "--selection-steps", type=int, help="search steps of a top-k choice; 1 costs nothing (default: 1)"
    )
    parser.add_argument(
        "--also-train",
        default="",
        metavar="GROUPS",
        help="of constant,4x4,to_rgb: otherwise frozen (StyleGAN3 has no 4x4; its constant is the Fourier input)",
    )
    parser.add_argument("--class-index", type=int, metavar="N", help="class of a generator with classes (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same generator (default: 0)")
    parser.add_argument(
        "--save-every", type=_positive, default=100, metavar="N", help="steps between two savings (default: 100)"
    )
    parser.add_argument(
        "--collapse-threshold",
        type=float,
        metavar="SHARE",
        help="warn when the images' diversity falls below this share of what it was (0.5)",
    )
    parser.add_argument(
        "--checkpoint",
        action=argparse.BooleanOptionalAction,
        help="compute activations again instead of keeping them: less memory, more time (for models above 256 pixels)",
    )
    parser.add_argument("--samples", type=_at_least_two, default=8, help="images before and after (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the fastest there is)")
    parser.add_argument("--half", action="store_true", help="evaluate the diffusion model in half precision (GPU)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return number


def _at_least_two(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("give 2 or more")
    return number
