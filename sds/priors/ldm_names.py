"""What single-file checkpoints (the layout of the latent diffusion programs) call the parts of a model, beside the
names of diffusers and transformers."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
"""What people call models, by the width of a token that their UNet reads."""

_OF_RESNET = {  # of a UNet
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OF_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OF_TEXT_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def unet_prefixes(unet: Any) -> dict[str, str]:
    """Return how the modules of a diffusers UNet are called in single files: by the beginnings of both names."""
    names = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }

    def add_row(block: str, number: int, place: str, attentions: object) -> None:
        names.update({f"{block}.resnets.{number}.{ours}": f"{place}.0.{theirs}" for ours, theirs in _OF_RESNET.items()})
        if attentions:
            names[f"{block}.attentions.{number}"] = f"{place}.1"

    place = 1
    for level, block in enumerate(unet.down_blocks):
        for number in range(len(block.resnets)):
            add_row(f"down_blocks.{level}", number, f"input_blocks.{place}", getattr(block, "attentions", None))
            place += 1
        if block.downsamplers:
            names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{place}.0.op"
            place += 1
    for number in (0, 1):
        inside = {f"mid_block.resnets.{number}.{ours}": theirs for ours, theirs in _OF_RESNET.items()}
        names |= {ours: f"middle_block.{2 * number}.{theirs}" for ours, theirs in inside.items()}
    names["mid_block.attentions.0"] = "middle_block.1"
    place = 0
    for level, block in enumerate(unet.up_blocks):
        attentions = getattr(block, "attentions", None)
        for number in range(len(block.resnets)):
            add_row(f"up_blocks.{level}", number, f"output_blocks.{place}", attentions)
            place += 1
        if block.upsamplers:
            last = f"output_blocks.{place - 1}.{2 if attentions else 1}"
            names[f"up_blocks.{level}.upsamplers.0.conv"] = f"{last}.conv"
    return names


def vae_prefixes(vae: Any) -> dict[str, str]:
    """Return how the modules of a diffusers AutoencoderKL are called in single files, likewise."""
    names = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for side in ("encoder", "decoder"):
        part = getattr(vae, side)
        names |= {f"{side}.{name}": f"{side}.{name}" for name in ("conv_in", "conv_out")}
        names[f"{side}.conv_norm_out"] = f"{side}.norm_out"
        for number in (0, 1):
            names |= _vae_resnet(f"{side}.mid_block.resnets.{number}", f"{side}.mid.block_{number + 1}")
        for ours, theirs in _OF_VAE_ATTENTION.items():
            names[f"{side}.mid_block.attentions.0.{ours}"] = f"{side}.mid.attn_1.{theirs}"
        down = side == "encoder"
        blocks = part.down_blocks if down else part.up_blocks
        for level, block in enumerate(blocks):
            ours = f"{side}.{'down' if down else 'up'}_blocks.{level}"
            theirs = f"{side}.down.{level}" if down else f"{side}.up.{len(blocks) - 1 - level}"
            for number in range(len(block.resnets)):
                names |= _vae_resnet(f"{ours}.resnets.{number}", f"{theirs}.block.{number}")
            names[f"{ours}.downsamplers.0.conv"] = f"{theirs}.downsample.conv"
            names[f"{ours}.upsamplers.0.conv"] = f"{theirs}.upsample.conv"
    return names


def _vae_resnet(ours: str, theirs: str) -> dict[str, str]:
    names = {f"{ours}.{name}": f"{theirs}.{name}" for name in ("norm1", "conv1", "norm2", "conv2")}
    return names | {f"{ours}.conv_shortcut": f"{theirs}.nin_shortcut"}


def exchanged(name: str, prefixes: Mapping[str, str]) -> str:
    """Return a name with its beginning exchanged, up to a dot, as `prefixes` say; as it is where they say nothing."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if (begin := ".".join(parts[:end])) in prefixes:
            return ".".join([prefixes[begin], *parts[end:]])
    return name


