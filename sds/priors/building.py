"""Parts of a diffusion model, built by diffusers and transformers from a description, with all weights from files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...training.out_of_memory import is_out_of_memory
from ...training.packages import import_advice
from .ldm_names import exchanged
from .weights import fill

_OLD_NAMES = {  # of the attention in autoencoders, before diffusers had one for all
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}

TINY_VAE = "AutoencoderTiny"  # what descriptions call TAESD
UNET, VAE, TEXT_ENCODER, TEXT_ENCODER_2 = "UNet", "VAE", "text encoder", "second text encoder"


def require_libraries() -> None:
    """Raise ImportError with a sentence where the extra is not installed, or does not work."""
    try:
        import accelerate  # noqa: F401
        from diffusers import UNet2DConditionModel  # noqa: F401
        from transformers import CLIPTextModel  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            import_advice(
                "Reading a diffusion model",
                "diffusers, transformers and accelerate",
                'install this package with its extra "headless"',
                error,
            )
        ) from error


Prefixes = Callable[[Any], Mapping[str, str]]
"""From a module to what the beginnings of its names are in a file."""


def build_unet(
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    place: Path,
    dtype: torch.dtype,
    prefixes: Prefixes = lambda unet: {},
) -> Any:
    """Build a UNet2DConditionModel. Raises ValueError with a sentence."""
    from diffusers import UNet2DConditionModel

    unet = _empty(lambda: UNet2DConditionModel.from_config(dict(config)), UNET, place)
    fill(unet, _under_own_names(weights, prefixes(unet)), UNET, place, dtype)
    return unet


def build_vae(
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    place: Path,
    prefixes: Prefixes = lambda vae: {},
) -> Any:
    """Build an AutoencoderKL, or an AutoencoderTiny where the description says so, in float32: half precision overflows
    in SDXL's, and gradients pass through it. Raises ValueError with a sentence."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    kind, config = AutoencoderKL, dict(config)
    if config.get("_class_name") == TINY_VAE:
        kind = AutoencoderTiny
        config.pop("block_out_channels", None)  # written by it, and a warning when it is read
    vae = _empty(lambda: kind.from_config(config), VAE, place)
    fill(vae, _under_own_names(renamed(weights, _without_old_names), prefixes(vae)), VAE, place, torch.float32)
    return vae


def _under_own_names(weights: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> Mapping[str, Tensor]:
    own = {theirs: ours for ours, theirs in prefixes.items()}
    return renamed(weights, lambda name: exchanged(name, own))


def build_text_encoder(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], part: str, place: Path, projected: bool = False
) -> Any:
    """Build a CLIPTextModel, or `projected` a CLIPTextModelWithProjection, in float32. Raises ValueError with a
    sentence."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    model = _empty(lambda: kind(CLIPTextConfig.from_dict(dict(config))), part, place)
    # Versions of transformers differ in whether they put text_model. before the names.
    names = {without_text_model(name): name for name in model.state_dict()}

    def unused(name: str) -> bool:
        return name.endswith(("position_ids", "logit_scale")) or (not projected and "text_projection" in name)

    fill(
        model,
        renamed(weights, lambda name: names.get(without_text_model(name), name)),
        part,
        place,
        torch.float32,
        unused,
    )
    return model


def build_scheduler(config: Mapping[str, Any], place: Path) -> Any:
    """Build what holds the noise schedule, from the description of any scheduler. Raises ValueError with a sentence."""
    from diffusers import DDPMScheduler

    named = str(config.get("_class_name", ""))
    if named.startswith(("EDM", "Flow")):
        raise ValueError(
            f"{place} has the schedule of a {named}, which is made of noise levels instead of timesteps; use this model "
            "in ComfyUI, or give a plain Stable Diffusion 1.x, 2.x or SDXL model."
        )
    return _described(lambda: DDPMScheduler.from_config(dict(config)), "scheduler", place)


def without_text_model(name: str) -> str:
    return name.removeprefix("text_model.")


def renamed(weights: Mapping[str, Tensor], name_of) -> Mapping[str, Tensor]:
    """Return the weights under other names, read no sooner than before."""
    return Renamed(weights, {name_of(name): name for name in weights})


class Renamed(Mapping[str, Tensor]):
    """Renamed weights are found under other names: `names` maps each to that in `weights`."""

    def __init__(self, weights: Mapping[str, Tensor], names: dict[str, str]):
        self._weights, self._names = weights, names

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[self._names[name]]

    def __iter__(self):
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _without_old_names(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        name = name.replace(old, new)
    return name


def _empty(make, part: str, place: Path) -> Any:
    """Make a module whose weights take no memory yet."""
    from accelerate import init_empty_weights

    def without_weights():
        with init_empty_weights():
            return make()

    return _described(without_weights, part, place).eval().requires_grad_(False)


def _described(make, part: str, place: Path) -> Any:
    try:
        return make()
    except Exception as error:  # whatever a library makes of a description that it cannot read
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"The description of the {part} in {place} cannot be read: it names no {part} that can be built. "
            "Get a complete copy of the model."
        ) from error
