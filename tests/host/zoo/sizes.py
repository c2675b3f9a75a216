"""Small settings that several families share."""


def unet(context: int, channels: int = 64, adm: int | None = None, linear: bool = True, **changes) -> dict:
    """UNet of Stable Diffusion with two levels and attention on the lower one."""
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": channels,
        "channel_mult": [1, 2],
        "num_res_blocks": [1, 1],
        "transformer_depth": [0, 1],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [0, 0, 1, 1],
        "context_dim": context,
        "use_spatial_transformer": True,
        "use_checkpoint": False,
        "legacy": False,
        "adm_in_channels": adm,
        **({} if adm is None else {"num_classes": "sequential"}),
        "use_linear_in_transformer": linear,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
    } | changes


POOLED = {"pooled_output": (1, 1280)}
SD20 = unet(1024)
SDXL = unet(2048, adm=2816)
# What tells the v-prediction checkpoints of SD 2 apart: the spread of one bias.
SD20_V_MARK = "output_blocks.11.1.transformer_blocks.0.norm1.bias"

FLUX_PARAMETERS = "comfy.ldm.flux.model:FluxParams"
FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
CHROMA = {
    **{k: v for k, v in FLUX.items() if k != "guidance_embed"},
    "in_channels": 64,
    "out_channels": 64,
    "vec_in_dim": None,
    "in_dim": 64,
    "out_dim": 64,
    "hidden_dim": 64,
    "n_layers": 1,
}
LUMINA = {
    "patch_size": 2,
    "in_channels": 16,
    "dim": 64,
    "n_layers": 1,
    "n_refiner_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 2,
    "multiple_of": 32,
    "ffn_dim_multiplier": 1.0,
    "qk_norm": True,
    "axes_dims": [8, 12, 12],
    "axes_lens": [300, 512, 512],
}
ZIMAGE = LUMINA | {
    "dim": 256,
    "n_heads": 8,
    "n_kv_heads": 8,
    "cap_feat_dim": 2560,
    "rope_theta": 256.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
COSMOS = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "concat_padding_mask": True,
    "crossattn_emb_channels": 1024,
    "pos_emb_cls": "rope3d",
    "pos_emb_learnable": True,
    "pos_emb_interpolation": "crop",
    "min_fps": 1,
    "max_fps": 30,
    "use_adaln_lora": True,
    "adaln_lora_dim": 32,
    "num_blocks": 1,
    "num_heads": 2,
    "extra_per_block_abs_pos_emb": False,
    "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0,
    "rope_t_extrapolation_ratio": 1.0,
    "extra_h_extrapolation_ratio": 1.0,
    "extra_w_extrapolation_ratio": 1.0,
    "extra_t_extrapolation_ratio": 1.0,
    "rope_enable_fps_modulation": False,
}
OMNIGEN = {
    "axes_dim_rope": [8, 12, 12],
    "axes_lens": [1024, 1664, 1664],
    "hidden_size": 64,
    "in_channels": 16,
    "multiple_of": 32,
    "norm_eps": 1e-5,
    "num_attention_heads": 2,
    "num_kv_heads": 2,
    "num_layers": 1,
    "num_refiner_layers": 1,
    "patch_size": 2,
    "timestep_scale": 1000.0,
}
PIXART = {"num_heads": 2, "patch_size": 2, "hidden_size": 96, "in_channels": 4, "depth": 1}
PIXART_SIZE = 136  # its class divides by zero for latents of fewer than 33 x 33
HUNYUAN_VIDEO = {
    "in_channels": 64,
    "out_channels": 64,
    "patch_size": [1, 1],
    "axes_dim": [16, 16],
    "vec_in_dim": None,
    "context_in_dim": 3584,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 1,
    "theta": 256,
    "qkv_bias": True,
    "guidance_embed": False,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
}
HUNYUAN_PARAMETERS = "comfy.ldm.hunyuan_video.model:HunyuanVideoParams"
HYDIT = {
    "hidden_size": 64,
    "depth": 2,
    "num_heads": 2,
    "text_states_dim": 1024,
    "text_states_dim_t5": 64,
}
HYDIT_EXTRAS = {"conditioning_mt5xl": (1, 256, 64)}
HYDIT_MASKS = {"attention_mask": (77, 20), "attention_mask_mt5xl": (256, 20)}
