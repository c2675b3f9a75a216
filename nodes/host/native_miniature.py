"""The miniature's Stable Diffusion as the host's own objects: its UNet, VAE and text encoder classes, its weights files.

Imported by its node when it runs: a host that lacks a part of it can run all the others."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import comfy.clip_vision
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from safetensors.torch import load_file

from ...miniature import WEIGHTS
from .guiders import UNKNOWN_WORDS

FOLDER = WEIGHTS / "diffusion"
CLIP_FOLDER = WEIGHTS / "clip"


def load_model(folder: Path = FOLDER):
    """Load the UNet as MODEL."""
    config, state = _config(folder / "unet"), _weights(folder / "unet" / "diffusion_pytorch_model.safetensors")
    scaling = _config(folder / "vae")["scaling_factor"]
    widths, depth = config["block_out_channels"], config["layers_per_block"]
    attention = [int(kind.startswith("CrossAttn")) for kind in config["down_block_types"]]
    settings = {
        "image_size": config["sample_size"],
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [width // widths[0] for width in widths],
        "num_res_blocks": [depth] * len(widths),
        "transformer_depth": [here for here in attention for _ in range(depth)],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [here for here in attention for _ in range(depth + 1)],
        "context_dim": config["cross_attention_dim"],
        "use_spatial_transformer": True,
        "use_checkpoint": False,
        "legacy": False,
        "adm_in_channels": None,
        "use_linear_in_transformer": False,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "dtype": torch.float32,
    }
    model_config = comfy.supported_models.SD15(settings)
    # SD15 writes its own eight heads; diffusers calls the number of heads attention_head_dim.
    model_config.unet_config.update(num_heads=config["attention_head_dim"], num_head_channels=-1)
    model_config.latent_format.scale_factor = scaling
    model_config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(model_config, model_type=comfy.model_base.ModelType.EPS)
    names = comfy.utils.unet_to_diffusers(model_config.unet_config)
    model.diffusion_model.load_state_dict({names[name]: value for name, value in state.items()})
    # Newer hosts load weights lazily with a patcher class of their own.
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def load_vae(folder: Path = FOLDER):
    """Load the autoencoder as VAE."""
    config, state = _config(folder / "vae"), _weights(folder / "vae" / "diffusion_pytorch_model.safetensors")
    widths = config["block_out_channels"]
    settings = {
        "double_z": True,
        "z_channels": config["latent_channels"],
        "resolution": config["sample_size"],
        "in_channels": config["in_channels"],
        "out_ch": config["out_channels"],
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    parameters = {"params": {"ddconfig": settings, "embed_dim": config["latent_channels"]}}
    vae = comfy.sd.VAE(sd=_host_vae_names(state, len(widths)), config=parameters, dtype=torch.float32)
    vae.downscale_ratio = vae.upscale_ratio = 2 ** (len(widths) - 1)
    vae.latent_channels = config["latent_channels"]
    return vae


def load_clip(folder: Path = FOLDER, clip_folder: Path = CLIP_FOLDER):
    """Load tokenizer and text encoder as CLIP. A second text encoder in it, for the same tokens, speaks the language of
    `load_clip_vision`; conditioning does not pass through it."""
    encoder_class, state = _text_encoder(folder / "text_encoder")
    common_class, common_state = _text_encoder(clip_folder / "text")
    width = _config(folder / "text_encoder")["hidden_size"]

    class WordTokenizer(comfy.sd1_clip.SDTokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(
                tokenizer_path=str(folder / "tokenizer"),
                max_length=_config(folder / "text_encoder")["max_position_embeddings"],
                embedding_directory=embedding_directory,
                embedding_size=width,
                embedding_key="clip_l",
                tokenizer_data=tokenizer_data or {},
            )

    class PromptTokenizer(comfy.sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=WordTokenizer)

        def tokenize_with_weights(self, text, *arguments, **options):
            tokens = super().tokenize_with_weights(text, *arguments, **options)
            of_text = _Tokens(tokens[self.clip_name])
            of_text.unknown = _unknown(getattr(self, self.clip).tokenizer, text)
            return {**tokens, self.clip_name: of_text, "common": tokens[self.clip_name]}

    class PromptEncoder(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=encoder_class)
            self.clip_common = common_class(device, dtype, model_options)

        def encode_token_weights(self, token_weight_pairs):
            encoded = super().encode_token_weights(token_weight_pairs)
            unknown = getattr(token_weight_pairs[self.clip_name], "unknown", ())
            return (*encoded[:2], {UNKNOWN_WORDS: list(unknown)}) if unknown else encoded

    clip = comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(PromptTokenizer, PromptEncoder),
        folder_paths.get_folder_paths("embeddings"),
        parameters=comfy.utils.calculate_parameters(state),
        model_options={"dtype": torch.float32},
    )
    clip.load_sd(state)
    clip.cond_stage_model.clip_common.load_sd(common_state)
    return clip


class _Tokens(list):
    """_Tokens are the host's tokens of a text, with the words of it that are `unknown`."""

    unknown: Sequence[str] = ()


