"""The layout of EG3D's program: modules, of which the pickle holds everything that a picture depends on.

State dictionaries are read where "rendering_kwargs", "neural_rendering_resolution" and "plane_axes", which they lack, are
beside them: nothing in the weights tells which planes a generator was trained with.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..cameras import LENGTH
from ..config import SUPERRESOLUTIONS, EG3DConfig, PlanesConfig
from .arrays import weight
from .errors import Damaged, Unsupported
from .layout import Layout, Taking, listed
from .nvlabs import STYLEGAN2_NAMES
from .skip_layout import read_skip
from .source import entries, make_config, require_setting, scalar
from .weights import Weight

NAMES = dataclasses.replace(
    STYLEGAN2_NAMES,
    mapping=lambda i: f"backbone.{STYLEGAN2_NAMES.mapping(i)}",
    embed=f"backbone.{STYLEGAN2_NAMES.embed}",
    const=f"backbone.{STYLEGAN2_NAMES.const}",
    conv=lambda i: f"backbone.{STYLEGAN2_NAMES.conv(i)}",
    to_rgb=lambda i: f"backbone.{STYLEGAN2_NAMES.to_rgb(i)}",
    noise=lambda i: f"backbone.{STYLEGAN2_NAMES.noise(i)}",
    clamp=None,
)

NEEDED = (
    "superresolution_module",
    "c_gen_conditioning_zero",
    "depth_resolution",
    "depth_resolution_importance",
    "ray_start",
    "ray_end",
    "box_warp",
    "clamp_mode",
)
"""Rendering settings without which nothing can be drawn."""

FOCAL_LENGTHS = (4.2647, 1.7074)
"""Of the cameras that the published generators were trained with: of faces and cats, and of ShapeNet's objects. Files do
not say which is theirs; it is the one at which the box fills about four fifths of the picture."""

_PREFIX = "SuperresolutionHybrid"
_CLAMP = 256.0


def _read(taking: Taking) -> tuple[EG3DConfig, dict[str, Tensor]]:
    options = _options(taking)
    lacking = [name for name in NEEDED if name not in options]
    if lacking:
        raise Unsupported(
            f"is an EG3D generator without the rendering settings {listed(lacking)}",
            "choose the .pkl that its program wrote, which has them",
        )
    require_setting(options, "clamp_mode", "softplus")
    kind = _superresolution(options)
    axes = _plane_axes(taking)  # before the weights, which take longer
    found, weights = read_skip(NAMES, taking, PlanesConfig)
    weights = {_ours(name): value for name, value in weights.items()}
    decoder, rate = {}, scalar("decoder_lr_mul", options.get("decoder_lr_mul", 1))
    for ours, theirs in (("hidden", "decoder.net.0"), ("out", "decoder.net.2")):
        for part in ("weight", "bias"):
            decoder[f"synthesis.decoder.{ours}.{part}"] = rate * taking.take(f"{theirs}.{part}")
    enlarging = {} if SUPERRESOLUTIONS[kind] is None else _enlarging(taking)
    config = make_config(
        EG3DConfig,
        resolution=_side(taking, options, kind),
        z_dim=found.z_dim,
        w_dim=found.w_dim,
        c_dim=_camera_width(found.c_dim),
        mapping_layers=found.mapping_layers,
        channel_base=found.channel_base,
        channel_max=found.channel_max,
        conv_clamp=found.conv_clamp,
        plane_side=found.resolution,
        plane_channels=_shared_out(found.img_channels, len(axes)),
        decoder_width=len(decoder["synthesis.decoder.hidden.bias"]),
        plane_axes=axes,
        render_side=scalar("neural_rendering_resolution", _attribute(taking, "neural_rendering_resolution", 64)),
        superresolution=kind,
        **_superresolution_sizes(taking, kind),
        **_rendering(options),
    )
    return config, weights | decoder | enlarging


def _options(taking: Taking) -> Mapping[str, Any]:
    """The rendering settings, in the module, beside the weights, or among the arguments of the class."""
    found = _attribute(taking, "rendering_kwargs", taking.arguments.get("rendering_kwargs"))
    return {} if found is None else entries(found)


def _attribute(taking: Taking, name: str, usual: Any) -> Any:
    found = taking.setting("", name)
    if found is None:
        found = next((place[name] for place in taking.around if name in place), None)
    return usual if found is None else found


def _ours(name: str) -> str:
    return name.replace("synthesis.", "synthesis.backbone.", 1) if name.startswith("synthesis.") else name


def _superresolution(options: Mapping[str, Any]) -> str:
    named = options["superresolution_module"]
    kind = named.rpartition(".")[2].removeprefix(_PREFIX) if type(named) is str else ""
    if kind not in SUPERRESOLUTIONS:
        known = ", ".join(f"{_PREFIX}{kind}" for kind in SUPERRESOLUTIONS if kind != "none")
        raise Unsupported(
            f"is an EG3D generator with the superresolution {str(named)[:80]!r}, which StyleGAN Fusion does not know",
            f"choose one with any of {known}",
        )
    return kind


def _plane_axes(taking: Taking) -> tuple:
    """The axes of the planes, which published files have otherwise than the paper."""
    found = taking.setting("renderer", "plane_axes")
    if found is None:
        found = next((place["plane_axes"] for place in taking.around if "plane_axes" in place), None)
    value = found if isinstance(found, Weight) else weight(found)
    if value is None:
        raise Unsupported(
            "is an EG3D generator that does not say which planes it was trained with ('plane_axes')",
            "choose the .pkl that its program wrote, which does",
        )
    if len(value.shape) != 3 or value.shape[1:] != (3, 3) or value.shape[0] > 16:
        raise Damaged(f"its plane_axes have shape {list(value.shape)}")
    return tuple(tuple(tuple(axis) for axis in plane) for plane in value.read().double().tolist())


def _enlarging(taking: Taking) -> dict[str, Tensor]:
    weights = {}
    for block in range(2):
        here, there = f"synthesis.superresolution.blocks.{block}", f"superresolution.block{block}"
        for ours, theirs in (("convs.0", "conv0"), ("convs.1", "conv1"), ("to_rgb", "torgb")):
            parts = ["weight", "bias", "affine.weight", "affine.bias"]
            parts += ["noise_strength", "noise_const"] if theirs != "torgb" else []
            for part in parts:
                weights[f"{here}.{ours}.{part}"] = taking.take(f"{there}.{theirs}.{part}")
    return weights


def _superresolution_sizes(taking: Taking, kind: str) -> dict[str, Any]:
    if SUPERRESOLUTIONS[kind] is None:
        return {}
    channels = tuple(taking.shape(f"superresolution.block{block}.conv1.weight", 4)[0] for block in range(2))
    if taking.network.attributes:
        clamp = scalar("conv_clamp", taking.setting("superresolution.block0.conv0", "conv_clamp"))
    else:  # it goes with half precision, which the published generators have there
        clamp = _CLAMP if scalar("sr_num_fp16_res", taking.arguments.get("sr_num_fp16_res", 4)) else None
    return {"superresolution_channels": channels, "superresolution_clamp": clamp}


def _side(taking: Taking, options: Mapping[str, Any], kind: str) -> int:
    """The side of the pictures: what the last layer's noise has, else what the settings say."""
    if SUPERRESOLUTIONS[kind] is not None:
        return taking.shape("superresolution.block1.conv1.noise_const", 2)[0]
    return scalar("image_resolution", options.get("image_resolution"))


