"""A layout: the names that a program gives to a generator's weights, and taking them one by one until none is left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..config import Config
from .errors import FileError, Unsupported
from .modules import Network
from .weights import Weight

METADATA = "metadata"
"""The key of what our files of other programs' layouts say of themselves; those programs ignore it."""

ARGUMENTS = "G_kwargs"
"""The key of the arguments of a generator's class, under which NVlabs' programs have them in their options."""


@dataclass(frozen=True)
class Layout:
    """A Layout is how one program names the weights of its generators."""

    title: str  # for people
    signature: str  # a weight that every generator of the layout has, and no other network
    read: Callable[["Taking"], tuple[Config, dict[str, Tensor]]]  # sizes, and weights by our names


@dataclass
class Taking:
    """A Taking hands out the weights of a generator's own part by their names, and knows which are left.

    What is left at the end would be missing in the pictures."""

    layout: Layout
    network: Network
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the program's class, where they are beside weights
    taken: set[str] = field(default_factory=set)
    around: tuple[Mapping[Any, Any], ...] = ()  # the dictionaries around the network, innermost first

    def __contains__(self, name: str) -> bool:
        return name in self.network.weights

    def weight(self, name: str) -> Weight:
        """Return the weight, without reading it. Raises FileError when there is none."""
        if name not in self.network.weights:
            raise Unsupported(
                f"is no whole generator in the layout of {self.layout.title}: it lacks the weight {name!r}",
                "choose the file that the program wrote, or copy it again",
            )
        return self.network.weights[name]

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Return the shape of a weight. Raises FileError when it has another number of dimensions."""
        shape = self.weight(name).shape
        if len(shape) != dimensions or 0 in shape:
            raise self.misshapen(name)
        return shape

    def misshapen(self, name: str) -> FileError:
        return Unsupported(
            f"has a weight {name!r} of shape {list(self.weight(name).shape)}, which no generator in the layout of "
            f"{self.layout.title} has"
        )

    def take(self, name: str, before: int = 0, after: int = 0) -> Tensor:
        """Read a weight, without that many dimensions of one at its beginning and its end. Raises FileError."""
        shape = self.weight(name).shape
        inner = shape[before : len(shape) - after]
        if len(shape) < before + after or (*[1] * before, *inner, *[1] * after) != shape:
            raise self.misshapen(name)
        self.taken.add(name)
        return self.weight(name).read().reshape(inner)

    def leave(self, name: str) -> None:
        """Note that a weight, if it is there, has no part in what is drawn."""
        self.taken.add(name)

    def setting(self, module: str, name: str) -> Any:
        return self.network.setting(module, name)

    def filter_as(self, name: str, ours: Tensor) -> None:
        """Take a low-pass filter that our layers have, too. Raises FileError when it is another one."""
        theirs = self.weight(name)
        if theirs.shape[-ours.ndim :] != ours.shape or any(n != 1 for n in theirs.shape[: -ours.ndim]):
            raise self._other_filter(name)
        self.taken.add(name)
        if not torch.allclose(theirs.read().reshape(ours.shape).float(), ours, atol=1e-4):
            raise self._other_filter(name)

    def _other_filter(self, name: str) -> FileError:
        return Unsupported(
            f"resamples with another low-pass filter ({name!r}) than {self.layout.title} does by default, which StyleGAN "
            "Fusion does not support"
        )

    def require_nothing_left(self) -> None:
        """Raise FileError when a weight was not taken."""
        left = [name for name in self.network.weights if name not in self.taken]
        if left:
            raise Unsupported(
                f"looks like {self.layout.title}, but has {listed(left)}, which that has not: it is another network, of "
                "which only a part would be drawn"
            )


def no_place(program: str, what: str, advice: str = "keep it as safetensors") -> Unsupported:
    """Return the error of writing what a program's layout cannot hold."""
    return Unsupported(f"was not written: {program}'s layout has no place for {what}", advice)


def listed(names: list[str]) -> str:
    """Return some names for a sentence."""
    some = ", ".join(repr(name[:80]) for name in names[:2])
    return some if len(names) <= 2 else f"{some} and {len(names) - 2} more"
