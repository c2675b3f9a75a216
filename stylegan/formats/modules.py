"""Networks out of files: state dictionaries, and whole modules of which the pickle holds all attributes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .arrays import weight
from .errors import Damaged
from .inert_pickle import Global, Record
from .weights import Weight

PERSISTENT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")
"""Makes the modules of NVlabs' programs, of which the pickle keeps the source, too. The source is never used."""

_MOST = 50_000  # modules and tensors; the largest networks known have some thousands
_DEEPEST = 40


@dataclass(frozen=True)
class Network:
    """A Network is the tensors of one network by their dotted names and, where the file holds the modules themselves,
    the attributes of each module by its dotted name, "" for the network."""

    weights: Mapping[str, Weight]
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def setting(self, module: str, name: str) -> Any:
        """Return an attribute of a module; None where the file has none."""
        return self.attributes.get(module, {}).get(name)

    def part(self, prefix: str) -> "Network":
        """Return what is below a module, whose name ends with a dot; all for ""."""
        weights = {name[len(prefix) :]: value for name, value in self.weights.items() if name.startswith(prefix)}
        modules = {
            name[len(prefix) :]: value
            for name, value in self.attributes.items()
            if name.startswith(prefix) or f"{name}." == prefix
        }
        return Network(weights, modules)


def network(value: Any) -> Network | None:
    """Return the network that a module or a state dictionary describes, None when it is something else."""
    if module_state(value) is not None:
        weights, attributes = {}, {}
        for _, (kind, name, found) in zip(range(_MOST), _walk(value, "", 0), strict=False):
            (weights if kind == "weight" else attributes)[name] = found
        if len(weights) + len(attributes) >= _MOST:
            raise Damaged("its networks have more parts than any")
        return Network(weights, attributes)
    entries = dictionary(value)
    if entries is None:
        return None
    weights = {}
    for name, entry in entries.items():
        found = entry if isinstance(entry, Weight) else weight(entry)
        if found is not None and type(name) is str:
            weights[name] = found
    return Network(weights) if weights else None


def dictionary(value: Any) -> Mapping[Any, Any] | None:
    """Return the entries of a dictionary, plain, ordered or of a class derived from one; None when it is none."""
    if type(value) is dict:
        return value
    if not isinstance(value, Record):
        return None
    entries = dict(value.entries or {})
    # Python 2 gives an ordered dictionary its pairs when it is made.
    pairs = value.args[0] if type(value.args) is tuple and len(value.args) == 1 else ()
    if str(value.maker) == "collections.OrderedDict" and type(pairs) is list:
        for pair in pairs:
            match pair:
                case [str(name), entry] | (str(name), entry):
                    entries[name] = entry
                case _:
                    raise Damaged("its dictionary makes no sense")
    elif value.entries is None and str(value.maker) != "collections.OrderedDict":
        return None
    return entries


def module_state(value: Any) -> Mapping[str, Any] | None:
    """Return the attributes of a torch module as data; None when it is none."""
    match value:
        case Record(maker=maker, args=(dict(meta),)) if maker == PERSISTENT:
            state = dictionary(meta.get("state"))
        case Record(called=False, state=dict(state)):
            pass
        case _:
            return None
    return state if state is not None and "_parameters" in state and "_modules" in state else None


def _walk(module: Any, prefix: str, depth: int) -> Iterator[tuple[str, str, Any]]:
    """The tensors and modules in a module, each with its name."""
    state = module_state(module)
    if state is None:
        return
    if depth > _DEEPEST:
        raise Damaged("its networks are nested without end")
    yield "module", prefix.removesuffix("."), state
    for kind in ("_parameters", "_buffers"):
        for name, value in (dictionary(state.get(kind)) or {}).items():
            if value is not None:
                found = weight(value)
                if found is None:
                    raise Damaged("something else is where a weight should be")
                yield "weight", f"{prefix}{name}", found
    for name, child in (dictionary(state["_modules"]) or {}).items():
        yield from _walk(child, f"{prefix}{name}.", depth + 1)
