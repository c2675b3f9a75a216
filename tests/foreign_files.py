"""Small files in the layouts of other programs, written from their descriptions out of one of our generators."""

import argparse
import collections
import contextlib
import pickle
import sys
import types

import numpy as np
import torch
from comfyui_stylegan_fusion.stylegan import Generator, GeneratorConfig, StyleGAN3Config

STYLEGAN3_T = StyleGAN3Config(32, 12, 16, 0, 2, channel_base=512, channel_max=16)
STYLEGAN3_R = StyleGAN3Config(
    32, 12, 16, 0, 2, channel_base=1024, channel_max=32, conv_kernel=1, use_radial_filters=True
)


def build(config, seed=0):
    """A generator in which every weight matters: noise, biases, averages and poses are not left at their initial values."""
    torch.manual_seed(seed)
    generator = Generator(config)
    for name, value in generator.state_dict().items():
        if name.endswith(("bias", "noise_strength", "input.affine.weight")):
            value.add_(0.3 * torch.randn_like(value))
        elif name.endswith("magnitude_ema"):
            value.uniform_(0.5, 2)
    generator.mapping.w_avg.normal_()
    return generator.eval().requires_grad_(False)


def small(c_dim=0, conv_clamp=256.0, seed=0):
    return build(GeneratorConfig(32, 12, 16, c_dim, 2, 512, 16, conv_clamp=conv_clamp), seed)


# --- rosinality's stylegan2-pytorch ---------------------------------------------------------------------------------


def rosinality_generator(seed=0):
    """One that the layout has a place for: z and w of one width, no clamp."""
    return build(GeneratorConfig(32, 16, 16, 0, 2, 512, 16, conv_clamp=None), seed)


def rosinality_state(generator):
    synthesis, state = generator.synthesis, collections.OrderedDict()
    for i, layer in enumerate(generator.mapping.layers):
        state[f"style.{i + 1}.weight"], state[f"style.{i + 1}.bias"] = layer.weight, layer.bias
    state["input.input"] = synthesis.blocks[0].const[None]

    def modulated(name, layer):
        state[f"{name}.conv.weight"] = layer.weight[None]
        state[f"{name}.conv.modulation.weight"] = layer.affine.weight
        state[f"{name}.conv.modulation.bias"] = layer.affine.bias

    for i, layer in enumerate(synthesis.layers):
        name = f"convs.{i - 1}" if i else "conv1"
        modulated(name, layer)
        state[f"{name}.noise.weight"] = layer.noise_strength.reshape(1)
        state[f"{name}.activate.bias"] = layer.bias
        state[f"noises.noise_{i}"] = layer.noise_const[None, None]
        if layer.up:
            state[f"{name}.conv.blur.kernel"] = 4 * synthesis.fir
    for i, block in enumerate(synthesis.blocks):
        name = f"to_rgbs.{i - 1}" if i else "to_rgb1"
        modulated(name, block.to_rgb)
        state[f"{name}.bias"] = block.to_rgb.bias.reshape(1, -1, 1, 1)
        if i:
            state[f"{name}.upsample.kernel"] = 4 * synthesis.fir
    return collections.OrderedDict((name, value.detach().clone()) for name, value in state.items())


def save_rosinality(generator, path, legacy=False, **others):
    content = {"g_ema": rosinality_state(generator), "latent_avg": generator.mapping.w_avg.clone(), **others}
    content = {name: value for name, value in content.items() if value is not None}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def save_rosinality_training(generator, path):
    """What its training script leaves: both networks, optimizers, the arguments, and no average of w."""
    other = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(other.parameters())
    other(torch.ones(3)).sum().backward()
    optimizer.step()
    return save_rosinality(
        generator,
        path,
        latent_avg=None,
        g={name: value + 1 for name, value in rosinality_state(generator).items()},
        d=other.state_dict(),
        g_optim=optimizer.state_dict(),
        args=argparse.Namespace(size=32, path="faces", lr=0.002, mixing=[0.9], ckpt=None),
        ada_aug_p=0.0,
    )


# --- NVlabs' PyTorch programs ---------------------------------------------------------------------------------------


def _reconstruct_persistent_obj(meta):
    raise AssertionError("a persistent object was called to life")


class Persistent:
    """An object of a class that keeps its program's source beside its state."""

    def __init__(self, class_name, **state):
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit('the source in a pickle was executed')",
            "class_name": class_name,
            "state": state,
        }

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


