"""The node of the pack."""

import comfy.model_base
import comfy.model_management
import comfy.sd
from comfy_api.v0_0_2 import ComfyExtension, io


class AsStarted(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="AsStarted",
            category="testing",
            inputs=[
                io.Model.Input("model"),
                io.Vae.Input("vae"),
            ],
            outputs=[io.Model.Output(display_name="model"), io.Vae.Output(display_name="vae")],
        )

    @classmethod
    def execute(cls, model, vae) -> io.NodeOutput:
        device = comfy.model_management.get_torch_device()
        given = model.model.model_config
        config = type(given)(dict(given.unet_config))
        config.unet_config, config.latent_format = dict(given.unet_config), given.latent_format
        state = model.model.diffusion_model.state_dict()
        weights = comfy.model_management.unet_dtype(device, supported_dtypes=config.supported_inference_dtypes)
        computing = comfy.model_management.unet_manual_cast(weights, device, config.supported_inference_dtypes)
        config.set_inference_dtype(weights, computing)
        again = comfy.model_base.BaseModel(config, model_type=comfy.model_base.ModelType.EPS)
        again.diffusion_model.to(weights).load_state_dict(state)
        patcher = type(model)(again, load_device=model.load_device, offload_device=model.offload_device)

        encoder = vae.first_stage_model
        parts = {"ddconfig": settings_of(encoder), "embed_dim": vae.latent_channels}
        other = comfy.sd.VAE(sd=encoder.state_dict(), config={"params": parts})
        other.downscale_ratio = other.upscale_ratio = vae.downscale_ratio
        other.latent_channels = vae.latent_channels
        return io.NodeOutput(patcher, other)


def settings_of(autoencoder) -> dict:
    """The configuration that the miniature's autoencoder was built with, read from its parts."""
    encoder = autoencoder.encoder
    width = encoder.conv_in.out_channels
    channels = [level.block[0].out_channels for level in encoder.down]
    return {
        "double_z": True,
        "z_channels": encoder.conv_out.out_channels // 2,
        "resolution": encoder.resolution,
        "in_channels": 3,
        "out_ch": 3,
        "ch": width,
        "ch_mult": [count // width for count in channels],
        "num_res_blocks": encoder.num_res_blocks,
        "attn_resolutions": [],
        "dropout": 0.0,
    }


class Precision(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [AsStarted]
