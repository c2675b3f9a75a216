"""The files that variants load, and the network of their ControlNet, which needs none."""

import shutil
from pathlib import Path

import comfy.cldm.cldm
import comfy.controlnet
import folder_paths
import torch
from project.nodes.host import native_miniature
from safetensors.torch import load_file, save_file


def random_like(shape, scale, generator):
    return scale * torch.randn(shape, generator=generator)


def save_files(place: Path) -> None:
    """A LoRA for every cross-attention of the UNet, one for the text encoder, and a checkpoint with all weights moved."""
    generator = torch.Generator().manual_seed(7)
    (place / "loras").mkdir()
    unet = load_file(native_miniature.FOLDER / "unet" / "diffusion_pytorch_model.safetensors")
    text = load_file(native_miniature.FOLDER / "text_encoder" / "model.safetensors")
    text = {name if name.startswith("text_model.") else f"text_model.{name}": value for name, value in text.items()}
    for file, prefix, state, part in (("unet", "lora_unet", unet, "attn2.to_"), ("clip", "lora_te", text, ".mlp.fc")):
        lora = {}
        for name, value in state.items():
            if part in name and name.endswith("weight"):
                key = f"{prefix}_{name.removesuffix('.weight').replace('.', '_')}"
                lora[f"{key}.lora_up.weight"] = random_like((value.shape[0], 4), 0.05, generator)
                lora[f"{key}.lora_down.weight"] = random_like((4, value.shape[1]), 0.5, generator)
                lora[f"{key}.alpha"] = torch.tensor(4.0)
        save_file(lora, place / "loras" / f"{file}.safetensors")
    folder_paths.add_model_folder_path("loras", str(place / "loras"))
    shutil.copytree(native_miniature.FOLDER, place / "dreambooth")
    moved = {
        name: value + random_like(value.shape, 0.05 * value.float().std().nan_to_num(), generator).to(value.dtype)
        for name, value in unet.items()
    }
    save_file(moved, place / "dreambooth" / "unet" / "diffusion_pytorch_model.safetensors")


def control_net(model):
    """ComfyUI's ControlNet of the miniature's shape, with weights that matter."""
    config = model.model.model_config.unet_config
    names = (
        "image_size",
        "in_channels",
        "model_channels",
        "channel_mult",
        "num_res_blocks",
        "transformer_depth",
        "transformer_depth_middle",
        "context_dim",
        "use_spatial_transformer",
        "legacy",
        "num_heads",
    )
    network = comfy.cldm.cldm.ControlNet(hint_channels=3, **{name: config[name] for name in names})
    generator = torch.Generator().manual_seed(5)
    for name, value in network.named_parameters():
        scale = 1.5 / max(1, value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1
        value.copy_(random_like(value.shape, scale, generator))
        if value.ndim == 1 and name.endswith("weight"):
            value.add_(1)
    return comfy.controlnet.ControlNet(network.eval(), load_device=model.load_device)
