"""Another autoencoder for a diffusion model, from a file or a folder of its own: `--vae FILE`."""

from pathlib import Path
from typing import Any

from .building import Renamed, build_vae
from .folders import MODEL_STEM, read_json, weight_files
from .ldm_names import DIFFUSERS_ROW, LDM_ROW, vae_config, vae_prefixes
from .single_files import OUTSIDE_VAE, VAE_PREFIX
from .weights import WeightFiles

_LATENT = "scaling_factor", "shift_factor"  # what the UNet was trained on, whatever autoencoder makes it


def read_vae(path: Path, own: Any) -> Any:
    """Read the autoencoder that takes the place of a model's `own`, in float32 on the CPU: a safetensors file with the
    names of the latent diffusion programs or of diffusers, a whole checkpoint, of which the rest is left out, or a folder
    of diffusers.

    What no size of the weights tells, and how latents are scaled, is as in `own`. Raises FileNotFoundError and ValueError
    with a sentence."""
    latent = {name: getattr(own.config, name) for name in _LATENT if name in own.config}
    if path.is_dir():
        config = read_json(path / "config.json") | latent
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
    ldm = LDM_ROW.format(0, 0) + ".conv1.weight" in part
    try:
        config = own | vae_config(part, LDM_ROW if ldm else DIFFUSERS_ROW)
    except (LookupError, ValueError):
        raise ValueError(
            f"{path} holds no VAE of Stable Diffusion's kind. Give a VAE as one safetensors file, or as a folder of "
            "diffusers with config.json."
        ) from None
    return build_vae(config, part, path, vae_prefixes if ldm else lambda vae: {})