def _camera_width(c_dim: int) -> int:
    if c_dim != LENGTH:
        raise Unsupported(f"takes labels of {c_dim} numbers, where EG3D's cameras have {LENGTH}")
    return c_dim


def _shared_out(channels: int, planes: int) -> int:
    if channels % planes:
        raise Unsupported(f"draws {channels} features, which cannot be shared out among {planes} planes")
    return channels // planes


def _rendering(options: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings of theirs."""
    number = lambda name, usual=None: scalar(name, options.get(name, usual))  # noqa: E731
    start, end = (None if options[name] == "auto" else number(name) for name in ("ray_start", "ray_end"))
    pivot = options.get("avg_camera_pivot", (0, 0, 0))
    if type(pivot) not in (list, tuple):
        raise Damaged("its setting 'avg_camera_pivot' is no list of numbers")
    radius, box = number("avg_camera_radius", 2.7), number("box_warp")
    noise = options.get("superresolution_noise_mode", "none")
    return {
        "depth_samples": number("depth_resolution"),
        "importance_samples": number("depth_resolution_importance"),
        "ray_start": start,
        "ray_end": end,
        "disparity": bool(number("disparity_space_sampling", False)),
        "box_warp": box,
        "white_back": bool(number("white_back", False)),
        "label_scale": 0.0 if number("c_gen_conditioning_zero") else float(number("c_scale", 0)),
        "superresolution_noise": noise if type(noise) is str else "",
        "antialias": bool(number("sr_antialias", False)),
        "camera_radius": radius,
        "camera_pivot": tuple(scalar("avg_camera_pivot", value) for value in pivot),
        "focal": _focal(radius, box),
    }


def _focal(radius: Any, box: Any) -> float:
    try:
        return min(FOCAL_LENGTHS, key=lambda focal: abs(focal * box / (2 * radius) - 0.8))
    except (TypeError, ZeroDivisionError):
        return FOCAL_LENGTHS[0]  # the configuration says what is wrong with the others


LAYOUT = Layout("EG3D", "backbone.synthesis.b4.const", _read)
