"""What every format is converted to, and what several need for that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..config import CHANNELS, Config, GeneratorConfig
from .errors import Damaged, Unsupported
from .modules import dictionary

MAPPED = 300_000_000
"""Bytes of a file that is read through a view of it, which is faster, but takes the memory twice. The largest generators
known have 133 million."""


@dataclass(frozen=True)
class Source:
    """A Source is a generator out of a file: its sizes, its weights by our names, and what the file says of itself."""

    format: str
    config: Config
    weights: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    views: bool = False  # whether the weights are views of the file


def entries(value: Any) -> Mapping[str, Any]:
    """Return the entries of a dictionary, or of an object of a class derived from one."""
    found = dictionary(value)
    if found is None:
        raise Damaged("something else is where a dictionary should be")
    return found


def scalar(name: str, value: Any) -> int | float | bool | None:
    """Return a setting that has to be a number, yes or no, or nothing: other things are not even looked at."""
    if type(value) not in (int, float, bool, type(None)) or (type(value) is int and abs(value) > 2**40):
        raise Damaged(f"its setting {name!r} is no number")
    return value


def require_setting(settings: Mapping[str, Any], name: str, wanted: Any) -> None:
    """Raise FileError when a setting is there and is another one."""
    value = settings.get(name, wanted)
    values, wants = (value, wanted) if type(value) is type(wanted) is list else ([value], [wanted])
    if len(values) != len(wants) or any(
        type(v) not in (int, float, bool, str) or v != w for v, w in zip(values, wants, strict=True)
    ):
        raise Unsupported(f"was made with another {name!r} than {wanted!r}, which StyleGAN Fusion does not support")


def channel_limits(channels: Mapping[int, int]) -> tuple[int, int]:
    """Find channel_base and channel_max of a generator with these channels at each resolution. Raises FileError when
    min(base // resolution, max) gives them for no base and max."""
    largest = max(channels.values())
    base = max((r * count for r, count in channels.items() if count < largest), default=0)
    base = max(base, *(r * largest for r, count in channels.items() if count == largest))
    if any(min(base // r, largest) != count for r, count in channels.items()):
        listed = ", ".join(f"{count} at {r}" for r, count in sorted(channels.items()))
        raise Unsupported(f"has an unusual number of channels ({listed}), which StyleGAN Fusion has no layers for")
    return base, largest


def const_size(shape: Sequence[int]) -> tuple[int, int]:
    """Return height and width of a learned constant [C, h, w] of this shape. Raises FileError when it has others."""
    if len(shape) != 3:
        raise Unsupported(
            f"begins with a constant of shape {list(shape)}, where a generator has channels and two sides"
        )
    return shape[1], shape[2]


def require_colours(count: int) -> int:
    """Return the channels of a generator's pictures. Raises FileError when they are none that pictures have."""
    if count not in CHANNELS:
        raise Unsupported(f"puts out {count} channels, which are no colours but what another network goes on with")
    return count


def make_config(kind: type, **sizes: Any):
    """Make the configuration. Raises FileError naming the size that is out of range."""
    try:
        return kind(**sizes)
    except (TypeError, ValueError) as error:
        said = str(error).removesuffix(".")
        raise Unsupported(f"has sizes that StyleGAN Fusion does not support: {said}") from None


def layer_names(config: GeneratorConfig) -> list[tuple[int, int, str]]:
    """Return (resolution, number within its block, our name) of the convolutions of a StyleGAN2 generator."""
    names = []
    for block, resolution in enumerate(config.resolutions):
        for conv in range(1 if block == 0 else 2):
            names.append((resolution, conv, f"synthesis.blocks.{block}.convs.{conv}"))
    return names
