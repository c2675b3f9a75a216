"""Where in a file a generator may be: below which keys, in which place of a tuple, behind which prefixes of names."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .averages import NAMES
from .errors import Unsupported
from .inert_pickle import Record
from .modules import Network, dictionary, module_state, network

_DEEPEST = 5
_MOST = 100_000  # entries of dictionaries and lists that are looked at

_AVERAGED = re.compile(r"(^|[._])(ema|g_?ema|avg|average[d]?|smooth|gs|shadow|ge)($|[._])|ema$|_smooth$", re.IGNORECASE)

_COMPANIONS = re.compile(
    r"(w_?|style_?)?encoders?|e|hyper_?net(work)?|mapper|refine\w*|"
    r"d\d?|d_\w+|\w*discriminators?|disc|critic|net_?d|augment\w*|ada_?\w*|"
    r"\w*(loss|losses|criterion|lpips|metric|fid|inception|vgg|arcface|clip)\w*|id_?\w*|"
    r"face_pool|preprocess\w*|data_preprocessor|"
    r"mean_path_length|pl_mean|device_info|log_buffer",
    re.IGNORECASE,
)
"""First parts of the names of what trainings keep beside a generator without being a part of what it draws."""

_COUNTERS = ("step", "steps", "n_averaged", "num_updates", "decay", "iteration", "epoch")
"""Last parts of such names."""


@dataclass(frozen=True)
class Found:
    """A Found is a network in a file: the keys that lead to it, and the dictionaries around it, innermost first."""

    network: Network
    keys: tuple[str, ...]
    around: tuple[Mapping[Any, Any], ...] = ()


@dataclass(frozen=True)
class Part:
    """A Part is what a network holds behind one prefix of its names, with what lies beside and around it."""

    network: Network
    prefix: str
    beside: Network  # what is behind no prefix or another one
    around: tuple[Mapping[Any, Any], ...]
    rank: tuple[int, int]  # the least is the one to take: averaged weights first, then in the order of the file

    def strangers(self, signature: str) -> list[str]:
        """Return the names beside the part that may belong to what the whole network draws: neither of another network
        of a training, nor another copy of a generator that has the `signature`."""
        copies = tuple(prefix for prefix in prefixes(self.beside, signature) if prefix)
        names = (name for name in self.beside.weights if not name.startswith(copies))
        return [name for name in names if not _is_companion(name)]


def _is_companion(name: str) -> bool:
    words = [word for word in name.split(".") if word not in ("module", "_orig_mod")] or [name]
    return words[-1] in (*NAMES, *_COUNTERS) or _COMPANIONS.fullmatch(words[0]) is not None


def prefixes(network: Network, signature: str) -> list[str]:
    """Return what stands before the names of the networks that have a weight of the name `signature`."""
    ends = (name.removesuffix(signature) for name in network.weights if name.endswith(signature))
    return [prefix for prefix in ends if prefix == "" or prefix.endswith(".")]


def find_networks(root: Any) -> list[Found]:
    """Return the networks in what a file holds, in its order."""
    return list(_find(root, (), (), Counter()))


def _find(
    value: Any, keys: tuple[str, ...], around: tuple[Mapping[Any, Any], ...], seen: Counter[str]
) -> Iterator[Found]:
    if (found := network(value)) is not None:
        yield Found(found, keys, around)
    if len(keys) >= _DEEPEST or module_state(value) is not None:
        return
    entries = dictionary(value)
    if entries is not None:
        inner, around = entries.items(), (entries, *around)
    elif type(value) in (list, tuple):
        names = (
            ("G", "D", "G_ema") if len(value) == 3 else map(str, range(len(value)))
        )  # as NVlabs' programs have three
        inner = zip(names, value, strict=True)
    else:
        return
    for key, entry in inner:
        seen["entries"] += 1
        if seen["entries"] > _MOST:
            raise Unsupported("is no checkpoint (it holds more than any)")
        if isinstance(entry, dict | list | tuple | Record):
            yield from _find(entry, (*keys, str(key)), around, seen)


def parts(found: Found, signature: str, order: int) -> list[Part]:
    """Return the parts of a network that have a weight of the name `signature`."""
    result = []
    for prefix in prefixes(found.network, signature):
        others = {name: value for name, value in found.network.weights.items() if not name.startswith(prefix)}
        place = ".".join((*found.keys, prefix))
        rank = (0 if _AVERAGED.search(place.removesuffix(".")) else 1, order)
        result.append(Part(found.network.part(prefix), prefix, Network(others), found.around, rank))
    return result
