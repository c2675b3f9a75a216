"""What is known of the host's model families: the images that they were made for, and what fits to them."""

import math

import torch

from ...sds.priors.ldm_names import FAMILIES

# The longer side in pixels of the images that a family was trained on, by the host's name for its configuration;
# 1024 for all others. Stable Cascade's encoder makes a 24 x 24 latent, that of a 1024-pixel image, of 768 pixels.
_SIZES = {"SD15": 512, "SD20": 512, "Stable_Cascade_C": 768, "WAN21_T2V": 832, "HunyuanImage21": 2048}
_SIZE_OF_NEWER = 1024
_SIZE_OF_V_PREDICTION = {"SD20": 768}
# Where configurations note the width of the text that the model reads.
_TEXT_WIDTHS = ("context_dim", "context_in_dim", "joint_attention_dim", "cap_feat_dim")


def native_size(model, downscale: int) -> int:
    """Return the longer side in pixels of the images that a MODEL was trained on; a model may name its own in
    latents."""
    config = model.model.model_config.unet_config
    own = config.get("image_size") or config.get("input_size")
    if own and own != 32:  # 32 is what the host writes for every Stable Diffusion
        return own * downscale
    predicts_velocity = getattr(model.model.model_type, "name", None) == "V_PREDICTION"
    for base in type(model.model.model_config).__mro__:
        if predicts_velocity and base.__name__ in _SIZE_OF_V_PREDICTION:
            return _SIZE_OF_V_PREDICTION[base.__name__]
        if base.__name__ in _SIZES:
            return _SIZES[base.__name__]
    return _SIZE_OF_NEWER


def family_of(model) -> str:
    """Return what people call models of a MODEL's kind; "" for kinds of its own, such as the miniature."""
    width = model.model.model_config.unet_config.get("context_dim")
    return FAMILIES.get(width, "") if isinstance(width, int) else ""


def side_multiple(model, downscale: int) -> int:
    """Return what the sides of images have to be multiples of: what becomes one latent, or one patch of latents."""
    patch = model.model.model_config.unet_config.get("patch_size") or 1
    patch = patch[-1] if isinstance(patch, list | tuple) else patch
    return downscale * patch if isinstance(patch, int) else downscale


def check_sides(height: int, width: int, multiple: int) -> None:
    """Raise ValueError with a sentence when images of this size do not fit the model."""
    for name, side in (("height", height), ("width", width)):
        if side <= 0 or side % multiple:
            raise ValueError(
                f"Images of {height} x {width} pixels do not fit this model: their {name} has to be a multiple of "
                f"{multiple}, such as {max(multiple, math.ceil(side / multiple) * multiple)}. Change image_size."
            )


def downscale_of(vae) -> int:
    """Tell how many pixels, along a side, a VAE makes one latent of. Raises ValueError for VAEs of other things than
    images."""
    ratio = vae.downscale_ratio
    if isinstance(ratio, tuple) and len(ratio) == 3:  # of video: frames, height, width
        ratio = ratio[1] if ratio[1] == ratio[2] else None
    if not isinstance(ratio, int) or vae.latent_dim not in (2, 3) or vae.output_channels not in (3, 4):
        raise ValueError("This VAE is not made for images; load the VAE of an image model.")
    return ratio


def check_family(model, vae, conds: dict[str, list[dict]], latent_format) -> None:
    """Raise ValueError with a sentence when MODEL, VAE and prompts (as a guider keeps them) do not belong together."""
    if latent_format.latent_dimensions not in (2, 3):
        raise ValueError(
            "The MODEL makes sound or shapes, not images; load an image model such as Stable Diffusion 1.5."
        )
    channels, made = latent_format.latent_channels, getattr(vae, "latent_channels", None)
    if made is not None and made != channels:
        raise ValueError(
            f"The VAE makes latents of {made} channels, but the MODEL works on {channels}; "
            "load the VAE that belongs to the diffusion model."
        )
    config = model.model.model_config.unet_config
    wanted = next((config[name] for name in _TEXT_WIDTHS if isinstance(config.get(name), int)), None)
    for cond in (cond for named in conds.values() for cond in named):
        text = cond.get("cross_attn")
        if wanted and torch.is_tensor(text) and text.shape[-1] != wanted:
            raise ValueError(
                f"The CONDITIONING has width {text.shape[-1]}, but the MODEL reads {wanted}: they belong to different "
                "model families. Encode the prompt with the CLIP of the same checkpoint."
            )


MISFITS = (RuntimeError, KeyError, TypeError, AttributeError)
"""What models and autoencoders of the host raise for inputs that do not fit them."""


def misfit(error: Exception) -> ValueError:
    """Return the error to raise from one of MISFITS that a model raised for its prompts; it names what does not fit."""
    said = str(error).strip().splitlines()
    return ValueError(
        f"The MODEL cannot work with this CONDITIONING ({type(error).__name__}: {said[0] if said else 'no words'}). "
        "Encode the prompts with the CLIP of the same checkpoint, with the nodes that are made for this model family."
    )
