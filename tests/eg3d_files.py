"""Small EG3D generators, and files of them as EG3D's program has them, written from the description of their layout."""

import collections
import dataclasses

import torch
from comfyui_stylegan_fusion.stylegan import EG3DConfig
from foreign_files import EasyDict, _dense, _mapping, _modulated, _module, _stylegan2_synthesis, build, dump

CONFIG = EG3DConfig(
    32,
    z_dim=12,
    w_dim=16,
    channel_base=512,
    channel_max=16,
    plane_side=32,
    plane_channels=4,
    decoder_width=8,
    render_side=8,
    depth_samples=6,
    importance_samples=5,
    superresolution="2X",
    superresolution_channels=(6, 4),
    camera_pivot=(0.0, 0.0, 0.2),
)
"""Of a small generator like that of faces."""

PUBLISHED_PLANES = (
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)),
    ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
)


def head(seed=0, **sizes):
    """A generator in which every weight matters, and something is seen."""
    generator = build(dataclasses.replace(CONFIG, **sizes), seed)
    generator.synthesis.decoder.out.bias[0] += 3
    for name, value in generator.synthesis.superresolution.state_dict().items():
        if ".to_rgb." in name:  # so that the pictures are not saturated
            value *= 0.1
    return generator


class _Plain:
    """A module of a class without a kept source: a bare object with attributes."""

    def __init__(self, modules=(), **attributes):
        self.__dict__.update(
            training=False,
            _parameters=collections.OrderedDict(),
            _buffers=collections.OrderedDict(),
            _modules=collections.OrderedDict(modules),
            **attributes,
        )


def _plain(module, name):
    made = type(name, (_Plain,), {"__module__": module})
    return made


