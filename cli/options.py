"""The options of the command line. Those of a training derive from the settings' own declarations."""

import argparse
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from ..miniature.settings import MINIATURE_SETTINGS, SOURCES, TARGETS, MiniatureSettings
from ..sds import (
    DISTILLATIONS,
    TERMS,
    TRAINED_BY_DEFAULT,
    ClipDirectional,
    TargetPictures,
    TargetSettings,
    TrainSettings,
)
from ..training.settings import Declared, declared_settings
from . import blend, convert, differences, draw, edit, evaluate, learning, mesh, mix, project, sample, walk
from .arguments import (
    GENERATOR,
    add_domain,
    add_loras,
    add_on_model,
    add_setting,
    add_view_prompts,
    at_least,
    name,
    path,
    positive,
    shown,
)
from .commands import DEMO_FOLDER, adapt_or_resume, demo, targets
from .planning import OF_TARGETS, TARGET_SCALE, of_term, own_settings
from .sweep import command as sweep
from .terminal import MINIATURE

_NEGATIVE = f"what it shall stay away from (none; {MINIATURE} what its generator draws)"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments read; ends the program with a usage message when they do not go together."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options = parser.parse_args(_texts_kept(arguments))
    if options.command is targets and options.prompt is None and not options.domain:
        parser.error("targets needs --prompt (or --domain)")
    if options.command is adapt_or_resume:
        if options.resume is not None and len(arguments) > (2 if "=" in arguments[1] else 3):
            parser.error("--resume DIR goes on with the settings in the folder: leave out everything else.")
        needed = ["generator", "model", "prompt", "output"]
        if options.clip:
            needed.remove("model")  # plan_for says where it is needed all the same
        elif options.domain:
            needed.remove("prompt")
        missing = [name for name in needed if getattr(options, name) is None]
        if options.resume is None and missing:
            parser.error(f"adapt needs {', '.join(f'--{name}' for name in missing)} (or --resume DIR alone)")
    return options


def _texts_kept(arguments: Sequence[str]) -> list[str]:
    """The arguments with a space before texts of extra prompts that would be taken for options; to models it is none."""
    kept = list(arguments)
    for place in range(1, len(kept)):
        if kept[place - 1] == "--extra-prompt" and kept[place].startswith("-"):
            kept[place] = f" {kept[place]}"
    return kept


def uses_a_model(options: argparse.Namespace) -> bool:
    """Tell whether the command evaluates a diffusion model."""
    return getattr(options, "model", None) is not None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stylegan-fusion",
        description="Adapt a generator to a prompt, draw and explore what generators draw, or see a demo of it all.",
        epilog="stylegan-fusion COMMAND --help says more of each command.",
    )
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(
        commands.add_parser(
            "demo", help="adapt the miniature's person generator to another domain, in minutes on any computer"
        )
    )
    _add_adapt(commands.add_parser("adapt", help="adapt a generator to a prompt", epilog=TRAINED_BY_DEFAULT))
    _add_targets_command(
        commands.add_parser(
            "targets",
            help="make the pictures that a training shall aim for, to look at, sort out and edit before it",
            description="Edits samples of a generator with a diffusion model and writes them to a folder: "
            "targets.safetensors with their codes, 00000.png, 00001.png and so on, and targets.png, which shows some. "
            "Pictures may be edited or removed there; adapt --targets FOLDER trains towards what is left.",
        )
    )
    for command in (
        sweep,
        learning,
        draw,
        sample,
        mesh,
        walk,
        mix,
        project,
        edit,
        evaluate,
        blend,
        differences,
        convert,
    ):
        command.add(commands)
    return parser


def version() -> str:
    """Return the versions of the program and of what its results depend on."""
    return f"stylegan-fusion {_own_version()} (Python {platform.python_version()}, torch {metadata.version('torch')})"


