"""Inputs of nodes made from settings that are declared once."""

from collections.abc import Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ..training.settings import Declared, declared_settings, from_node, node_input_of
from .inputs import advanced, seed_input


class SettingInputs:
    """SettingInputs makes a node's inputs from the settings that a dataclass declares for it, each once."""

    def __init__(self, owner: type, node: str):
        self._left = shown_settings(owner, node)

    def take(self, *names: str) -> list[io.Input]:
        """Make the inputs of these settings."""
        return [setting_input(self._left.pop(name)) for name in names]

    def rest(self) -> list[io.Input]:
        """Make the inputs of those that are left: what is declared later comes after all that nodes had before."""
        return self.take(*list(self._left))


def shown_settings(owner: type, node: str) -> dict[str, Declared]:
    """Return the settings of a dataclass that a node shows, by name."""
    return {name: one for name, one in declared_settings(owner).items() if one.setting.node == node}


def setting_input(declared: Declared) -> io.Input:
    """Make the input of a setting."""
    return advanced(_setting_input(declared)) if declared.setting.advanced else _setting_input(declared)


def _setting_input(declared: Declared) -> io.Input:
    setting, name = declared.setting, node_input_of(declared)
    tooltip = setting.help if setting.none_as is None else f"{setting.help} {setting.none_as}: {setting.none}."
    if setting.control:
        return seed_input(name, declared.default, tooltip, setting.control)
    given = {"optional": setting.added_later, "tooltip": tooltip}
    if setting.labels is not None:
        usual = next(label for label, value in setting.labels.items() if value == declared.default)
        return io.Combo.Input(name, options=list(setting.labels), default=usual, **given)
    if declared.kind is bool:
        return io.Boolean.Input(name, default=declared.default, **given)
    if declared.kind is tuple:
        return io.String.Input(name, default=", ".join(declared.default), **given)
    if setting.choices:
        return io.Combo.Input(name, options=list(setting.choices), default=declared.default, **given)
    least, most, step = setting.shown
    usual = setting.none_as if declared.default is None else declared.default
    if declared.kind is int:
        return io.Int.Input(name, default=usual, min=least, max=most, **given)
    return io.Float.Input(name, default=usual, min=least, max=most, step=step, **given)


def settings_from(owner: type, node: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a node shows, by name, from the values of its inputs; those of graphs that were saved
    before an input came are as declared."""
    return {
        name: from_node(declared, inputs[place])
        for name, declared in shown_settings(owner, node).items()
        if (place := node_input_of(declared)) in inputs
    }
