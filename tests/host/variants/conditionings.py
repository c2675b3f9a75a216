"""What changes the conditioning."""

from dataclasses import replace

import torch

from .files import control_net
from .graph import Graph, node, variant

PROMPT = "a portrait of a fox, smiling"
LONG = "a picture of the head of a fox looking right, with red fur, green eyes, open mouth, far from background, " * 20


def conditioned(name: str):
    """Registers what makes another positive conditioning of the plain one."""

    def register(build):
        variant(name)(lambda plain: replace(plain, positive=build(plain)))
        return build

    return register


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