def rendering_kwargs(config, **changes):
    found = {
        "image_resolution": config.resolution,
        "disparity_space_sampling": config.disparity,
        "clamp_mode": "softplus",
        "superresolution_module": f"training.superresolution.SuperresolutionHybrid{config.superresolution}",
        "c_gen_conditioning_zero": config.label_scale == 0,
        "gpc_reg_prob": 0.8,
        "c_scale": config.label_scale,
        "superresolution_noise_mode": config.superresolution_noise,
        "density_reg": 0.25,
        "decoder_lr_mul": 1,
        "sr_antialias": config.antialias,
        "depth_resolution": config.depth_samples,
        "depth_resolution_importance": config.importance_samples,
        "ray_start": "auto" if config.ray_start is None else config.ray_start,
        "ray_end": "auto" if config.ray_end is None else config.ray_end,
        "box_warp": config.box_warp,
        "white_back": config.white_back,
        "avg_camera_radius": config.camera_radius,
        "avg_camera_pivot": list(config.camera_pivot),
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def eg3d_module(generator, plane_axes="own", **changes):
    """The averaged generator as it lies in the pickle."""
    config, synthesis = generator.config, generator.synthesis
    inner = _of_backbone(generator)
    backbone = _module(
        "Generator", modules=[("synthesis", _stylegan2_synthesis(inner)), ("mapping", _mapping(generator))]
    )
    softplus = torch.nn.Softplus()
    net = torch.nn.Sequential()
    net._modules = collections.OrderedDict(
        [
            ("0", _dense(synthesis.decoder.hidden, "linear")),
            ("1", softplus),
            ("2", _dense(synthesis.decoder.out, "linear")),
        ]
    )
    axes = torch.tensor(config.plane_axes) if plane_axes == "own" else plane_axes
    given = {} if axes is None else {"plane_axes": axes}
    modules = [
        ("renderer", _plain("training.volumetric_rendering.renderer", "ImportanceRenderer")(**given)),
        ("ray_sampler", _plain("training.volumetric_rendering.ray_sampler", "RaySampler")(depths=None)),
        ("backbone", backbone),
        ("superresolution", _superresolution(generator)),
        ("decoder", _plain("training.triplane", "OSGDecoder")([("net", net)], hidden_dim=64)),
    ]
    return _module(
        "TriPlaneGenerator",
        modules=modules,
        z_dim=config.z_dim,
        img_resolution=config.resolution,
        neural_rendering_resolution=config.render_side,
        rendering_kwargs=EasyDict(rendering_kwargs(config, **changes)),
        _last_planes=None,
    )


def _of_backbone(generator):
    """What the writer of StyleGAN2 looks at."""
    inner = type("Backbone", (), {})()
    inner.config, inner.synthesis = generator.config.planes, generator.synthesis.backbone
    return inner


def _superresolution(generator):
    config, parts = generator.config, []
    fir = generator.synthesis.backbone.fir
    for number, block in enumerate(generator.synthesis.superresolution.blocks):
        layers = []
        for place, conv in enumerate(block.convs):
            buffers = [("resample_filter", fir), ("noise_const", conv.noise_const)]
            strength = [("noise_strength", conv.noise_strength)]
            settings = {"conv_clamp": config.superresolution_clamp, "activation": "lrelu", "use_noise": True}
            layers.append((f"conv{place}", _modulated("SynthesisLayer", conv, strength, buffers, **settings)))
        layers.append(("torgb", _modulated("ToRGBLayer", block.to_rgb, conv_clamp=config.superresolution_clamp)))
        parts.append(
            (f"block{number}", _module("SynthesisBlock", (), [("resample_filter", fir)], layers, architecture="skip"))
        )
    return _module("SuperresolutionHybrid", (), [("resample_filter", fir)], parts)


def save_eg3d(generator, path, plane_axes="own", protocol=4, **changes):
    """A snapshot of a training."""
    classes = ("renderer.ImportanceRenderer", "ray_sampler.RaySampler")
    content = {
        "training_set_kwargs": EasyDict(path="faces.zip"),
        "G_ema": eg3d_module(generator, plane_axes, **changes),
    }
    return dump_with_classes(content, path, protocol, classes)


def dump_with_classes(content, path, protocol, classes):
    """Write a pickle whose plain modules are of classes that pickle finds where it looks for them."""
    import sys
    import types

    found = {}

    def look(value):
        if isinstance(value, _Plain):
            found[type(value).__module__, type(value).__name__] = type(value)
            for child in value._modules.values():
                look(child)
        elif hasattr(value, "meta"):
            for child in value.meta["state"]["_modules"].values():
                look(child)

    look(content["G_ema"])
    names = {".".join(module.split(".")[: i + 1]) for module, _ in found for i in range(len(module.split(".")))}
    added = {name: types.ModuleType(name) for name in names if name not in sys.modules}
    sys.modules.update(added)
    try:
        for (module, name), made in found.items():
            setattr(sys.modules[module], name, made)
        return dump(content, path, protocol)
    finally:
        for name in added:
            del sys.modules[name]


def state_dict(generator):
    """The weights by the program's names."""
    renamed = {}
    inner = generator.synthesis.state_dict()
    numbers = {"hidden": 0, "out": 2}
    for name, value in generator.mapping.state_dict().items():
        renamed["backbone.mapping." + (name.replace("layers.", "fc") if name.startswith("layers.") else name)] = value
    for name, value in inner.items():
        parts = name.split(".")
        if parts[0] == "decoder":
            renamed[f"decoder.net.{numbers[parts[1]]}.{parts[2]}"] = value
        else:
            place = "superresolution.block" if parts[0] == "superresolution" else "backbone.synthesis.b"
            number = int(parts[2]) if parts[0] == "superresolution" else 4 << int(parts[2])
            rest = ".".join(parts[3:]).replace("to_rgb", "torgb")
            first = parts[0] == "backbone" and parts[2] == "0"
            rest = (
                rest.replace("convs.0", "conv1")
                if first
                else rest.replace("convs.0", "conv0").replace("convs.1", "conv1")
            )
            renamed[f"{place}{number}.{rest}"] = value
    return renamed