class EasyDict(dict):
    """dnnlib's dictionary."""


class Network:
    """dnnlib.tflib's network."""

    def __init__(self, **state):
        self.__dict__.update(state)


@contextlib.contextmanager
def _as_if_defined_there():
    """pickle writes these objects under the names that they have in the other programs."""
    places = {
        "torch_utils.persistence": _reconstruct_persistent_obj,
        "dnnlib.util": EasyDict,
        "dnnlib.tflib.network": Network,
    }
    modules = {name: types.ModuleType(name) for name in ("torch_utils", "dnnlib", "dnnlib.tflib", *places)}
    before = {thing: thing.__module__ for thing in places.values()}
    sys.modules.update(modules)
    for name, thing in places.items():
        setattr(modules[name], thing.__name__, thing)
        thing.__module__ = name
    try:
        yield
    finally:
        for thing in places.values():
            thing.__module__ = before[thing]
        for name in modules:
            del sys.modules[name]


def _module(class_name, parameters=(), buffers=(), modules=(), **attributes):
    """The state of a torch.nn.Module, and its arguments where they matter."""
    return Persistent(
        class_name,
        training=False,
        _parameters=collections.OrderedDict((name, torch.nn.Parameter(value.clone())) for name, value in parameters),
        _buffers=collections.OrderedDict((name, value if value is None else value.clone()) for name, value in buffers),
        _modules=collections.OrderedDict(modules),
        _backward_hooks=collections.OrderedDict(),
        _init_args=(),
        **{"_init_kwargs": EasyDict(), **attributes},
    )


def _dense(layer, activation="lrelu"):
    weights = [("weight", layer.weight), ("bias", layer.bias)]
    gain = np.float64(layer.weight_gain)
    return _module("FullyConnectedLayer", weights, activation=activation, weight_gain=gain, bias_gain=layer.bias_gain)


def _mapping(generator):
    mapping, config = generator.mapping, generator.config
    layers = [("embed", _dense(mapping.embed, "linear"))] if config.c_dim else []
    layers += [(f"fc{i}", _dense(layer)) for i, layer in enumerate(mapping.layers)]
    return _module(
        "MappingNetwork",
        buffers=[("w_avg", mapping.w_avg)],
        modules=layers,
        z_dim=config.z_dim,
        w_dim=config.w_dim,
        c_dim=config.c_dim,
        num_layers=config.mapping_layers,
    )


def _modulated(class_name, layer, parameters=(), buffers=(), **attributes):
    weights = [("weight", layer.weight), ("bias", layer.bias), *parameters]
    return _module(class_name, weights, buffers, [("affine", _dense(layer.affine, "linear"))], **attributes)


def nvlabs_generator(generator):
    """The averaged generator of StyleGAN2-ADA and of the StyleGAN3 repository, as it lies in the pickle."""
    config = generator.config
    synthesis = (
        _stylegan2_synthesis(generator) if config.architecture == "stylegan2" else _stylegan3_synthesis(generator)
    )
    return _module("Generator", modules=[("synthesis", synthesis), ("mapping", _mapping(generator))])


def _stylegan2_synthesis(generator):
    config, blocks = generator.config, []
    for block, side in zip(generator.synthesis.blocks, config.resolutions, strict=True):
        parts = []
        for number, conv in enumerate(block.convs, start=1 if side == 4 else 0):
            noise = [("resample_filter", generator.synthesis.fir), ("noise_const", conv.noise_const)]
            settings = {"conv_clamp": config.conv_clamp, "activation": "lrelu", "use_noise": True, "resolution": side}
            strength = [("noise_strength", conv.noise_strength)]
            parts.append((f"conv{number}", _modulated("SynthesisLayer", conv, strength, noise, **settings)))
        parts.append(("torgb", _modulated("ToRGBLayer", block.to_rgb, conv_clamp=config.conv_clamp)))
        const = [("const", block.const)] if side == 4 else []
        filters = [("resample_filter", generator.synthesis.fir)]
        blocks.append((f"b{side}", _module("SynthesisBlock", const, filters, parts, architecture="skip")))
    sizes = {"img_resolution": config.resolution, "img_channels": config.img_channels, "w_dim": config.w_dim}
    return _module("SynthesisNetwork", modules=blocks, **sizes)


