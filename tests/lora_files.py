"""LoRA files with random numbers, in the layouts that circulate, for the layers of a model in diffusers' classes."""

from pathlib import Path

import torch
from safetensors.torch import save_file

RANK = 4

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONVOLUTION = "mid_block.resnets.0.conv1"
TEXT = "encoder.layers.1.self_attn.q_proj"


class Layers:
    """Layers gives the sizes of a model's layers, and random numbers that are small enough."""

    def __init__(self, model):
        self.model, self.random = model, torch.Generator().manual_seed(7)

    def shape(self, name: str) -> list[int]:
        whole = self.model.text_encoder if name == TEXT else self.model.unet
        modules = {key.removeprefix("text_model."): module for key, module in whole.named_modules()}
        return list(modules[name].weight.shape)

    def numbers(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.random) * 0.15

    def pair(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The matrices up and down of a layer, those of a convolution as convolutions."""
        out, *into = self.shape(name)
        return self.numbers(out, RANK, *[1] * (len(into) - 1)), self.numbers(RANK, *into)


def kohya_name(name: str) -> str:
    flat = name.replace(".", "_")
    return f"lora_te_text_model_{flat}" if name == TEXT else f"lora_unet_{flat}"


def kohya(layers: Layers) -> dict:
    made = {}
    for name in (ATTENTION, OUT, CONVOLUTION, TEXT):
        up, down = layers.pair(name)
        parts = {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(2.0)}
        made |= {f"{kohya_name(name)}.{key}": value for key, value in parts.items()}
    return made


def latent_diffusion_names(layers: Layers) -> dict:
    up, down = layers.pair(ATTENTION)
    name = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    return {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down, f"{name}.alpha": torch.tensor(1.0)}


def core(layers: Layers) -> dict:
    (up, down), name = layers.pair(CONVOLUTION), kohya_name(CONVOLUTION)
    middle = layers.numbers(RANK, RANK, *down.shape[2:])
    parts = {"lora_up.weight": up, "lora_down.weight": down[:, :, :1, :1].contiguous(), "lora_mid.weight": middle * 5}
    return {f"{name}.{key}": value for key, value in parts.items()}


def dora(layers: Layers) -> dict:
    made = {}
    for name, of_inputs in ((ATTENTION, False), (OUT, True), (CONVOLUTION, False)):
        (up, down), (out, into, *rest) = layers.pair(name), layers.shape(name)
        scale = layers.numbers(*([1, into] if of_inputs else [out, 1]), *[1] * len(rest)).abs() + 0.5
        parts = {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(3.0), "dora_scale": scale}
        made |= {f"{kohya_name(name)}.{key}": value for key, value in parts.items()}
    return made


def loha(layers: Layers) -> dict:
    made = {}
    for name in (ATTENTION, TEXT, CONVOLUTION):
        out, into, *rest = layers.shape(name)
        size = into * (rest[0] * rest[1] if rest else 1)
        parts = {f"hada_w{n}_a": layers.numbers(out, RANK) * 3 for n in (1, 2)}
        parts |= {f"hada_w{n}_b": layers.numbers(RANK, size) * 3 for n in (1, 2)}
        if name == CONVOLUTION:  # around a core
            parts = {f"hada_w{n}_a": layers.numbers(RANK, out) * 3 for n in (1, 2)}
            parts |= {f"hada_w{n}_b": layers.numbers(RANK, into) * 3 for n in (1, 2)}
            parts |= {f"hada_t{n}": layers.numbers(RANK, RANK, *rest) * 3 for n in (1, 2)}
        parts["alpha"] = torch.tensor(2.0)
        made |= {f"{kohya_name(name)}.{key}": value for key, value in parts.items()}
    return made


def lokr(layers: Layers) -> dict:
    made = {}
    for name in (ATTENTION, CONVOLUTION):
        out, into, *rest = layers.shape(name)
        parts = {"lokr_w1": layers.numbers(4, 4) * 3, "alpha": torch.tensor(2.0)}
        if rest:
            parts["lokr_w2"] = layers.numbers(out // 4, into // 4, *rest)
        else:
            parts |= {"lokr_w2_a": layers.numbers(out // 4, RANK), "lokr_w2_b": layers.numbers(RANK, into // 4) * 3}
        made |= {f"{kohya_name(name)}.{key}": value for key, value in parts.items()}
    return made


def whole(layers: Layers) -> dict:
    name, out = kohya_name(CONVOLUTION), layers.shape(CONVOLUTION)
    norm = kohya_name("mid_block.resnets.0.norm1")
    size = layers.shape("mid_block.resnets.0.norm1")
    made = {f"{name}.diff": layers.numbers(*out), f"{name}.diff_b": layers.numbers(out[0])}
    return made | {f"{norm}.w_norm": layers.numbers(*size), f"{norm}.b_norm": layers.numbers(*size)}


def diffusers_text(layers: Layers) -> dict:
    up, down = layers.pair(TEXT)
    name = f"text_encoder.text_model.{TEXT}.lora_linear_layer"
    return {f"{name}.up.weight": up, f"{name}.down.weight": down}


def attention_processors(layers: Layers) -> dict:
    up, down = layers.pair(ATTENTION)
    out_up, out_down = layers.pair(OUT)
    name = ATTENTION.replace(".to_", ".processor.to_")
    out = OUT.replace(".to_out.0", ".processor.to_out")
    made = {f"unet.{name}_lora.up.weight": up, f"unet.{name}_lora.down.weight": down}
    return made | {f"unet.{out}_lora.up.weight": out_up, f"unet.{out}_lora.down.weight": out_down}


LAYOUTS = {
    "kohya": kohya,
    "latent diffusion names": latent_diffusion_names,
    "core": core,
    "dora": dora,
    "loha": loha,
    "lokr": lokr,
    "whole": whole,
    "text of diffusers": diffusers_text,
    "attention processors": attention_processors,
}
"""The layouts that ComfyUI reads, too; those of diffusers and peft today it does not, for a UNet of Stable Diffusion."""


def write(tensors: dict, path: Path, metadata: dict[str, str] | None = None) -> Path:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)
    return path


def write_layouts(model, folder: Path) -> dict[str, Path]:
    layers = Layers(model)
    return {name: write(make(layers), folder / f"{name}.safetensors") for name, make in LAYOUTS.items()}
