"""What takes the place of the model and its conditioning: guiders."""

import importlib
from dataclasses import replace

import comfy.samplers
from project.nodes.host import native_miniature

from .conditionings import controlled
from .graph import VARIANTS, node, variant


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