def _stylegan3_synthesis(generator):
    config, synthesis = generator.config, generator.synthesis
    waves = [(name, getattr(synthesis.input, name)) for name in ("transform", "freqs", "phases")]
    affine = [("affine", _dense(synthesis.input.affine, "linear"))]
    parts = [("input", _module("SynthesisInput", [("weight", synthesis.input.weight)], waves, affine))]
    for i, layer in enumerate([*synthesis.convs, synthesis.to_rgb]):
        buffers = [(name, getattr(layer, name)) for name in ("magnitude_ema", "up_filter", "down_filter")]
        parts.append((f"L{i}_{layer.size[1]}_{len(layer.weight)}", _modulated("SynthesisLayer", layer, (), buffers)))
    given = EasyDict(channel_base=config.channel_base, channel_max=config.channel_max, magnitude_ema_beta=0.9988)
    if config.const_size == (4, 2):  # StyleGAN-Human's, which says False for other pictures than squares
        given.update(square=False)
    if config.conv_kernel == 1:
        given.update(conv_kernel=1, use_radial_filters=True)
    sizes = {"img_resolution": config.resolution, "img_channels": config.img_channels, "w_dim": config.w_dim}
    return _module("SynthesisNetwork", modules=parts, _init_kwargs=given, **sizes)


def save_nvlabs(generator, path, change=None, protocol=4, **others):
    """A snapshot of a training; `change` may alter the averaged generator."""
    average = nvlabs_generator(generator)
    if change:
        change(average.meta["state"])
    content = {
        "training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", path="faces.zip"),
        "G": nvlabs_generator(generator),
        "G_ema": average,
        "augment_pipe": None,
        **others,
    }
    return dump(content, path, protocol)


# --- NVlabs' TensorFlow programs ------------------------------------------------------------------------------------


def tensorflow_network(generator, **settings):
    config, synthesis = generator.config, generator.synthesis
    mapping_variables, variables = [], []

    def dense(name, layer):
        mapping_variables.append((f"{name}/weight", layer.weight.t().numpy().copy()))
        mapping_variables.append((f"{name}/bias", layer.bias.numpy().copy()))

    def modulated(name, layer, turned=False):
        kernel = layer.weight.permute(2, 3, 1, 0)
        kernel = kernel.flip(0, 1) if turned else kernel
        variables.append((f"{name}/weight", np.ascontiguousarray(kernel.numpy())))
        variables.append((f"{name}/bias", layer.bias.numpy().copy()))
        variables.append((f"{name}/mod_weight", np.asfortranarray(layer.affine.weight.t().numpy())))
        variables.append((f"{name}/mod_bias", layer.affine.bias.numpy() - 1))

    if config.c_dim:
        dense("LabelEmbed", generator.mapping.embed)
    for i, layer in enumerate(generator.mapping.layers):
        dense(f"Dense{i}", layer)
    variables.append(("4x4/Const/const", synthesis.blocks[0].const[None].numpy().copy()))
    for i, layer in enumerate(synthesis.layers):
        name = f"{layer.resolution}x{layer.resolution}/{'Conv0_up' if layer.up else 'Conv1'}" if i else "4x4/Conv"
        modulated(name, layer, turned=layer.up)
        variables.append((f"{name}/noise_strength", np.float32(layer.noise_strength)))
        variables.append((f"noise{i}", layer.noise_const[None, None].numpy().copy()))
    for block, side in zip(synthesis.blocks, config.resolutions, strict=True):
        modulated(f"{side}x{side}/ToRGB", block.to_rgb)
    parts = {
        "mapping": Network(version=4, static_kwargs={}, components={}, variables=mapping_variables),
        "synthesis": Network(version=4, static_kwargs={}, components={}, variables=variables),
    }
    return Network(
        version=4,
        name="Gs",
        static_kwargs={"resolution": config.resolution, "fmap_base": config.channel_base // 2, **settings},
        components=parts,
        build_module_src="raise SystemExit('the source in a pickle was executed')",
        build_func_name="G_main",
        variables=[("lod", np.float32(0)), ("dlatent_avg", generator.mapping.w_avg.numpy().copy())],
    )


def save_tensorflow(generator, path, protocol=4, **settings):
    networks = tuple(tensorflow_network(generator, **settings) for _ in range(3))
    return dump(networks, path, protocol)


def dump(content, path, protocol=4):
    with _as_if_defined_there(), open(path, "wb") as file:
        pickle.dump(content, file, protocol)
    return path