def _own_version() -> str:
    """That of the clone that runs, else of the installed package."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    found = re.search(r'^version = "(.+)"$', project.read_text("utf-8"), re.MULTILINE) if project.is_file() else None
    return found[1] if found else metadata.version("comfyui-stylegan-fusion")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=path, metavar="DIR", help=f"folder for the results (default: {DEMO_FOLDER})")
    parser.add_argument(
        "--source", choices=SOURCES, default="person", help="what the generator draws (default: person)"
    )
    parser.add_argument("--target", choices=TARGETS, default="fox", help="what that becomes (default: fox)")
    parser.add_argument("--prompt", help="what the generator shall draw, in words (default: the target)")
    _add_training(parser, {MINIATURE: MINIATURE_SETTINGS})
    add_loras(parser)
    parser.set_defaults(command=demo, model=MINIATURE)


def _add_adapt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume", type=path, metavar="DIR", help="go on with the run in this folder, with nothing else beside it"
    )
    parser.add_argument("--generator", type=name, metavar="FILE", help=GENERATOR)
    add_on_model(parser, required=False)
    parser.add_argument("--output", type=path, metavar="DIR", help="folder for the results")
    parser.add_argument("--prompt", help="what the generator shall draw; not needed with --domain")
    _add_training(parser, {MINIATURE: MINIATURE_SETTINGS})
    _add_clip(parser)
    parser.set_defaults(command=adapt_or_resume)


def _add_clip(parser: argparse.ArgumentParser) -> None:
    """CLIP in the place of a diffusion model, or beside one."""
    parser.add_argument(
        "--clip",
        type=name,
        action="append",
        metavar="FOLDER",
        help="train along the direction from --source-prompt to --prompt in the space of a CLIP in the layout of "
        f'transformers, or "{MINIATURE}" (StyleGAN-NADA): alone without --model, or beside --distillation or --targets; '
        "can be repeated",
    )
    weight = declared_settings(ClipDirectional)["weight"].setting
    parser.add_argument(
        "--clip-weight",
        type=float,
        metavar="WEIGHT",
        help=f"of each CLIP: {weight.help[0].lower()}{weight.help[1:]} (1)",
    )
    parser.add_argument(
        "--clip-templates",
        action=argparse.BooleanOptionalAction,
        help="average both texts over phrasings such as a photo of ... (yes)",
    )


def _add_targets_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--generator", required=True, type=name, metavar="FILE", help=GENERATOR)
    add_on_model(parser)
    parser.add_argument("--prompt", help="what the pictures shall show; not needed with --domain")
    parser.add_argument("--output", required=True, type=path, metavar="DIR", help="folder for the targets")
    usual = _usual_in({MINIATURE: MINIATURE_SETTINGS})
    parser.add_argument("--count", type=at_least(2), help=f"number of targets {usual(200, lambda s: s.targets.count)}")
    parser.add_argument("--negative-prompt", help=_NEGATIVE)
    _add_making(parser, usual)
    parser.add_argument("--seed", type=int, help="the same seed gives the same samples (0)")
    parser.add_argument("--class-index", type=int, metavar="N", help="class of a generator with classes (default: all)")
    parser.add_argument(
        "--image-size", type=positive, metavar="PIXELS", help="image that the model sees (its own size)"
    )
    add_view_prompts(parser)
    parser.add_argument("--device", help="cpu, cuda, mps (default: the fastest there is)")
    parser.add_argument("--half", action="store_true", help="evaluate the diffusion model in half precision (GPU)")
    add_domain(parser)
    parser.set_defaults(command=targets, miniature_settings=MINIATURE_SETTINGS)


def _add_training(parser: argparse.ArgumentParser, miniature: Mapping[str, MiniatureSettings]) -> None:
    """The settings of a training; those left out are the miniature's own on the miniature, else the paper's."""
    usual = _usual_in(miniature)
    parser.add_argument(
        "--negative-prompt",
        help=_NEGATIVE,
    )
    parser.add_argument(
        "--guidance-scale",
        type=float,
        help=f"how strongly the prompt pulls {usual(100, lambda s: s.guidance_scale)}; {_usual_scales()}",
    )
    parser.add_argument(
        "--extra-prompt",
        nargs=2,
        action="append",
        metavar=("TEXT", "SCALE"),
        help="one more prompt with a guidance scale of its own, below 0 to stay away from it; can be repeated",
    )
    add_view_prompts(parser)
    parser.add_argument(
        "--image-size", type=positive, metavar="PIXELS", help="image that the model sees (its own size)"
    )
    for declared in declared_settings(TrainSettings).values():
        if declared.setting.option != "":

            def of(settings: TrainSettings, declared: Declared = declared) -> object:
                return shown(getattr(settings, declared.name), declared)

            add_setting(parser, declared, usual(of(TrainSettings()), lambda s, of=of: of(s.training)))
    parser.add_argument(
        "--distillation",
        choices=DISTILLATIONS,
        help=f"what pulls to the prompt: {'; '.join(f'{name}, {TERMS[name].summary}' for name in DISTILLATIONS)} "
        f"(sds; with targets or --clip none, and beside them where it is given)",
    )
    for kind in DISTILLATIONS:
        for declared in own_settings(kind).values():
            add_setting(
                parser, declared, f"(--distillation {kind}; {shown(declared.default, declared)})", of_term(kind)
            )
    _add_targets(parser, usual)
    for kind, term in TERMS.items():
        if term.role == "regularizer":
            weight = declared_settings(term)["weight"].setting
            parser.add_argument(
                f"--{kind}",
                type=float,
                metavar="WEIGHT",
                help=f"{kind} regularizer: {weight.help[0].lower()}{weight.help[1:]} ".replace("%", "%%")
                + usual(term.usual, lambda s, k=kind: s.weights.get(k, 0.0))
                + ("" if term.usual_in_3d is None else f"; {term.usual_in_3d:g} for generators that draw in 3D"),
            )
    parser.add_argument(
        "--lpips-features",
        type=name,
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
        "--save-every", type=positive, default=100, metavar="N", help="steps between two savings (default: 100)"
    )
    parser.add_argument("--samples", type=at_least(2), default=8, help="images before and after (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the fastest there is)")
    parser.add_argument("--half", action="store_true", help="evaluate the diffusion model in half precision (GPU)")
    add_domain(parser)


def _usual_in(miniature: Mapping[str, MiniatureSettings]) -> Callable[..., str]:
    """What is usual, as the help gives it: the paper's, and under its name each of `miniature` where that has another."""

    def usual(paper: object, read: Callable[[MiniatureSettings], object]) -> str:
        found = {name: read(settings) for name, settings in miniature.items()}
        others = ", ".join(f"{name} {value}" for name, value in found.items() if value != paper)
        return f"({paper}; {others})" if others else f"({paper})"

    return usual


