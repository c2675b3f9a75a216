"""What changes the model."""

from dataclasses import replace

import comfy.patcher_extension
from project.nodes.host import native_miniature

from .graph import node, variant


def on_model(name: str, where: str, kind: str, **inputs):
    variant(name)(lambda plain: replace(plain, model=node(where, kind, model=plain.model, **inputs)[0]))


on_model("LoRA", "nodes", "LoraLoaderModelOnly", lora_name="unet.safetensors", strength_model=1.0)
on_model("FreeU", "freelunch", "FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2)
on_model("perturbed attention", "pag", "PerturbedAttentionGuidance", scale=3.0)
on_model("self-attention guidance", "sag", "SelfAttentionGuidance", scale=0.8, blur_sigma=2.0)
on_model("rescaled CFG", "model_advanced", "RescaleCFG", multiplier=0.7)
on_model("projected guidance", "apg", "APG", eta=0.5, norm_threshold=5.0, momentum=0.0)
on_model("token merging", "tomesd", "TomePatchModel", ratio=0.5)
on_model("tiled attention", "hypertile", "HyperTile", tile_size=32, swap_size=2, max_depth=1, scale_depth=False)
on_model("attention multiplied", "attention_multiply", "UNetCrossAttentionMultiply", q=1.0, k=1.0, v=1.2, out=1.0)
on_model("v-prediction", "model_advanced", "ModelSamplingDiscrete", sampling="v_prediction", zsnr=False)
on_model("zero terminal SNR", "model_advanced", "ModelSamplingDiscrete", sampling="eps", zsnr=True)
on_model(
    "cached predictions",
    "easycache",
    "EasyCacheNode",
    reuse_threshold=3.0,
    start_percent=0.0,
    end_percent=1.0,
    verbose=False,
)
on_model(
    "cached guidance",
    "easycache",
    "LazyCacheNode",
    reuse_threshold=3.0,
    start_percent=0.0,
    end_percent=1.0,
    verbose=False,
)


@variant("DreamBooth checkpoint")
def _(plain):
    return replace(plain, model=native_miniature.load_model(plain.files / "dreambooth"))


@variant("merged checkpoint")
def _(plain):
    other = native_miniature.load_model(plain.files / "dreambooth")
    merged = node("model_merging", "ModelMergeSimple", model1=plain.model, model2=other, ratio=0.5)[0]
    return replace(plain, model=merged)


@variant("functions of another pack")
def _(plain):
    """Each place where packs hook into the model and its guidance."""
    model = plain.model.clone()
    model.set_model_attn2_output_patch(lambda out, options: 1.1 * out)
    model.set_model_unet_function_wrapper(
        lambda apply, given: 0.98 * apply(given["input"], given["timestep"], **given["c"])
    )
    model.set_model_sampler_pre_cfg_function(lambda given: [given["conds_out"][0], 0.97 * given["conds_out"][1]])
    model.set_model_sampler_cfg_function(
        lambda given: given["uncond"] + (given["cond_scale"] - 2) * (given["cond"] - given["uncond"])
    )
    model.set_model_sampler_post_cfg_function(lambda given: 0.9 * given["denoised"])
    return replace(plain, model=model)


@variant("wrapper of another pack")
def _(plain):
    """One that counts where it is in the list of noise levels, as packs do that act at some steps only."""

    def wrapped(execute, x, timestep, *rest, **named):
        options = named.get("model_options") or rest[0]
        step = (options["transformer_options"]["sample_sigmas"] == timestep[0]).nonzero()[0].item()
        return (0.9 - 0.1 * step) * execute(x, timestep, *rest, **named)

    model = plain.model.clone()
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, "pack", wrapped)
    return replace(plain, model=model)
