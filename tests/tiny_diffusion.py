"""Tiny Stable Diffusions with random weights: as folders in the layout of diffusers, and as one file."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

WORDS = ["a</w>", "fox</w>", "robot</w>", *"abcdefghijklmnopqrstuvwxyz", *[f"{c}</w>" for c in "bcfortxndh"], "fo"]
VOCABULARY = [*WORDS, "<|startoftext|>", "<|endoftext|>"]
WHOLE = 49408  # tokens of CLIP


def write_scheduler(folder: Path, **changes) -> None:
    from diffusers import PNDMScheduler

    scheduler = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **changes)
    scheduler.save_pretrained(folder / "scheduler")


def write_tokenizer(folder: Path) -> None:
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("#version: 0.2\nf o\nfo x</w>\n")
    options = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    options |= {"pad_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(options))


def text_config(width: int, tokens: int, heads: int = 2, layers: int = 2):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
        pad_token_id=tokens - 1,
    )


def make_vae(channels: int, groups: int, **more):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=(channels, channels),
        layers_per_block=1,
        norm_num_groups=groups,
        **more,
    )


def make_unet(channels: int, groups: int, width: int, heads: int, **more):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        cross_attention_dim=width,
        attention_head_dim=heads,
        block_out_channels=(channels, channels),
        layers_per_block=1,
        norm_num_groups=groups,
        **more,
    )


def write_folder(root: Path, two: bool = False) -> Path:
    """Write a model of the family of SD 1.x, or with `two` text encoders of SDXL's."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    write_tokenizer(root / "tokenizer")
    CLIPTextModel(text_config(16, len(VOCABULARY))).save_pretrained(root / "text_encoder")
    make_vae(16, 8, scaling_factor=0.6, shift_factor=0.1).save_pretrained(root / "vae")
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    added |= {"projection_class_embeddings_input_dim": 24 + 6 * 8}
    make_unet(16, 8, 16 + 24 if two else 16, 2, **(added if two else {})).save_pretrained(root / "unet")
    write_scheduler(root)
    index = {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "PNDMScheduler"]}
    index |= {"vae": ["diffusers", "AutoencoderKL"], "unet": ["diffusers", "UNet2DConditionModel"]}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    if two:
        write_tokenizer(root / "tokenizer_2")
        second = CLIPTextModelWithProjection(text_config(24, len(VOCABULARY)))
        second.save_pretrained(root / "text_encoder_2")
        index |= {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
        index |= {"_class_name": "StableDiffusionXLPipeline", "tokenizer_2": ["transformers", "CLIPTokenizer"]}
    (root / "model_index.json").write_text(json.dumps(index))
    return root


def single_file_weights() -> dict[str, torch.Tensor]:
    """Make the weights of an SD 1.x in one file, in half precision, under the names of such files."""
    from comfyui_stylegan_fusion.sds.priors.ldm_names import exchanged, unet_prefixes, vae_prefixes
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    unet, vae = make_unet(32, 32, 64, 8), make_vae(32, 32)
    text = CLIPTextModel(text_config(64, WHOLE, heads=1))
    parts = {
        "model.diffusion_model.": (unet, lambda name: exchanged(name, unet_prefixes(unet))),
        "first_stage_model.": (vae, lambda name: exchanged(name, vae_prefixes(vae))),
        "cond_stage_model.transformer.": (text, lambda name: f"text_model.{name.removeprefix('text_model.')}"),
    }
    found = {}
    for prefix, (module, named) in parts.items():
        found |= {prefix + named(name): value.half() for name, value in module.state_dict().items()}
    return found


def write_single_file(path: Path, weights: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({name: value.contiguous() for name, value in weights.items()}, path, metadata)
    return path
