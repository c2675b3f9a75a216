"""Another autoencoder for a diffusion model, from a file or a folder of its own: `--vae FILE`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .building import TINY_VAE, Renamed, build_vae
from .folders import MODEL_STEM, read_json, weight_files
from .ldm_names import DIFFUSERS_ROW, LDM_ROW, vae_config, vae_prefixes
from .single_files import OUTSIDE_VAE, VAE_PREFIX
from .weights import WeightFiles

_TINY = re.compile(r"(?:tae\w*_)?(?:(encoder|decoder)\.)?(?:layers\.)?(\d+)\.(.+)")
_LATENT = "scaling_factor", "shift_factor"  # what the UNet was trained on, whatever autoencoder makes it


def read_vae(path: Path, own: Any) -> Any:
    """Read the autoencoder that takes the place of a model's `own`, in float32 on the CPU: a safetensors file with the
    names of the latent diffusion programs or of diffusers, a whole checkpoint, of which the rest is left out, or a folder
    of diffusers. TAESD, whose latents are scaled already, is one of these or the two files of its authors, of which the
    encoder's is given.

    What no size of the weights tells, and how latents are scaled, is as in `own`. Raises FileNotFoundError and ValueError
    with a sentence."""
    latent = {name: getattr(own.config, name) for name in _LATENT if name in own.config}
    if path.is_dir():
        config = read_json(path / "config.json")
        if config.get("_class_name") != TINY_VAE:
            config |= latent
        vae = build_vae(config, WeightFiles(*weight_files(path, MODEL_STEM, half=False)), path)
    else:
        vae = _from_file(path, dict(own.config))
    given, wanted = ((one.config.latent_channels, 2 ** (len(one.config.block_out_channels) - 1)) for one in (vae, own))
    if given != wanted:
        raise ValueError(
            f"The VAE in {path} makes latents of {given[0]} channels, {given[1]} times smaller than the image, and the "
            f"model reads {wanted[0]}, {wanted[1]} times smaller. Give a VAE of the model's own family."
        )
    return vae


def _from_file(path: Path, own: dict[str, Any]) -> Any:
    weights = WeightFiles(path)
    prefix = VAE_PREFIX if any(name.startswith(VAE_PREFIX) for name in weights) else ""
    names = [name for name in weights if name.startswith(prefix) and not name.startswith(OUTSIDE_VAE, len(prefix))]
    part = Renamed(weights, {name.removeprefix(prefix): name for name in names})
    if tiny := tiny_names(part, path):
        return build_vae({"_class_name": TINY_VAE}, _with_decoder(tiny, path), path)
    ldm = LDM_ROW.format(0, 0) + ".conv1.weight" in part
    try:
        config = own | vae_config(part, LDM_ROW if ldm else DIFFUSERS_ROW)
    except (LookupError, ValueError):
        raise ValueError(
            f"{path} holds no VAE of Stable Diffusion's kind. Give a VAE as one safetensors file, or as a folder of "
            "diffusers with config.json."
        ) from None
    return build_vae(config, part, path, vae_prefixes if ldm else lambda vae: {})


def tiny_names(weights: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """Return the weights of TAESD under diffusers' names, whatever names they go by; none where they are no TAESD's. In its
    authors' files, which have no part's name, the file's says which it is."""
    names = {}
    for name in weights:
        found = _TINY.fullmatch(name)
        if found is None:
            return {}
        own = "layers." in name
        part = found[1] or ("decoder" if "decoder" in path.stem else "encoder")
        # The authors' decoder begins with a clamp, which diffusers does not count.
        number = int(found[2]) - (part == "decoder" and not own)
        names[f"{part}.layers.{number}.{found[3]}"] = name
    return Renamed(weights, names)


def _with_decoder(weights: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """Add the decoder from the file beside the encoder's, where that is one alone. Raises ValueError with a sentence."""
    if any(name.startswith("decoder.") for name in weights):
        return weights
    beside = path.with_name(path.name.replace("encoder", "decoder"))
    if beside == path or not beside.exists():
        raise ValueError(
            f"{path} holds the encoder of TAESD alone; put {path.stem.replace('encoder', 'decoder')} beside it."
        )
    return dict(weights) | dict(tiny_names(WeightFiles(beside), beside))
