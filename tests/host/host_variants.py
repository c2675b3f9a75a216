"""What users hang on MODEL and CONDITIONING, or put in their place, built with ComfyUI's own nodes.

Imported inside ComfyUI's Python, as the package `project`'s neighbour."""

import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import folder_paths
import torch
from project.nodes import native_miniature
from safetensors.torch import load_file, save_file

import nodes

PROMPT = "a portrait of a fox, smiling"
LONG = "a picture of the head of a fox looking right, with red fur, green eyes, open mouth, far from background, " * 20


def node(place: str, name: str, **inputs) -> tuple:
    """The outputs of one of ComfyUI's nodes: of both of its programming interfaces."""
    owner = nodes if place == "nodes" else importlib.import_module(f"comfy_extras.nodes_{place}")
    kind = getattr(owner, name)
    outputs = kind.execute(**inputs) if hasattr(kind, "execute") else getattr(kind(), kind.FUNCTION)(**inputs)
    return getattr(outputs, "result", outputs)


@dataclass(frozen=True)
class Graph:
    """What a user links to SDS Guidance, and to a sampler: a guider, or what makes one."""

    model: Any
    clip: Any
    positive: Any
    negative: Any
    files: Path  # where the files of `save_files` are
    scale: float = 7.5
    guider: Any = None
    extras: tuple = ()

    def says(self, text: str):
        return node("nodes", "CLIPTextEncode", clip=self.clip, text=text)[0]

    def sampled(self, noise, sigmas):
        """What ComfyUI makes of the noise."""
        sampler, latent = comfy.samplers.sampler_object("euler"), torch.zeros_like(noise)
        if self.guider is not None:
            return self.guider.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=0)

        def from_prompts(positive, negative, scale):
            return comfy.sample.sample_custom(
                self.model, noise, scale, sampler, sigmas, positive, negative, latent, disable_pbar=True
            )

        outcome = from_prompts(self.positive, self.negative, self.scale)
        for _, conditioning, scale in self.extras:
            alone, without = (from_prompts(c, self.negative, 1.0) for c in (conditioning, self.negative))
            outcome = outcome + scale * (alone - without)
        return outcome


VARIANTS: dict[str, Callable[[Graph], Graph | None]] = {}


def variant(name: str):
    """Registers what turns the plain graph into another; None where this ComfyUI lacks the node."""
    return lambda build: VARIANTS.setdefault(name, build)


def on_model(name: str, where: str, kind: str, **inputs):
    variant(name)(lambda plain: replace(plain, model=node(where, kind, model=plain.model, **inputs)[0]))


def conditioned(name: str):
    """Registers what makes another positive conditioning of the plain one."""

    def register(build):
        variant(name)(lambda plain: replace(plain, positive=build(plain)))
        return build

    return register


# What changes the model.
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


# What changes the conditioning.
conditioned("long prompt")(lambda plain: plain.says(LONG + "a red hat"))
conditioned("long prompt, other end")(lambda plain: plain.says(LONG + "a blue scarf"))
conditioned("weighted words")(lambda plain: plain.says("(a portrait of a fox, smiling:1.6)"))


@conditioned("combined prompts")
def _(plain):
    return combined(plain.positive, plain.says("a zombie"))


@conditioned("concatenated prompts")
def _(plain):
    return node(
        "nodes", "ConditioningConcat", conditioning_to=plain.positive, conditioning_from=plain.says("a zombie")
    )[0]


@conditioned("averaged prompts")
def _(plain):
    return node(
        "nodes",
        "ConditioningAverage",
        conditioning_to=plain.positive,
        conditioning_from=plain.says("a zombie"),
        conditioning_to_strength=0.5,
    )[0]


def combined(one, other):
    return node("nodes", "ConditioningCombine", conditioning_1=one, conditioning_2=other)[0]


@conditioned("area in pixels")
def _(plain):
    # ComfyUI counts eight pixels to a latent's: this is the left half of the latents.
    area = node(
        "nodes",
        "ConditioningSetArea",
        conditioning=plain.says("a zombie"),
        width=64,
        height=256,
        x=0,
        y=0,
        strength=1.0,
    )
    return combined(plain.positive, area[0])


@conditioned("area in percent")
def _(plain):
    area = node(
        "nodes",
        "ConditioningSetAreaPercentage",
        conditioning=plain.says("a zombie"),
        width=0.5,
        height=0.5,
        x=0.5,
        y=0.5,
        strength=2.0,
    )
    return combined(plain.positive, area[0])


@conditioned("mask")
def _(plain):
    mask = torch.zeros(1, 24, 24)
    mask[:, :12, 6:] = 1
    masked = node(
        "nodes",
        "ConditioningSetMask",
        conditioning=plain.says("a zombie"),
        mask=mask,
        set_cond_area="mask bounds",
        strength=1.0,
    )
    return combined(plain.positive, masked[0])


@conditioned("prompt schedule")
def _(plain):
    first = node("nodes", "ConditioningSetTimestepRange", conditioning=plain.says("a zombie"), start=0.0, end=0.5)[0]
    then = node("nodes", "ConditioningSetTimestepRange", conditioning=plain.positive, start=0.5, end=1.0)[0]
    return combined(first, then)


