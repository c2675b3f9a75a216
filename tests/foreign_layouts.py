"""State dictionaries of one of our generators in the layouts of more programs, written from the descriptions of their
networks, and what people wrap them in."""

import re
from collections import OrderedDict

import torch
from foreign_files import build, nvlabs_generator, rosinality_state
from torch import Tensor

# --- programs whose networks are built as rosinality's, under other names ------------------------------------------


def _renamed(state, *rules):
    """The state with names changed by the first rule (pattern, replacement) that matches; without one, it is left out."""
    result = OrderedDict()
    for name, value in state.items():
        for pattern, replacement in rules:
            if re.fullmatch(pattern, name):
                if replacement is not None:
                    result[re.sub(pattern, replacement, name)] = value
                break
        else:
            raise AssertionError(f"no rule for {name}")
    return result


def basicsr_state(generator):
    return _renamed(
        rosinality_state(generator),
        (r"style\.(.*)", r"style_mlp.\1"),
        (r"input\.input", r"constant_input.weight"),
        (r".*kernel", None),  # its filters are no part of the state
        (r"noises\.noise_(\d+)", r"noises.noise\1"),
        (r"(conv1|convs\.\d+)\.noise\.weight", r"style_\1.weight"),
        (r"(conv1|convs\.\d+)\.activate\.bias", r"style_\1.activate.bias"),
        (r"(conv1|convs\.\d+)\.conv\.(.*)", r"style_\1.modulated_conv.\2"),
        (r"(to_rgb1|to_rgbs\.\d+)\.conv\.(.*)", r"\1.modulated_conv.\2"),
        (r"(to_rgb1|to_rgbs\.\d+)\.bias", r"\1.bias"),
    )


def mmgeneration_state(generator):
    state = _renamed(
        rosinality_state(generator),
        (r"style\.(\d+)\.weight", r"style_mapping.\1.linear.weight_orig"),
        (r"style\.(\d+)\.bias", r"style_mapping.\1.bias"),
        (r"input\.input", r"constant_input.input"),
        (r"noises\.noise_(\d+)", r"injected_noise_\1"),
        (r"(.*)\.noise\.weight", r"\1.noise_injector.weight"),
        (r"(.*)\.conv\.weight", r"\1.conv.weight_orig"),
        (r"(.*)\.conv\.modulation\.weight", r"\1.conv.style_modulation.linear.weight_orig"),
        (r"(.*)\.conv\.modulation\.bias", r"\1.conv.style_modulation.bias"),
        (r"(.*)", r"\1"),
    )
    for name in [name for name in state if name.startswith("to_rgb")]:
        if name.endswith("conv.weight_orig"):
            state[name] = state[name].flip(1)  # blue comes first
        elif re.fullmatch(r"to_rgb(1|s\.\d+)\.bias", name):
            state[name] = state[name].flip(1)
    return state


def genforce_state(generator):
    synthesis, state = generator.synthesis, OrderedDict()
    for i, layer in enumerate(generator.mapping.layers):
        state[f"mapping.dense{i}.weight"], state[f"mapping.dense{i}.bias"] = layer.weight, layer.bias
    state["truncation.w_avg"] = generator.mapping.w_avg
    state["synthesis.early_layer.const"] = synthesis.blocks[0].const[None]

    def modulated(name, layer, turned=False):
        state[f"{name}.weight"] = layer.weight.flip(2, 3) if turned else layer.weight
        state[f"{name}.bias"] = layer.bias
        state[f"{name}.style.weight"], state[f"{name}.style.bias"] = layer.affine.weight, layer.affine.bias - 1

    kernel = 4 * synthesis.fir[None, None]
    for i, layer in enumerate(synthesis.layers):
        name = f"synthesis.layer{i}"
        modulated(name, layer, turned=layer.up)
        state[f"{name}.noise"], state[f"{name}.noise_strength"] = layer.noise_const[None, None], layer.noise_strength
        if layer.up:
            state[f"{name}.filter.kernel"] = kernel
    for i, block in enumerate(synthesis.blocks):
        modulated(f"synthesis.output{i}", block.to_rgb)
    state["synthesis.upsample.kernel"] = kernel
    return OrderedDict((name, value.detach().clone()) for name, value in state.items())


# --- NVlabs' programs ----------------------------------------------------------------------------------------------


def nvlabs_state(generator):
    """What state_dict() gives for the modules of a pickle: parameters and buffers by dotted names."""
    state = OrderedDict()

    def walk(module, prefix):
        for kind in ("_parameters", "_buffers"):
            for name, value in module.meta["state"][kind].items():
                if value is not None:
                    state[prefix + name] = value.detach().clone()
        for name, child in module.meta["state"]["_modules"].items():
            walk(child, f"{prefix}{name}.")

    walk(nvlabs_generator(generator), "")
    return state


# --- what encoders for editing are saved with ----------------------------------------------------------------------


def encoder_state() -> dict[str, Tensor]:
    names = ("input_layer.0.weight", "body.0.res_layer.0.weight", "styles.0.convs.0.weight", "styles.0.linear.bias")
    return {f"encoder.{name}": torch.randn(3, 2) for name in names}


def behind(prefix, state):
    return OrderedDict((f"{prefix}{name}", value) for name, value in state.items())


# --- modules saved whole -------------------------------------------------------------------------------------------


class Whole(torch.nn.Module):
    """A module that has the tensors of a state dictionary below their names, as other programs' modules have."""

    def __init__(self, state):
        super().__init__()
        self.pad, self.activation = (2, 1), "fused_lrelu"
        groups: dict[str, dict] = {}
        for name, value in state.items():
            head, _, rest = name.partition(".")
            if rest:
                groups.setdefault(head, {})[rest] = value
            elif "noise" in head or head == "kernel":
                self.register_buffer(head, value)
            else:
                self.register_parameter(head, torch.nn.Parameter(value))
        for head, below in groups.items():
            self.add_module(head, Whole(below))


def save_whole(module, path, legacy=False):
    """torch.save under the name that the class has in its program, which need not exist when it is read."""
    import sys
    import types

    place, before = types.ModuleType("model"), Whole.__module__
    place.Whole, Whole.__module__ = Whole, "model"
    sys.modules["model"] = place
    try:
        torch.save(module, path, _use_new_zipfile_serialization=not legacy)
    finally:
        Whole.__module__ = before
        del sys.modules["model"]
    return path


def standard(seed=0, **sizes):
    """A generator that rosinality's layout and those like it have a place for."""
    from comfyui_stylegan_fusion.stylegan import GeneratorConfig

    return build(GeneratorConfig(32, 16, 16, 0, 2, 512, 16, conv_clamp=None, **sizes), seed)
