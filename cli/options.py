"""The options of the command line. Those of a training derive from the settings' own declarations."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..miniature.settings import DEMOS, MINIATURE_SETTINGS, MiniatureSettings
from ..sds import DISTILLATIONS, TERMS, TRAINED_BY_DEFAULT, TrainSettings, parse_groups
from ..training.settings import Declared, declared_settings
from .commands import DEMO_FOLDER, adapt_or_resume, convert, demo, sample
from .terminal import MINIATURE

KNOWN_FORMATS = "a safetensors file of this program, a .pt in rosinality's layout, or a .pkl of NVlabs' StyleGAN2 or 3"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments read; ends the program with a usage message when they do not go together."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is adapt_or_resume:
        if options.resume is not None and len(arguments) > (2 if "=" in arguments[1] else 3):
            parser.error("--resume DIR goes on with the settings in the folder: leave out everything else.")
        missing = [name for name in ("generator", "model", "prompt", "output") if getattr(options, name) is None]
        if options.resume is None and missing:
            parser.error(f"adapt needs {', '.join(f'--{name}' for name in missing)} (or --resume DIR alone)")
    return options


def uses_a_model(options: argparse.Namespace) -> bool:
    """Tell whether the command evaluates a diffusion model."""
    return options.command not in (sample, convert)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stylegan-fusion",
        description="Adapt a generator to a prompt, draw samples with one, or see a demo of it all.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(
        commands.add_parser(
            "demo", help="adapt the miniature's person generator to another domain, in minutes on any computer"
        )
    )
    _add_adapt(commands.add_parser("adapt", help="adapt a generator to a prompt", epilog=TRAINED_BY_DEFAULT))
    _add_sample(commands.add_parser("sample", help="draw images with a generator"))
    _add_convert(
        commands.add_parser(
            "convert",
            help="write a generator of any known format as safetensors, or as a .pt for other programs",
            description=f"Reads {KNOWN_FORMATS}, whatever its name, and executes nothing that is in it.",
        )
    )
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"folder for the results (default: {DEMO_FOLDER})")
    parser.add_argument("--target", choices=DEMOS, default="fox", help="what the persons become (default: fox)")
    parser.add_argument(
        "--prompt", help="what the generator shall draw, with the target's settings (default: the target)"
    )
    _add_training(parser, DEMOS)
    parser.set_defaults(command=demo, generator=MINIATURE, model=MINIATURE)


def _add_adapt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="go on with the run in this folder, with nothing else beside it"
    )
    parser.add_argument("--generator", metavar="FILE", help=f'{KNOWN_FORMATS}, or "{MINIATURE}"')
    parser.add_argument(
        "--model", metavar="FOLDER", help=f'Stable Diffusion in the layout of diffusers, or "{MINIATURE}"'
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--prompt", help="what the generator shall draw")
    _add_training(parser, {MINIATURE: MINIATURE_SETTINGS})
    parser.set_defaults(command=adapt_or_resume)


def _add_sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--generator", required=True, metavar="FILE", help=f'{KNOWN_FORMATS}, or "{MINIATURE}"')
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for the images and their grid"
    )
    parser.add_argument("--count", type=_positive, default=16, help="number of images (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same latents (default: 0)")
    parser.add_argument("--truncation-psi", type=float, default=1.0, help="below 1: nearer to the average (default: 1)")
    parser.add_argument("--truncation-cutoff", type=_positive, help="truncate this many layers only, the coarse ones")
    parser.add_argument("--noise", choices=("const", "random", "none"), default="const", help="noise inputs")
    parser.add_argument("--class-index", type=int, metavar="N", help="class of a generator with classes (default: all)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the fastest there is)")
    parser.set_defaults(command=sample)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the generator to read")
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="where to write: FILE.safetensors, or FILE.pt in rosinality's layout",
    )
    parser.add_argument("--license-note", metavar="TEXT", help="licence, for the metadata (default: the source's)")
    parser.add_argument(
        "--crop",
        default="auto",
        metavar="WxH",
        help="middle of the pictures that counts, 512x384 for LSUN cars (default: auto, between black bars; or none)",
    )
    parser.set_defaults(command=convert)


def _add_training(parser: argparse.ArgumentParser, miniature: Mapping[str, MiniatureSettings]) -> None:
    """The settings of a training; those left out are the miniature's own on the miniature, else the paper's.

    The help gives both: the paper's, and under its name each of `miniature` where that has another."""

    def usual(paper: object, read: Callable[[MiniatureSettings], object]) -> str:
        found = {name: read(settings) for name, settings in miniature.items()}
        others = ", ".join(f"{name} {value}" for name, value in found.items() if value != paper)
        return f"({paper}; {others})" if others else f"({paper})"

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
        "--image-size", type=_positive, metavar="PIXELS", help="image that the model sees (its own size)"
    )
    for declared in declared_settings(TrainSettings).values():
        if declared.setting.option != "":

            def of(settings: TrainSettings, declared: Declared = declared) -> object:
                return _shown(getattr(settings, declared.name), declared)

            _add_setting(parser, declared, usual(of(TrainSettings()), lambda s, of=of: of(s.training)))
    parser.add_argument(
        "--distillation",
        choices=DISTILLATIONS,
        default="sds",
        help=f"what pulls to the prompt: {'; '.join(f'{name}, {TERMS[name].summary}' for name in DISTILLATIONS)} (sds)",
    )
    for kind, term in TERMS.items():
        if term.role == "regularizer":
            weight = declared_settings(term)["weight"].setting
            parser.add_argument(
                f"--{kind}",
                type=float,
                metavar="WEIGHT",
                help=f"{kind} regularizer: {weight.help[0].lower()}{weight.help[1:]} ".replace("%", "%%")
                + usual(term.usual, lambda s, k=kind: s.weights.get(k, 0.0)),
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
        "--save-every", type=_positive, default=100, metavar="N", help="steps between two savings (default: 100)"
    )
    parser.add_argument("--samples", type=_at_least_two, default=8, help="images before and after (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the fastest there is)")
    parser.add_argument("--half", action="store_true", help="evaluate the diffusion model in half precision (GPU)")


def _add_setting(parser: argparse.ArgumentParser, declared: Declared, usual: str) -> None:
    """One declared setting; None when it is not given."""
    setting = declared.setting
    option = setting.option or f"--{declared.name.replace('_', '-')}"
    given = {"dest": declared.name, "help": f"{setting.help} {usual}".replace("%", "%%"), "default": None}
    if declared.kind is bool:
        parser.add_argument(option, action=argparse.BooleanOptionalAction, **given)
    elif declared.kind is tuple:
        parser.add_argument(option, type=parse_groups, metavar=setting.metavar, **given)
    elif setting.choices:
        parser.add_argument(option, choices=setting.choices, **given)
    else:
        parser.add_argument(option, type=declared.kind, metavar=setting.metavar, **given)


def _shown(value: object, declared: Declared) -> object:
    """A default as the help shows it."""
    if value is None:
        return declared.setting.none
    return ",".join(value) or "none" if isinstance(value, tuple) else value


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
