"""LoRA files on a Stable Diffusion: `--lora FILE:strength`, in the layouts of kohya, LyCORIS, diffusers and peft.

The changes are added to the weights when the model is loaded, as ComfyUI does.
"""

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...training.digests import tensors_digest
from .folders import read_json
from .ldm_names import exchanged, unet_prefixes
from .lora_changes import changed, form_of, rank_stabilized
from .weights import WeightFiles, require_finite

logger = logging.getLogger(__name__)

BASE_DIGEST = "base_unet_digest"
"""Metadata entry of a LoRA that fits one UNet alone, whatever others have its shape: the digest of that UNet."""

_IN_FOLDER = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_SUFFIXES = {  # of a name behind its layer, and the role of the tensor
    ".lora_up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_mid.weight": "mid",
    ".lora_B.weight": "up",
    ".lora_A.weight": "down",
    ".lora.up.weight": "up",
    ".lora.down.weight": "down",
    "_lora.up.weight": "up",
    "_lora.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_B": "up",
    ".lora_A": "down",
    ".alpha": "alpha",
    ".dora_scale": "magnitude",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".diff": "diff",
    ".w_norm": "diff",
    ".diff_b": "bias",
    ".b_norm": "bias",
    **{f".hada_{role}": role for role in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f".lokr_{role}": role for role in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t1", "t2")},
}
_BY_LENGTH = sorted(_SUFFIXES, key=len, reverse=True)
_ADAPTER = re.compile(r"(\.lora_(?:A|B|magnitude_vector))\.(?!weight)[^.]+(?=\.weight$|$)")  # peft may name the adapter
_BASES = {  # what trainers call the base of a LoRA, and the families of this program
    "sd_v1": "Stable Diffusion 1.x",
    "sd_1.5": "Stable Diffusion 1.x",
    "stable-diffusion-v1": "Stable Diffusion 1.x",
    "sd_v2": "Stable Diffusion 2.x",
    "stable-diffusion-v2": "Stable Diffusion 2.x",
    "sdxl": "SDXL",
    "stable-diffusion-xl": "SDXL",
    "flux": "Flux",
    "sd3": "Stable Diffusion 3",
    "stable-diffusion-3": "Stable Diffusion 3",
}
_BASE_ENTRIES = ("ss_base_model_version", "modelspec.architecture")


@dataclass(frozen=True)
class LoRA:
    """A LoRA is a file, or a folder of diffusers or peft with one, and how strongly it counts."""

    path: Path
    strength: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "LoRA":
        """Read FILE or FILE:strength; a file whose own name ends so is taken as it is. Raises ValueError with a
        sentence for a strength that is not finite."""
        file, colon, number = text.rpartition(":")
        if colon and file and not Path(text).exists():
            try:
                strength = float(number)
            except ValueError:
                return cls(Path(text))  # of a path of Windows
            if not math.isfinite(strength):
                raise ValueError(f"The strength of {file} is {number}; give a number such as 0.8.")
            return cls(Path(file), strength)
        return cls(Path(text))


@dataclass
class _Layer:
    """A _Layer is what a file says of one layer."""

    parts: dict[str, Tensor] = field(default_factory=dict)
    kronecker: bool = False
    alpha: float | None = None  # where the file notes it for all layers


@dataclass(frozen=True)
class LoadedLoRA:
    """A LoadedLoRA is a LoRA in memory, before it is known which model it changes."""

    lora: LoRA
    layers: dict[str, _Layer]  # by their names in the file
    metadata: Mapping[str, str]


def load_loras(loras: Sequence[LoRA]) -> list[LoadedLoRA]:
    """Read LoRAs. Raises FileNotFoundError or ValueError with a sentence for files that cannot be read, or are none."""
    loaded = []
    for lora in loras:
        weights = _open(lora.path)
        layers, alpha_of = _layers(weights, lora.path), _peft_alphas(weights, lora.path)
        for name, layer in layers.items():
            own = layer.parts.get("alpha")
            layer.alpha = alpha_of(name) if own is None else own.item()
        loaded.append(LoadedLoRA(lora, layers, weights.metadata))
    return loaded


def apply_loras(
    loras: Sequence[LoadedLoRA], unet: nn.Module, text_encoders: Sequence[nn.Module] = (), family: str = ""
) -> None:
    """Add the changes of LoRAs, times their strengths, to the weights of a diffusers UNet and its text encoders. Raises
    ValueError with a sentence for those that were made for another model."""
    for loaded in loras:  # before anything is changed
        _require_base(loaded.metadata, loaded.lora.path, unet, family)
    modules = _modules_by_name(unet, text_encoders) if loras else {}
    for loaded in loras:
        _apply(loaded, modules, family)


def base_digest(unet: nn.Module) -> str:
    """Compute what BASE_DIGEST says of a UNet: a digest of its weights in half precision, as they are stored."""
    return tensors_digest((name, value.half()) for name, value in unet.state_dict().items())


@torch.no_grad()
def _apply(loaded: LoadedLoRA, modules: Mapping[str, nn.Module], family: str) -> None:
    path, layers = loaded.lora.path, loaded.layers
    unknown = sorted(name for name in layers if name not in modules)
    if unknown and (len(unknown) == len(layers) or not all(map(_is_text, unknown))):
        raise ValueError(
            f"{path} is a LoRA for another model: it changes {unknown[0]}, which this model "
            f"({family or 'of another kind'}) does not have. Give one that was made for it."
        )
    if unknown:
        logger.warning("%s: left out what it changes in parts that no prompt passes: %s", path.name, unknown[0])
    for name in sorted(layers.keys() & modules.keys()):
        _change(modules[name], name, layers[name], loaded.lora)


def _open(path: Path) -> WeightFiles:
    if path.is_dir():
        inside = [path / name for name in _IN_FOLDER if (path / name).is_file()]
        if not inside:
            raise FileNotFoundError(f"The folder {path} holds neither {' nor '.join(_IN_FOLDER)}; give a LoRA's file.")
        path = inside[0]
    return WeightFiles(path)


def _layers(weights: WeightFiles, path: Path) -> dict[str, _Layer]:
    """Sort the tensors by the layers that they change."""
    layers: dict[str, _Layer] = {}
    for full in weights:
        name = _ADAPTER.sub(r"\1", full)
        suffix = next((suffix for suffix in _BY_LENGTH if name.endswith(suffix)), None)
        if suffix is None:
            known = any(other.endswith(tuple(_SUFFIXES)) for other in weights)
            kind = f"holds {full}, which this program cannot apply" if known else "is no LoRA"
            raise ValueError(f"{path} {kind}; give one of the kinds LoRA, LoCon, LoHa, LoKr or DoRA.")
        value = weights[full]
        require_finite(value, str(path), full)
        if _SUFFIXES[suffix] == "alpha" and value.numel() != 1:
            raise ValueError(f"{path} is damaged: {full} is not one number. Download it again.")
        layer = layers.setdefault(_usual_name(name.removesuffix(suffix)), _Layer())
        layer.parts[_SUFFIXES[suffix]] = value.float()
        layer.kronecker |= suffix.startswith(".lokr_")
    if not layers:
        raise ValueError(f"{path} holds no weights; give a LoRA's file.")
    return layers


def _usual_name(name: str) -> str:
    """Bring the names of layers that diffusers used for a time to those of its modules."""
    name = name.replace(".processor.to_", ".to_")
    return f"{name}.0" if name.endswith(".to_out") else name


def _modules_by_name(unet: nn.Module, text_encoders: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Find every layer with weights under all names that LoRA files have for it."""
    found: dict[str, nn.Module] = {}
    prefixes = unet_prefixes(unet)
    for name, module in _with_weights(unet):
        theirs = exchanged(name, prefixes)
        for spoken in (name, theirs):
            found[f"lora_unet_{_flat(spoken)}"] = found[f"lycoris_{_flat(spoken)}"] = module
        for prefix in ("", "unet.", "base_model.model.", "unet.base_model.model."):
            found[prefix + name] = module
        for prefix in ("diffusion_model.", "model.diffusion_model."):
            found[prefix + theirs] = module
    for number, encoder in enumerate(text_encoders):
        second = "2" if number else ""
        flat = [f"lora_te{second or 1}_", *([] if number else ["lora_te_"])]
        dotted = [f"text_encoder{f'_{second}' if second else ''}.{more}" for more in ("", "base_model.model.")]
        for name, module in _with_weights(encoder):
            inside = name.removeprefix("text_model.")
            spoken = inside if inside.startswith("text_projection") else f"text_model.{inside}"
            for prefix in flat:
                found[prefix + _flat(spoken)] = module
            for prefix in dotted:
                found[prefix + spoken] = found[prefix + inside] = module
            found[f"text_encoders.clip_{'g' if number else 'l'}.transformer.{spoken}"] = module
    return found


def _with_weights(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return (
        (name, module) for name, module in model.named_modules() if isinstance(getattr(module, "weight", None), Tensor)
    )


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _is_text(name: str) -> bool:
    return name.startswith(("lora_te", "text_encoder"))


def _change(module: nn.Module, name: str, layer: _Layer, lora: LoRA) -> None:
    weight, parts = module.weight, layer.parts
    try:
        if form := form_of(parts, layer.kronecker):
            with_change = changed(weight.float(), parts, form, layer.alpha, lora.strength)
            module.weight.copy_(with_change)
        elif "bias" not in parts:
            raise ValueError(
                f"{lora.path} is incomplete: of {name} it holds {' and '.join(sorted(parts))} alone. Download it again."
            )
        if "bias" in parts:
            if getattr(module, "bias", None) is None:
                raise RuntimeError("there is no bias")
            module.bias.add_(lora.strength * parts["bias"].to(module.bias))
    except (RuntimeError, IndexError):  # sizes that do not go together
        raise ValueError(
            f"{lora.path} is a LoRA for another model: its change of {name} does not fit a weight of "
            f"{' x '.join(map(str, weight.shape))}. Give one that was made for this model."
        ) from None


def _require_base(metadata: Mapping[str, str], path: Path, unet: nn.Module, family: str) -> None:
    """Raise ValueError with a sentence where the file itself says that it was made for another model."""
    base = metadata.get(BASE_DIGEST)
    if base is not None and base != base_digest(unet):
        raise ValueError(
            f"{path} was trained on another model of the same shape, or another version of this one; its changes mean "
            "nothing here. Take the LoRA that came with this model, or train it again."
        )
    for entry in _BASE_ENTRIES:
        said = metadata.get(entry, "").lower()
        named = next((base for mark, base in _BASES.items() if said.startswith(mark)), None)
        if named is not None and family and named != family:
            raise ValueError(
                f"{path} is a LoRA for {named}, as it says itself ({said}), and this model is {family}. "
                "Give one that was made for it."
            )


def _peft_alphas(weights: WeightFiles, path: Path):
    """Return a function from a layer's name to its alpha, as peft notes it: in the metadata that diffusers writes, or
    in adapter_config.json beside the file; None where nothing is noted."""
    noted: dict[str, Any] = {}
    try:
        for key, value in json.loads(weights.metadata.get("lora_adapter_metadata", "{}")).items():
            component, _, setting = key.partition(".")
            noted.setdefault(component, {})[setting] = value
    except (ValueError, AttributeError):
        logger.warning("%s: left out its metadata, which cannot be read.", path.name)
    beside = weights.path.with_name("adapter_config.json")
    if weights.path.name == _IN_FOLDER[1] and beside.is_file():
        noted[""] = read_json(beside)

    def alpha_of(name: str) -> float | None:
        component = name.split(".")[0] if name.split(".")[0] in noted else ""
        settings = noted.get(component, {})
        alpha = _of_layer(settings, "alpha_pattern", name, settings.get("lora_alpha"))
        rank = _of_layer(settings, "rank_pattern", name, settings.get("r"))
        if not isinstance(alpha, int | float) or not isinstance(rank, int):
            return None
        return rank_stabilized(alpha, rank) if settings.get("use_rslora") else float(alpha)

    return alpha_of


def _of_layer(settings: Mapping[str, Any], pattern: str, name: str, usual: object) -> object:
    """Return what peft's settings have for a layer: the first pattern that its name ends in, else what is usual."""
    patterns = settings.get(pattern)
    named = patterns.items() if isinstance(patterns, dict) else ()
    return next((value for end, value in named if name == end or name.endswith(f".{end}")), usual)