def _unknown(tokenizer, text: str) -> list[str]:
    """Return the words of a text that are more than one token: they are in no caption that the miniature learned from."""
    text = re.sub(r"\bembedding:\S+", " ", text)
    words = dict.fromkeys(word.lower() for word in re.findall(r"[^\W\d_]+", text))
    return [word for word in words if len(tokenizer(word, add_special_tokens=False)["input_ids"]) > 1]


def load_clip_vision(folder: Path = CLIP_FOLDER / "vision"):
    """Load the picture encoder as CLIP_VISION."""
    model = comfy.clip_vision.ClipVisionModel(str(folder / "config.json"))
    model.load_sd(_weights(folder / "model.safetensors"))
    return model


def _text_encoder(folder: Path):
    """Make a class of the host's for the text encoder in the layout of transformers, and its weights."""
    config, state = _config(folder), _weights(folder / "model.safetensors")
    # transformers 5 leaves the prefix out, older ones write it; the host wants it.
    state = {
        name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": value
        for name, value in state.items()
    }
    length, start, end = config["max_position_embeddings"], config["bos_token_id"], config["eos_token_id"]
    vocabulary, width = state["text_model.embeddings.token_embedding.weight"].shape
    text_config = {
        "hidden_act": config["hidden_act"],
        "hidden_size": width,
        "intermediate_size": config["intermediate_size"],
        "num_attention_heads": config["num_attention_heads"],
        "num_hidden_layers": config["num_hidden_layers"],
        "max_position_embeddings": length,
        "num_positions": length,
        "vocab_size": vocabulary,
        "eos_token_id": end,
    }

    class TextEncoder(comfy.sd1_clip.SDClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(
                device=device,
                dtype=dtype,
                max_length=length,
                textmodel_json_config=text_config,
                special_tokens={"start": start, "end": end, "pad": end},
                return_projected_pooled=False,
                model_options=model_options or {},
            )
            # The host's table of token embeddings always has the 49408 rows of the large vocabulary.
            table = self.operations.Embedding(vocabulary, width, dtype=dtype, device=device)
            self.transformer.set_input_embeddings(table)

    return TextEncoder, state


def _config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _weights(path: Path) -> dict[str, torch.Tensor]:
    # A lazy host keeps the tensors that it is given, so they must be in full precision already.
    return {name: value.float() for name, value in load_file(path).items()}


def _host_vae_names(state: dict[str, torch.Tensor], levels: int) -> dict[str, torch.Tensor]:
    """Give the autoencoder's weights the host's names; its own conversion expects four levels."""
    parts = {
        "mid_block.resnets.0.": "mid.block_1.",
        "mid_block.resnets.1.": "mid.block_2.",
        "mid_block.attentions.0.": "mid.attn_1.",
        **{f"encoder.down_blocks.{i}.": f"encoder.down.{i}." for i in range(levels)},
        **{f"decoder.up_blocks.{i}.": f"decoder.up.{levels - 1 - i}." for i in range(levels)},
        ".resnets.": ".block.",
        "downsamplers.0.": "downsample.",
        "upsamplers.0.": "upsample.",
        "conv_shortcut": "nin_shortcut",
        "conv_norm_out": "norm_out",
    }
    attention = {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}
    named = {}
    for name, value in state.items():
        for old, new in parts.items():
            name = name.replace(old, new)
        if ".attn_1." in name:
            for old, new in attention.items():
                name = name.replace(old, new)
            if value.ndim == 2:  # the host computes attention with 1x1 convolutions
                value = value[:, :, None, None]
        named[name] = value
    return named
