"""Settings declared once: a dataclass field with its range, unit, help and the node that shows it. Validation, the
command line's options and the nodes' inputs all derive from the declaration."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SETTING = "setting"
"""The key of a declaration in a dataclass field's metadata."""


@dataclass(frozen=True)
class Setting:
    """A Setting declares what a number, a choice or a list of names is, for everyone who asks for it."""

    help: str  # sentences for people, on the command line and on the node alike
    unit: str = ""  # what is to be given, "a share of the steps"; "": a number
    least: float | None = None  # None: no such bound
    most: float | None = None
    above: float | None = None  # a bound that is itself outside
    choices: tuple[str, ...] = ()
    what: str = ""  # how messages call it; "": by its name
    wants: str = ""  # what messages ask for; "": what its unit and bounds say
    node: str = ""  # the node that shows it; "": none
    node_input: str = ""  # its name there; "": the setting's
    shown: tuple[float, float, float] | None = None  # least, most and step of the node's input
    labels: Mapping[str, Any] | None = None  # what the node calls the values
    control: str = ""  # of a seed: what the host does with it after a run of the graph
    none: str = "automatic"  # what None means
    none_as: int | None = None  # the number that stands for None on the node
    added_later: bool = True  # graphs saved before it lack the input; False: it was there from the beginning
    option: str | None = None  # on the command line; None: --its-name; "": none
    earlier_option: str = ""  # what the option was called before; it goes on working
    metavar: str | None = None  # of the option
    advanced: bool = False  # rarely touched: the node shows it when it is asked for more
    changes_weights: bool = True  # False: a training may go on with another value

    def refusal(self, name: str, value: object) -> str | None:
        """Return a sentence that says what is wrong with a value; None when nothing is."""
        called = self.what or name
        if self.choices:
            for one in value if isinstance(value, tuple | list) else (value,):
                if one not in self.choices:
                    return f"There is no {called} {one!r}; choose from {', '.join(self.choices)}."
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        inside = isinstance(value, int) or math.isfinite(value)
        inside = inside and (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
        if inside and (self.above is None or value > self.above):
            return None
        return f"{called} is {value}; {self._wanted()}."

    def _wanted(self) -> str:
        if self.wants:
            return self.wants
        if self.above is None and self.least is None:
            return "give a finite number" + (f" up to {self.most:g}" if self.most is not None else "")
        low = f"above {self.above:g}" if self.above is not None else f"from {self.least:g}"
        if self.most is not None:
            bounds = f"{low} to {self.most:g}" if self.above is None else f"{low} and at most {self.most:g}"
        else:
            bounds = low if self.above is not None else f"of at least {self.least:g}"
        if self.unit:
            return f"give {self.unit} {bounds}"
        return f"it must be {bounds.removeprefix('of ')}"


def setting(default: Any, help: str, **declared: Any) -> Any:
    """Make a dataclass field with this default, declared by `Setting(help, **declared)`."""
    return dataclasses.field(default=default, metadata={SETTING: Setting(help, **declared)})


_KINDS = {
    int: "give a whole number",
    float: "give a number",
    str: "give a word",
    bool: "give true or false",
    tuple: "give a list of names",
}


@dataclass(frozen=True)
class Declared:
    """Declared is a setting as its dataclass has it."""

    name: str
    kind: type  # int, float, str, bool, tuple
    optional: bool  # whether None is a value
    default: Any
    setting: Setting


def declared_settings(owner: type) -> dict[str, Declared]:
    """Return the settings that a dataclass declares, by name, in their order."""
    hints, found = typing.get_type_hints(owner), {}
    for field in dataclasses.fields(owner):
        if SETTING in field.metadata:
            kinds = typing.get_args(hints[field.name]) if isinstance(hints[field.name], types.UnionType) else ()
            plain = [typing.get_origin(kind) or kind for kind in (kinds or (hints[field.name],))]
            optional = types.NoneType in plain
            kind = next(kind for kind in plain if kind is not types.NoneType)
            found[field.name] = Declared(field.name, kind, optional, field.default, field.metadata[SETTING])
    return found


def option_of(declared: Declared) -> str:
    """Return the option of a setting on the command line."""
    return declared.setting.option or f"--{declared.name.replace('_', '-')}"


def check_settings(owner: Any) -> None:
    """Raise ValueError with a sentence for the first setting of a dataclass that is out of its range."""
    for name, declared in declared_settings(type(owner)).items():
        value = getattr(owner, name)
        if value is None and declared.optional:
            continue
        kinds = {float: (int, float), tuple: (tuple, list)}.get(declared.kind, (declared.kind,))
        if not isinstance(value, kinds) or (isinstance(value, bool) and declared.kind is not bool):
            called = declared.setting.what or name
            raise ValueError(f"{called} is {value!r}; {_KINDS[declared.kind]}.")
        if said := declared.setting.refusal(name, value):
            raise ValueError(said)


def node_input_of(declared: Declared) -> str:
    """Return the name of a setting's input on the node that shows it."""
    return declared.setting.node_input or declared.name


def from_node(declared: Declared, value: Any) -> Any:
    """Return the value of a setting from that of its node's input."""
    setting = declared.setting
    if setting.labels is not None:
        return setting.labels[value]
    if declared.kind is tuple:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if setting.none_as is not None and value <= setting.none_as:
        return None
    return value


def to_node(declared: Declared, value: Any) -> Any:
    """Return the value of a node's input that `from_node` takes for this one."""
    setting = declared.setting
    if setting.labels is not None:
        return next(label for label, one in setting.labels.items() if one == value)
    if declared.kind is tuple:
        return ", ".join(value)
    return setting.none_as if value is None else value
