"""Kinds of arguments, and options that several commands have in one wording."""

import argparse
from collections.abc import Callable
from pathlib import Path

from ..sds.priors.stable_diffusion import PREDICTIONS
from ..sds.views import VIEWS
from ..stylegan import NOISE_MODES, WRITTEN, parse_seeds
from ..training.settings import Declared, option_of
from .terminal import BUNDLED, MINIATURE

KNOWN_FORMATS = (
    "a safetensors file of this program, or what a StyleGAN2, StyleGAN3 or EG3D program wrote (.pkl, .pt, .pth)"
)

GENERATOR = f"{KNOWN_FORMATS}, or {', or '.join(BUNDLED)}"


def path(text: str) -> Path:
    """Read the path of a file or folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError('"" is no name; write . for the folder that you are in')
    return Path(text)


def name(text: str) -> str:
    """Read what may be the name of a file, or of something that is bundled."""
    path(text)
    return text


def at_least(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that are not less."""

    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"give {least} or more")
        return value

    number.__name__ = "whole number"  # as messages call what is none
    return number


positive = at_least(1)


def seeds(text: str) -> tuple[int, ...]:
    """Read seeds: numbers and ranges."""
    try:
        return parse_seeds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_generator(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--generator", required=True, type=name, metavar="FILE", help=GENERATOR)


MODEL = (
    "Stable Diffusion 1.x, 2.x or SDXL: a checkpoint as one safetensors file, or a folder in the layout of diffusers, or "
    f'"{MINIATURE}"'
)


def add_on_model(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add the diffusion model, and what is put on it."""
    parser.add_argument("--model", required=required, type=name, metavar="FILE", help=MODEL)
    add_loras(parser)


def add_loras(parser: argparse.ArgumentParser) -> None:
    """Add what is put on a diffusion model, and beside it."""
    parser.add_argument(
        "--lora",
        action="append",
        metavar="FILE[:STRENGTH]",
        help="LoRA for the diffusion model, of kohya, LyCORIS, diffusers or peft, with a strength (1); can be repeated",
    )
    parser.add_argument(
        "--vae",
        type=path,
        metavar="FILE",
        help="another VAE than the model's own, as a safetensors file or as a folder in the layout of diffusers",
    )
    parser.add_argument(
        "--embedding",
        action="append",
        type=path,
        metavar="FILE",
        help="textual inversion embedding (.safetensors, .pt or .bin), which prompts call by the file's name as in ComfyUI: "
        '"a portrait in the style of embedding:name"; can be repeated',
    )
    parser.add_argument(
        "--prediction",
        choices=PREDICTIONS,
        help="what the diffusion model predicts, where its file does not say it: v_prediction for Stable Diffusion 2.1 of "
        "768 pixels, epsilon for most others (default: found out)",
    )


DOMAIN_SCALE = 2.5
"""How strongly a domain pulls where nothing else is asked for: the paper's."""


def add_domain(parser: argparse.ArgumentParser) -> None:
    """Add a domain that guides a diffusion model."""
    parser.add_argument(
        "--domain", type=path, metavar="FILE", help="domain.safetensors that learn-domain or Train Domain wrote"
    )
    parser.add_argument(
        "--domain-scale", type=float, metavar="S", help=f"how strongly the domain pulls (default: {DOMAIN_SCALE:g})"
    )
    parser.add_argument(
        "--domain-blend",
        type=float,
        metavar="B",
        help="from the weights of the model, 0, to those of the domain, 1 (default: 1)",
    )


def add_view_prompts(parser: argparse.ArgumentParser) -> None:
    """Add prompts that depend on where the camera stands."""
    for view in VIEWS:
        parser.add_argument(
            f"--{view}-prompt",
            metavar="TEXT",
            help=f"for generators that draw in 3D: what shall be seen from the {view}, in place of the prompt; cameras between "
            "two views take some of both",
        )


def add_layout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layout",
        choices=WRITTEN,
        help="whose layout a .pt has: rosinality (default) is what most programs for editing read, for StyleGAN2 of its "
        "usual sizes; nvlabs is a state dictionary for the classes of NVlabs' programs, for StyleGAN2 and 3",
    )


def add_output(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--output", required=True, type=path, metavar="DIR", help=what)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda, mps (default: the fastest there is)")


def add_psi(parser: argparse.ArgumentParser, usual: float, cutoff: bool = False, besides: str = "") -> None:
    parser.add_argument(
        "--truncation-psi",
        type=float,
        default=usual,
        metavar="PSI",
        help=f"below 1: nearer to the average (default: {usual:g}{besides})",
    )
    if cutoff:
        parser.add_argument(
            "--truncation-cutoff", type=positive, metavar="N", help="truncate this many layers only, the coarse ones"
        )


def add_class(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--class-index", type=int, metavar="N", help="class of a generator with classes (default: all)")


def add_noise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--noise",
        choices=NOISE_MODES,
        default="const",
        help="fine detail such as strands of hair: const is the same in every image, random differs in every image (by its "
        "seed), none is smooth (default: const)",
    )


def add_setting(parser: argparse.ArgumentParser, declared: Declared, usual: str, prefix: str = "") -> None:
    """Add the option of a declared setting, kept under its name behind the prefix; None when it is not given."""
    from ..sds import parse_groups

    setting = declared.setting
    given = {"dest": prefix + declared.name, "default": None}
    if declared.kind is bool:
        given["action"] = argparse.BooleanOptionalAction
    elif declared.kind is tuple:
        given |= {"type": parse_groups, "metavar": setting.metavar}
    elif setting.choices:
        given["choices"] = setting.choices
    else:
        given |= {"type": declared.kind, "metavar": setting.metavar or "N"}
    parser.add_argument(option_of(declared), help=f"{setting.help} {usual}".replace("%", "%%"), **given)
    if setting.earlier_option:
        parser.add_argument(setting.earlier_option, help=argparse.SUPPRESS, **given)


def shown(value: object, declared: Declared) -> object:
    """Return a default as the help shows it."""
    if value is None:
        return declared.setting.none
    return ",".join(value) or "none" if isinstance(value, tuple) else value