def _usual_scales() -> str:
    others = [kind for kind in DISTILLATIONS if TERMS[kind].usual_scale != 100]
    return f"{TERMS[others[0]].usual_scale:g} with --distillation {', '.join(others)}"


def _add_targets(parser: argparse.ArgumentParser, usual: Callable) -> None:
    """Where targets come from, and how they are made."""
    parser.add_argument(
        "--targets",
        metavar="N",
        help="train towards pictures: edit N samples of the generator with the diffusion model first, 200 for example; or "
        "a FOLDER that the command targets wrote; 0 for none " + usual("none", lambda s: s.targets and s.targets.count),
    )
    adversarial = declared_settings(TargetPictures)["adversarial"]
    add_setting(parser, adversarial, f"({shown(adversarial.default, adversarial)})")
    _add_making(parser, usual)


def _add_making(parser: argparse.ArgumentParser, usual: Callable) -> None:
    parser.add_argument(
        "--target-scale",
        type=float,
        metavar="SCALE",
        help=f"guidance scale of the edits {usual(TARGET_SCALE, lambda s: s.target_scale)}",
    )
    parser.add_argument(
        "--source-prompt",
        metavar="TEXT",
        help="what the generator draws as it is (default: the negative prompt; that of a bundled generator is known)",
    )
    parser.add_argument(
        "--target-latents",
        type=path,
        nargs="+",
        metavar="FILE",
        help="latents that project, edit or mix wrote, whose pictures shall be among the targets, too: a photo of your own",
    )
    for declared in declared_settings(TargetSettings).values():
        if declared.setting.option != "":

            def of(settings: TargetSettings, declared: Declared = declared) -> object:
                return shown(getattr(settings, declared.name), declared)

            read = lambda s, of=of: of(s.targets)  # noqa: E731
            add_setting(parser, declared, usual(of(TargetSettings()), read), OF_TARGETS)