def from_open_clip(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Give the weights of OpenCLIP's text encoder under the names of transformers' CLIP, whose attention has its three
    projections apart."""
    plain = {
        "positional_embedding": "embeddings.position_embedding.weight",
        "token_embedding.weight": "embeddings.token_embedding.weight",
        "ln_final.weight": "final_layer_norm.weight",
        "ln_final.bias": "final_layer_norm.bias",
    }
    inside = {theirs: ours for ours, theirs in _OF_TEXT_LAYER.items()}
    for name, value in weights.items():
        if name in plain:
            yield plain[name], value
        elif name == "text_projection":
            yield "text_projection.weight", value.T.contiguous()
        elif name.startswith("transformer.resblocks."):
            layer, rest = name.removeprefix("transformer.resblocks.").split(".", 1)
            begin = f"encoder.layers.{layer}"
            if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
                kind = rest.rpartition("_")[2]
                for letter, third in zip("qkv", value.chunk(3), strict=False):
                    yield f"{begin}.self_attn.{letter}_proj.{kind}", third
            else:
                yield f"{begin}.{exchanged(rest, inside)}", value
        else:
            yield name, value


def unet_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find diffusers' configuration of the UNet with these weights of a single file. Raises LookupError where they
    follow another plan."""
    shapes = {name: weights[name].shape for name in weights if name.endswith("weight")}
    rows = _rows(shapes, "input_blocks", 1)
    levels = _levels(rows, lambda place: f"input_blocks.{place}.0.op.weight" in shapes)
    up_levels = _levels(
        _rows(shapes, "output_blocks", 0),
        lambda place: any(f"output_blocks.{place}.{part}.conv.weight" in shapes for part in (1, 2)),
        ends_with=True,
    )
    widths = [shapes[f"input_blocks.{level[0]}.0.out_layers.3.weight"][0] for level in levels]
    depths = [[_depth(shapes, f"input_blocks.{place}.1") for place in level] for level in levels]
    up_depths = [[_depth(shapes, f"output_blocks.{place}.1") for place in level] for level in up_levels]
    middle = _depth(shapes, "middle_block.1")
    with_attention = (f"input_blocks.{place}.1" for place in rows if _depth(shapes, f"input_blocks.{place}.1"))
    attention = next(with_attention, "middle_block.1")
    linear = len(shapes[f"{attention}.proj_in.weight"]) == 2
    config = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": [len(level) for level in levels],
        "down_block_types": ["CrossAttnDownBlock2D" if any(level) else "DownBlock2D" for level in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if any(level) else "UpBlock2D" for level in up_depths],
        "mid_block_type": _middle_type(shapes, middle),
        "cross_attention_dim": shapes[f"{attention}.transformer_blocks.0.attn2.to_k.weight"][1],
        # Where levels have no attention the number counts for the middle alone, which is as deep as the last level.
        "transformer_layers_per_block": [[depth or middle or 1 for depth in level] for level in depths],
        "reverse_transformer_layers_per_block": [[depth or 1 for depth in level] for level in up_depths],
        # Heads of 64 channels where the projections are linear; eight heads before that. diffusers' name is another's.
        "attention_head_dim": [max(1, width // 64) for width in widths] if linear else 8,
        "use_linear_projection": linear,
    }
    if "label_emb.0.0.weight" in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": shapes["label_emb.0.0.weight"][1],
        }
    return config


LDM_ROW, DIFFUSERS_ROW = "encoder.down.{}.block.{}", "encoder.down_blocks.{}.resnets.{}"
"""What a layer of an autoencoder is called, by its level and its number there."""


def vae_config(weights: Mapping[str, Tensor], row: str = LDM_ROW) -> dict[str, Any]:
    """Find diffusers' configuration of the autoencoder with these weights, under the names of single files or those of
    diffusers. Raises LookupError where they follow another plan."""
    levels = 0
    while f"{row.format(levels, 0)}.conv1.weight" in weights:
        levels += 1
    layers = 0
    while f"{row.format(0, layers)}.conv1.weight" in weights:
        layers += 1
    return {
        "in_channels": weights["encoder.conv_in.weight"].shape[1],
        "out_channels": weights["decoder.conv_out.weight"].shape[0],
        "latent_channels": weights["decoder.conv_in.weight"].shape[1],
        "block_out_channels": [weights[f"{row.format(n, 0)}.conv1.weight"].shape[0] for n in range(levels)],
        "layers_per_block": layers,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "use_quant_conv": "quant_conv.weight" in weights,
        "use_post_quant_conv": "post_quant_conv.weight" in weights,
    }


def text_config(weights: Mapping[str, Tensor], activation: str, end: int) -> dict[str, Any]:
    """Find transformers' configuration of a CLIP text encoder with these weights, under its names. Raises LookupError
    where they follow another plan."""
    tokens, width = weights["embeddings.token_embedding.weight"].shape
    layers = 0
    while f"encoder.layers.{layers}.mlp.fc1.weight" in weights:
        layers += 1
    projection = weights.get("text_projection.weight", torch.empty(width, 0))
    return {
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": weights["encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": weights["embeddings.position_embedding.weight"].shape[0],
        "projection_dim": projection.shape[0],
        "hidden_act": activation,
        "bos_token_id": end - 1,
        "eos_token_id": end,
    }


def _rows(shapes: Mapping[str, Any], blocks: str, first: int) -> list[int]:
    """Return the numbers of the blocks."""
    rows = []
    while any(f"{blocks}.{first}.0.{part}.weight" in shapes for part in ("in_layers.0", "op")):
        rows.append(first)
        first += 1
    return rows


def _levels(rows: list[int], scales, ends_with: bool = False) -> list[list[int]]:
    """Group the blocks by their resolution: those that scale stand between the levels, or end one."""
    levels: list[list[int]] = [[]]
    for place in rows:
        if not scales(place) or ends_with:
            levels[-1].append(place)
        if scales(place):
            levels.append([])
    return levels


def _depth(shapes: Mapping[str, Any], attention: str) -> int:
    depth = 0
    while f"{attention}.transformer_blocks.{depth}.norm1.weight" in shapes:
        depth += 1
    return depth


def _middle_type(shapes: Mapping[str, Any], depth: int) -> str | None:
    if "middle_block.0.in_layers.0.weight" not in shapes:
        return None
    return "UNetMidBlock2DCrossAttn" if depth else "UNetMidBlock2D"
