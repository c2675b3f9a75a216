"""Tiny models and what goes into them: the host's own classes in small configurations, with random weights. float32."""

import importlib

import comfy.model_management
import comfy.ops
import comfy.supported_models
import torch

from .family import Family
from .weights import PATCHER, fill, random


def model(family: Family, seed: int):
    """MODEL of a family."""
    settings = dict(family.settings)
    if family.parameters:  # a dataclass that has grown fields over the versions and takes no others
        module, name = family.parameters.split(":")
        fields = getattr(importlib.import_module(module), name).__dataclass_fields__
        settings = {key: value for key, value in settings.items() if key in fields}
    if family.image_model:
        settings["image_model"] = family.image_model
    config = getattr(comfy.supported_models, family.config)(settings)
    config.unet_config.update(family.overwrite)
    config.set_inference_dtype(torch.float32, None)
    made = config.get_model({key: torch.tensor(value) for key, value in family.marks.items()})
    if family.adapter:  # of fixed size in its class
        module, name = family.adapter.split(":")
        small = {"source_dim": family.width, "target_dim": family.width, "model_dim": family.width}
        adapter = getattr(importlib.import_module(module), name)(
            **small, num_layers=1, num_heads=2, operations=comfy.ops.manual_cast, dtype=torch.float32
        )
        made.diffusion_model.llm_adapter = adapter
    fill(made.diffusion_model, seed)
    return PATCHER(
        made,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def conditioning(family: Family, seed: int):
    """CONDITIONING of a family, as if encoded from a prompt with this number."""
    extras = {"pooled_output": None} | {
        name: random(1000 * seed + 10 + k, *made) if isinstance(made, tuple) else made
        for k, (name, made) in enumerate(family.extras.items())
    }
    for name, (length, real) in family.masks.items():
        extras[name] = (torch.arange(length) < real).long()[None]
    for name, length in family.tokens_ids.items():
        extras[name] = torch.randint(2, 1000, (length,), generator=torch.Generator().manual_seed(seed))
    return [[random(1000 * seed, 1, family.tokens, family.width), extras]]
