"""Which layout a file has: found in it, recognized, and read. A layout is added here and in its own file."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from . import basicsr, eg3d, genforce, mmgeneration, nvlabs, rosinality
from .averages import NAMES, average, find_average
from .errors import FileError, Unsupported
from .layout import ARGUMENTS, METADATA, Layout, Taking, listed
from .modules import dictionary
from .others import PLAIN, name_other
from .source import Source
from .unwrap import Found, Part, find_networks, parts

LAYOUTS: tuple[Layout, ...] = (
    rosinality.LAYOUT,
    eg3d.LAYOUT,  # before StyleGAN2, which it has inside
    nvlabs.STYLEGAN2,
    nvlabs.STYLEGAN3,
    basicsr.LAYOUT,
    mmgeneration.LAYOUT,
    genforce.LAYOUT,
)

_AVERAGES = {"mapping.w_avg", "backbone.mapping.w_avg", "truncation.w_avg", "w_avg"}
"""Where layouts have the average inside the network."""


def read_networks(root: Any) -> Source:
    """Read the generator in what a file holds. Raises FileError, which names what else it is."""
    networks = find_networks(root)
    candidates = [
        (part, layout)
        for order, found in enumerate(networks)
        for layout in LAYOUTS
        for part in parts(found, layout.signature, order)
    ]
    if not candidates:
        raise _no_generator(root, networks)
    part, layout = min(candidates, key=lambda candidate: candidate[0].rank)
    return _read(part, layout)


def _read(part: Part, layout: Layout) -> Source:
    strangers = part.strangers(layout.signature)
    if (other := name_other([*part.network.weights, *strangers], only_around=True)) is not None:
        raise other
    if strangers:
        raise Unsupported(
            f"holds a larger network around a generator of {layout.title}, with {listed(strangers)}, of which only a part "
            "would be drawn"
        )
    taking = Taking(layout, part.network, _beside(part, ARGUMENTS), around=part.around)
    config, weights = layout.read(taking)
    if (w_avg := _average(taking, part, config.w_dim)) is not None:
        weights["mapping.w_avg"] = w_avg
    taking.require_nothing_left()
    return Source(_title(part, layout), config, weights, _metadata(part))


def _average(taking: Taking, part: Part, w_dim: int) -> Tensor | None:
    """The average inside the network, else beside it, else around it."""
    inside = [name for name in taking.network.weights if name in _AVERAGES]
    for name in inside:
        taking.leave(name)
    if inside:
        return average(inside[0], taking.weight(inside[0]), w_dim)
    found = find_average((taking.network.weights, _last_names(part.beside.weights), *part.around), w_dim)
    for name in taking.network.weights:
        if name.rpartition(".")[2] in NAMES:
            taking.leave(name)
    return found


def _last_names(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights by the last parts of their names."""
    return {name.rpartition(".")[2]: value for name, value in weights.items()}


def _title(part: Part, layout: Layout) -> str:
    """The layout, and whether the file holds modules or their weights alone."""
    return f"{layout.title} (PyTorch pickle)" if part.network.attributes else layout.title


def _metadata(part: Part) -> dict[str, str]:
    """What a file of this layout that we wrote says of itself."""
    return {key: value for key, value in _beside(part, METADATA).items() if type(key) is type(value) is str}


def _beside(part: Part, key: str) -> Mapping[Any, Any]:
    """The entries of a dictionary beside the network; none without one."""
    return (dictionary(part.around[0].get(key)) if part.around else None) or {}


def _no_generator(root: Any, networks: list[Found]) -> FileError:
    """What to say of a file in which no layout is recognized."""
    names = list(dict.fromkeys(name for found in networks for name in found.network.weights))
    keys = [".".join(found.keys) for found in networks] + [str(key) for key in dictionary(root) or ()]
    if (other := name_other([*names, *keys])) is not None:
        return other
    if not networks:
        return Unsupported("holds no weights of a network", "choose a file with a generator")
    return Unsupported(f"holds a network that StyleGAN Fusion does not know, with {listed(names)}", PLAIN)