def hooked(plain: Graph, keyframes: dict[float, float]) -> Graph:
    """A LoRA that belongs to the conditioning, its strength by where it starts."""
    hooks = node("hooks", "CreateHookLora", lora_name="unet.safetensors", strength_model=1.0, strength_clip=0.0)[0]
    frames = None
    for start, strength in keyframes.items():
        frames = node("hooks", "CreateHookKeyframe", strength_mult=strength, start_percent=start, prev_hook_kf=frames)[
            0
        ]
    hooks = node("hooks", "SetHookKeyframes", hooks=hooks, hook_kf=frames)[0]
    positive, negative = node(
        "hooks",
        "PairConditioningSetProperties",
        positive_NEW=plain.positive,
        negative_NEW=plain.negative,
        strength=1.0,
        set_cond_area="default",
        hooks=hooks,
    )
    return replace(plain, positive=positive, negative=negative)


@variant("LoRA on the conditioning")
def _(plain):
    return hooked(plain, {0.0: 1.0})


@variant("LoRA schedule")
def _(plain):
    return hooked(plain, {0.0: 1.0, 0.2: 0.5, 0.5: 0.0})


@variant("LoRA schedule of the text encoder")
def _(plain):
    hooks = node("hooks", "CreateHookLora", lora_name="clip.safetensors", strength_model=0.0, strength_clip=1.0)[0]
    frames = node("hooks", "CreateHookKeyframe", strength_mult=1.0, start_percent=0.0)[0]
    frames = node("hooks", "CreateHookKeyframe", strength_mult=0.0, start_percent=0.5, prev_hook_kf=frames)[0]
    hooks = node("hooks", "SetHookKeyframes", hooks=hooks, hook_kf=frames)[0]
    scheduled = node("hooks", "SetClipHooks", clip=plain.clip, schedule_clip=True, apply_to_conds=False, hooks=hooks)[0]
    return replace(plain, positive=node("nodes", "CLIPTextEncode", clip=scheduled, text=PROMPT)[0])


def controlled(plain: Graph, start: float, end: float) -> Graph:
    image = torch.rand(1, 40, 56, 3, generator=torch.Generator().manual_seed(3))
    positive, negative = node(
        "nodes",
        "ControlNetApplyAdvanced",
        positive=plain.positive,
        negative=plain.negative,
        control_net=control_net(plain.model),
        image=image,
        strength=0.3,
        start_percent=start,
        end_percent=end,
    )
    return replace(plain, positive=positive, negative=negative)


@variant("ControlNet")
def _(plain):
    return controlled(plain, 0.0, 1.0)


@variant("ControlNet, first half")
def _(plain):
    return controlled(plain, 0.0, 0.5)


@variant("two ControlNets")
def _(plain):
    return controlled(controlled(plain, 0.0, 0.5), 0.0, 1.0)


@variant("further conditions")
def _(plain):
    return replace(plain, extras=(("style", plain.says("a zombie"), 2.0), ("colour", plain.says("a blue hat"), 1.0)))


# What takes the place of both.
def guided(name: str, kind: str, where: str = "custom_sampler"):
    """Registers a stock node that makes a GUIDER; build(plain) gives its inputs."""

    def register(build):
        def make(plain):
            if not hasattr(importlib.import_module(f"comfy_extras.nodes_{where}"), kind):
                return None
            return replace(plain, guider=node(where, kind, model=plain.model, **build(plain))[0])

        variant(name)(make)
        return build

    return register


guided("CFG guider", "CFGGuider")(lambda plain: {"positive": plain.positive, "negative": plain.negative, "cfg": 3.0})
guided("basic guider", "BasicGuider")(lambda plain: {"conditioning": plain.positive})


def two_prompts(plain, style):
    return {
        "cond1": plain.says("a zombie"),
        "cond2": plain.positive,
        "negative": plain.negative,
        "cfg_conds": 3.0,
        "cfg_cond2_negative": 5.0,
        "style": style,
    }


guided("dual CFG guider", "DualCFGGuider")(lambda plain: two_prompts(plain, "regular"))
guided("nested dual CFG guider", "DualCFGGuider")(lambda plain: two_prompts(plain, "nested"))


@guided("perpendicular negative guider", "PerpNegGuider", "perpneg")
def _(plain):
    return {
        "positive": plain.positive,
        "negative": plain.says("a zombie"),
        "empty_conditioning": plain.negative,
        "cfg": 7.5,
        "neg_scale": 1.0,
    }


@guided("dual model guider", "DualModelGuider")
def _(plain):
    other = native_miniature.load_model(plain.files / "dreambooth")
    return {"positive": plain.positive, "negative": plain.negative, "cfg": 7.5, "model_negative": other}


class StyleGuider(comfy.samplers.CFGGuider):
    """As another pack writes one: its own conditions, its own guidance."""

    def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006
        conds = [self.conds[name] for name in ("style", "positive", "negative")]
        style, text, empty = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
        return empty + 5.0 * (text - empty) + 3.0 * (style - empty)


@variant("guider of another pack")
def _(plain):
    guider = StyleGuider(plain.model)
    guider.inner_set_conds({"positive": plain.positive, "style": plain.says("a zombie"), "negative": plain.negative})
    return replace(plain, guider=guider)


@variant("guider with a LoRA and a ControlNet")
def _(plain):
    changed = controlled(replace(plain, model=VARIANTS["LoRA"](plain).model), 0.0, 1.0)
    return replace(changed, guider=VARIANTS["CFG guider"](changed).guider)


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
