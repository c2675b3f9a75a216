"""Inputs that several nodes have, in one wording."""

from collections.abc import Callable, Collection

from comfy_api.v0_0_2 import io

from ..stylegan import NOISE_MODES


def advanced(one: io.Input) -> io.Input:
    """Return the input as one that is rarely touched: the node shows it when it is asked for more. The oldest host has
    no argument for it, but hands on what stands in extra_dict."""
    one.extra_dict = {**one.extra_dict, "advanced": True}
    return one


def seed_input(name: str, default: int, tooltip: str, control: bool | str = True) -> io.Int.Input:
    """Make the input of a seed. `control` is what the host does with the seed after a run until the user chooses, True
    changes it, "fixed" keeps it."""
    return io.Int.Input(name, default=default, min=0, max=2**63 - 1, control_after_generate=control, tooltip=tooltip)


def psi_input(default: float) -> io.Float.Input:
    """Make the input of truncation psi."""
    return io.Float.Input(
        "truncation_psi",
        default=default,
        min=-2.0,
        max=2.0,
        step=0.05,
        tooltip="1 leaves the images as they are. Below 1 they come nearer to the average: fewer oddities, less variety. 0.7 "
        "is common; 0 is the average, below 0 the opposite of each image.",
    )


def codes_psi_input() -> io.Float.Input:
    """Make the input of truncation psi where latents are drawn that there are already."""
    return advanced(
        io.Float.Input(
            "truncation_psi",
            optional=True,  # came later: graphs saved before it stay valid
            default=1.0,
            min=-2.0,
            max=2.0,
            step=0.05,
            tooltip="1 draws the latents as they are. Below 1 they come nearer to the average: a projected picture that an "
            "adapted generator tears apart holds at 0.6 to 0.8.",
        )
    )


def cutoff_input() -> io.Int.Input:
    """Make the input of how many layers are truncated."""
    return advanced(
        io.Int.Input(
            "truncation_cutoff",
            default=0,
            min=0,
            max=18,
            tooltip="Truncate only this many layers, counted from the coarse end: 8 keeps all colours. 0 truncates all.",
        )
    )


def noise_input() -> io.Combo.Input:
    """Make the input of the noise that a generator adds."""
    return io.Combo.Input(
        "noise",
        options=list(NOISE_MODES),
        default="const",
        tooltip="Fine detail such as strands of hair: const is the same for every image, random differs in every image, none is "
        "smooth. StyleGAN3 has no noise.",
    )


def class_input() -> io.Int.Input:
    """Make the input of a class, which `class_number` reads."""
    return advanced(
        io.Int.Input(
            "class_index",
            optional=True,  # came later: graphs saved before it stay valid
            default=-1,
            min=-1,
            max=65535,
            tooltip="For generators with classes (CIFAR-10 has 0 to 9): the one to draw. -1 takes all classes. Others "
            "ignore -1.",
        )
    )


def class_number(class_index: int) -> int | None:
    """Return a class by the nodes' number for it, None for -1: none in particular."""
    return None if class_index < 0 else class_index


def at_least(least: int, **values: int) -> None:
    """Raise ValueError for one that is less: the host checks what is typed, not what another node gives."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} is {value}; give it {least} or more.")


UNLINKED = object()
"""The default of a parameter of validate_inputs for an optional link: the host gives None for one that is linked, whose
value comes only when the graph runs, and leaves out what is not."""


def first_complaint(*answers: str | bool) -> str | bool:
    """Return, for validate_inputs, the first of these answers that says what is wrong, or True."""
    return next((answer for answer in answers if answer is not True), True)


def known_choice(name: str, value: str | None, choices: Collection[str]) -> str | bool:
    """Return, for validate_inputs, what is wrong with a choice, or True: the host does not look at inputs that
    validate_inputs asks for."""
    if value is None or value in choices:
        return True
    return f"There is no {name} {value!r}; choose from {', '.join(choices)}."


def complaint(check: Callable[..., object], *values) -> str | bool:
    """Return, for validate_inputs, the sentence of the ValueError that check(*values) raises, or True.

    What comes from another node is None until the graph runs: `execute` has to check it again."""
    if any(value is None for value in values):
        return True
    try:
        check(*values)
    except ValueError as error:
        return str(error)
    return True


def range_inputs(what: str, prefix: str = "") -> list[io.Input]:
    """Make the inputs of the shares of the sampling between which something counts; graphs saved before they came leave it
    on."""
    shares = {
        "start": (0.0, "begins to count; 0 is pure noise, where shapes are laid out"),
        "end": (1.0, "stops counting; 1 is the finished picture"),
    }
    return [
        advanced(
            io.Float.Input(
                f"{prefix}{name}",
                optional=True,
                default=usual,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip=f"The share of the sampling at which {what} {does}.",
            )
        )
        for name, (usual, does) in shares.items()
    ]


def require_range(start: float, end: float) -> None:
    """Raise ValueError for a range in which nothing counts."""
    if not 0.0 <= start < end <= 1.0:
        raise ValueError(f"The range {start:g} to {end:g} is empty; start has to be below end, both from 0 to 1.")
