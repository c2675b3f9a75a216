"""GUIDERs of the host: how prompts become one prediction, at any timestep and strength of guidance.

A training evaluates the model through a guider, so that LoRAs, hooks, ControlNets, area conditioning, model patches and
custom guidance count exactly as they do when the host samples.
"""

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...sds.views import VIEWS
from .compatibility import incompatible

try:
    import comfy.hooks
    import comfy.sampler_helpers
    import comfy.samplers

    CFGGuider = comfy.samplers.CFGGuider
    _NEEDED = (
        comfy.samplers.calc_cond_batch,
        comfy.sampler_helpers.get_hooks_from_cond,
        comfy.hooks.HookGroup,
    )
except (ImportError, AttributeError) as error:
    raise incompatible(error) from error

UNKNOWN_WORDS = "unknown_words"
"""What an encoder of ours notes in a CONDITIONING."""

_EVALUATION = "sampler_calc_cond_batch_function"  # the host's option that replaces its evaluation of the conditions


class Extra(NamedTuple):
    """An Extra is one more condition of a guider: scale * (D_of_it - D_negative), between two shares of the sampling, 0 its
    begin and 1 its end."""

    name: str
    conditioning: Any  # CONDITIONING
    scale: float
    start: float = 0.0
    end: float = 1.0


POSITIVE = "positive"
"""What the host's guiders call the prompt."""


def _of_view(view: str) -> str:
    return f"{view} view"


def with_views(guider, prompts: Mapping[str, Any]):
    """Return a copy of a guider that carries, beside its prompt, CONDITIONINGs for views of what is drawn: `views_apart`
    tells them from the guider's own. Raises ValueError for a guider without a prompt whose place they could take."""
    if POSITIVE not in conditions_of(guider) or not hasattr(guider, "inner_set_conds"):
        raise ValueError(
            "This GUIDER has no prompt that those of views could take the place of; use CFG Guider or Domain Guider."
        )
    own = copy.copy(guider)
    own.original_conds = {**guider.original_conds}
    own.inner_set_conds({_of_view(view): prompt for view, prompt in prompts.items()})
    return own


def views_of(guider) -> tuple[str, ...]:
    """Return the views for which a guider carries prompts."""
    return tuple(view for view in VIEWS if _of_view(view) in conditions_of(guider))


@contextlib.contextmanager
def views_apart(guider, views: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Take the prompts of views out of a running guider within the body; gives, by view, copies of the guider that have
    them in place of its prompt."""
    if not views:
        yield {}
        return
    whole = guider.conds
    guider.all_conds = whole  # their hooks are rewound, too
    guider.conds = {name: conds for name, conds in whole.items() if name not in map(_of_view, views)}
    try:
        yield {view: _with_prompt(guider, whole[_of_view(view)]) for view in views}
    finally:
        guider.conds = whole
        del guider.all_conds


def _with_prompt(guider, prompt):
    own = copy.copy(guider)
    own.conds = {**guider.conds, POSITIVE: prompt}
    return own


def text_guider(model, positive, negative, guidance_scale: float, extras: Sequence[Extra] = ()) -> CFGGuider:
    """Make the guider of a MODEL with prompts: guided = CFG(positive, negative) + sum_i s_i (D_i - D_negative).

    CFG is the host's, with all functions that users hang on the MODEL."""
    extras = [Extra(*extra) for extra in extras]
    require_scales(guidance_scale, extras)
    guider = ExtraGuider(model) if extras else CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(guidance_scale)
    if extras:
        guider.set_extras(extras)
    return guider


def require_scales(guidance_scale: float, extras: Sequence[Extra]) -> None:
    """Raise ValueError for a scale that is none."""
    if not (math.isfinite(guidance_scale) and guidance_scale >= 0):
        raise ValueError(f"The guidance scale is {guidance_scale}; give 0 or more.")
    for extra in extras:
        if not math.isfinite(extra.scale):
            raise ValueError(
                f"The scale of {extra.name} is {extra.scale}; give a number, below 0 to stay away from it."
            )


def require_active(guider, sigma: Tensor, t: float, apart: bool = False) -> None:
    """Raise ValueError where a prompt of a running guider is switched off at the host's sigma, by a timestep range: the
    host takes it for one that predicts a black picture. `apart` says that each prompt is evaluated by itself."""
    now = float(sigma.flatten()[0])
    plain = type(guider).predict_noise is CFGGuider.predict_noise if isinstance(guider, CFGGuider) else False
    for name, entries in (getattr(guider, "conds", None) or {}).items():
        if name == "negative" and plain and guider.cfg == 1 and not apart:
            continue  # the host leaves it out
        ranges = [
            (entry.get("timestep_start"), entry.get("timestep_end"))
            for entry in entries or ()
            if isinstance(entry, dict)
        ]
        on = [(start is None or now <= start) and (end is None or now >= end) for start, end in ranges]
        if on and not any(on):
            raise ValueError(
                f"The prompt {name!r} is switched off at timestep {t:.2f} by its timestep range, which begins with pure noise "
                "(timestep 1) and ends with the clean picture (0). Set t_min and t_max within it, or combine the prompt "
                "with one for the rest."
            )


class ExtraGuider(CFGGuider):
    """ExtraGuider is classifier-free guidance with further conditions, each with its own scale; one evaluation of all of
    them."""

    def set_extras(self, extras: Sequence[Extra]) -> None:
        names = [extra.name for extra in extras]
        if len({*names, "positive", "negative"}) < len(names) + 2:
            raise ValueError(f"The conditions are named {', '.join(names)}; give each a name of its own.")
        self.extras = names
        self.cfg_extras = tuple(extra.scale for extra in extras)
        self.ranges = {extra.name: (extra.start, extra.end) for extra in extras}
        self.inner_set_conds({extra.name: extra.conditioning for extra in extras})

    def is_on(self, name: str, sigma: Tensor) -> bool:
        """Tell whether a condition counts at the host's noise level of a running guider."""
        start, end = self.ranges.get(name, (0.0, 1.0))
        if (start, end) == (0.0, 1.0):
            return True
        now, level = float(sigma.flatten()[0]), self.inner_model.model_sampling.percent_to_sigma
        # The very first share begins above all levels, the very last ends below them.
        return now <= (math.inf if start <= 0 else float(level(start))) and now >= (
            0 if end >= 1 else float(level(end))
        )

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        return self.predicted(x, timestep, model_options, seed)[0]

    def predicted(self, x, timestep, model_options=None, seed=None, prompt: bool = True) -> tuple[Tensor, Tensor]:
        """Return the guided denoised estimate, and that of the negative prompt; without `prompt` the former leaves the
        positive one out."""
        scales = {
            name: scale
            for name, scale in zip(self.extras, self.cfg_extras, strict=True)
            if scale and self.is_on(name, timestep)
        }
        extras = [self.conds[name] for name in scales]
        given = model_options or {}
        found = []

        def evaluate(arguments):
            model, options = arguments["model"], arguments["model_options"]
            asked = arguments["conds"]
            # At scale 1 the host leaves the negative prompt out, but the extras are differences to it.
            conds = [asked[0], self.conds["negative"], *asked[2:], *extras]
            outputs = self._evaluated(model, conds, x, timestep, options, given)
            found.extend((outputs[1], *outputs[len(asked) :]))
            return outputs[: len(asked)]

        if prompt:
            denoised = super().predict_noise(x, timestep, {**given, _EVALUATION: evaluate}, seed)
            unconditional, *parts = found
        else:
            conds = [self.conds["negative"], *extras]
            unconditional, *parts = self._evaluated(self.inner_model, conds, x, timestep, given, given)
            denoised = unconditional
        added = sum(s * (part - unconditional) for s, part in zip(scales.values(), parts, strict=True))
        return denoised + added if parts else denoised, unconditional

    @staticmethod
    def _evaluated(model, conds, x, timestep, options, given):
        evaluation = given.get(_EVALUATION)
        if evaluation is None:
            return comfy.samplers.calc_cond_batch(model, conds, x, timestep, options)
        return evaluation({"conds": conds, "input": x, "sigma": timestep, "model": model, "model_options": options})


def as_first_step(guider, extra_args: dict, sigma: Tensor) -> None:
    """Make the evaluation that follows the first step of sampling from the noise level sigma [B].

    The host and its packs follow a sampling that only goes down: hooks turn to their next keyframe, steps are looked up
    in sample_sigmas, predictions of earlier steps are used again. Timesteps of a training go up and down."""
    options = extra_args["model_options"]["transformer_options"]
    cache = options.get("easycache")  # also that of LazyCache: predictions for an earlier image
    if cache is not None:
        cache.reset()
    steps = torch.stack([sigma[0], torch.zeros_like(sigma[0])])
    if torch.equal(options["sample_sigmas"].to(steps.device), steps):  # the same t: keyframes stand right
        return
    options["sample_sigmas"] = steps
    rewind(guider, options)


def rewind(guider, options: dict) -> None:
    """Turn the hooks on the prompts of a running guider back to their first keyframe."""
    hooks = comfy.hooks.HookGroup()
    for conds in getattr(guider, "all_conds", getattr(guider, "conds", {})).values():
        comfy.sampler_helpers.get_hooks_from_cond(conds, hooks)
    hooks.reset()
    for hook in hooks.hooks:  # reset() forgets the noise level that the hook saw last
        hook.hook_keyframe.prepare_current_keyframe(math.inf, options)
    if any(len(hook.hook_keyframe.keyframes) > 1 for hook in hooks.hooks):
        guider.model_patcher.clear_cached_hook_weights()  # those of the keyframe that was current


def own_copy(guider):
    """Copy a guider so that it can be changed without the user's noticing: other prompts' tensors, the same model."""
    own = copy.copy(guider)
    if hasattr(guider, "original_conds"):
        own.original_conds = detached(guider.original_conds)
    return own


def detached(value):
    """Copy a value so that autograd accepts its tensors: those that nodes make are inference tensors."""
    if torch.is_tensor(value):
        with torch.inference_mode(False):
            return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(detached(part) for part in value)
    if type(value) is dict:
        return {key: detached(part) for key, part in value.items()}
    return value


def conditioning_fingerprint(guider) -> str:
    """Describe a guider's prompts and scales in a few numbers, which differ where these do. Rounded: some devices do
    not give the same bits twice."""
    return repr([_fingerprint(conditions_of(guider)), _scales(guider)])


def _fingerprint(value):
    if torch.is_tensor(value):
        numbers = value.detach().cpu().double().flatten()
        random = torch.Generator().manual_seed(numbers.numel())
        signs = torch.randint(0, 2, (4, min(numbers.numel(), 2**20)), generator=random, dtype=torch.float64) * 2 - 1
        return list(value.shape), [
            f"{x:.2e}" for x in signs @ numbers[: signs.shape[1]] / max(1, numbers.numel()) ** 0.5
        ]
    if isinstance(value, list | tuple):
        return [_fingerprint(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _fingerprint(part) for key, part in value.items() if key not in ("uuid", UNKNOWN_WORDS)}
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__


def same_prompts(guider) -> bool:
    """Tell whether the positive and the negative prompt of a guider are one and the same."""
    conditions = conditions_of(guider)
    if not {"positive", "negative"} <= conditions.keys():
        return False
    return _fingerprint(conditions["positive"]) == _fingerprint(conditions["negative"])


def unknown_words(guider) -> list[str]:
    """Return the words of a guider's prompts of which their encoder says that it never learned them, each once."""
    entries = [entry for named in conditions_of(guider).values() for entry in named or () if isinstance(entry, dict)]
    return list(dict.fromkeys(word for entry in entries for word in entry.get(UNKNOWN_WORDS, ())))


def require_text_alone(running) -> None:
    """Raise ValueError when the model of a running guider reads an image beside the noise."""
    for cond in (cond for named in getattr(running, "conds", {}).values() for cond in named):
        if "c_concat" in cond.get("model_conds", {}):
            raise ValueError(
                "The MODEL reads an image beside the noise (for inpainting, upscaling, or video from an image), so it cannot "
                "judge images by a text alone; load a text-to-image model such as Stable Diffusion 1.5."
            )


def conditions_of(guider) -> dict[str, list[dict]]:
    """Return a guider's prompts by name, as the host keeps them; of foreign guiders that keep none, nothing."""
    return getattr(guider, "original_conds", {})


def can_scale(guider) -> bool:
    """Tell whether a guider's guidance can be made stronger and weaker: whether it guides, by a scale that is its
    cfg."""
    scales = _scales(guider)
    if not scales or len(conditions_of(guider)) - len(views_of(guider)) < 2:
        return False
    # A class of its own that leaves cfg at 1 guides by something else.
    plain = type(guider).predict_noise is CFGGuider.predict_noise if isinstance(guider, CFGGuider) else False
    return plain or any(value != 1.0 for value in scales.values())


def set_scale(guider, scale: float) -> None:
    """Give a guider of ours another guidance scale; scales of further prompts stay in proportion. A guider that has no
    scale of its own stays as it is."""
    if can_scale(guider) and (cfg := getattr(guider, "cfg", 0)):
        for name, value in _scales(guider).items():
            factor = scale / cfg
            changed = tuple(factor * s for s in value) if isinstance(value, tuple) else factor * value
            setattr(guider, name, changed)


def source_guider(guider, source=None):
    """Make the guider that predicts, without guidance, what pictures show: a CONDITIONING `source`, or the negative
    prompt of a guider; None where it has none."""
    path = CFGGuider(guider.model_patcher)
    if source is not None:
        path.set_conds(source, source)
    else:
        negative = conditions_of(guider).get("negative")
        if not negative:
            return None
        path.original_conds = {"positive": negative, "negative": negative}
    path.set_cfg(1.0)
    return path


@contextlib.contextmanager
def scaled(guider, factor: float) -> Iterator[None]:
    """Make every scale of the guider (cfg, cfg1, cfg2 ...) `factor` times as large within the body."""
    scales = _scales(guider)
    for name, value in scales.items():
        setattr(guider, name, tuple(factor * s for s in value) if isinstance(value, tuple) else factor * value)
    try:
        yield
    finally:
        for name, value in scales.items():
            setattr(guider, name, value)


def _scales(guider) -> dict[str, float | tuple[float, ...]]:
    def is_scale(value) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    return {
        name: value
        for name, value in vars(guider).items()
        if name.startswith("cfg")
        and (is_scale(value) or (isinstance(value, tuple) and value and all(is_scale(s) for s in value)))
    }


def parts(guider, x: Tensor, sigma: Tensor, model_options: dict) -> dict[str, Tensor]:
    """Return the denoised estimate of each of a guider's prompts by name, in one evaluation, before guidance."""
    names = list(guider.conds)
    conds = [guider.conds[name] for name in names]
    return dict(
        zip(names, comfy.samplers.calc_cond_batch(guider.inner_model, conds, x, sigma, model_options), strict=True)
    )


GUIDED = "guided"
"""The name of the guided estimate among those of the prompts."""


def guided_and_parts(guider, x: Tensor, sigma: Tensor, extra_args: dict) -> dict[str, Tensor]:
    """Return the guided denoised estimate and that of each of a guider's prompts by name: in one evaluation where the
    guider evaluates as the host does, else in two."""
    found: dict[str, Tensor] = {}
    names = {id(conds): name for name, conds in guider.conds.items()}
    given = extra_args["model_options"].get(_EVALUATION)

    def evaluate(arguments: dict):
        asked = arguments["conds"]
        # At scale 1 the host leaves the negative prompt out.
        conds = [guider.conds.get("negative") if one is None else one for one in asked]
        if given is not None:
            outputs = given({**arguments, "conds": conds})
        else:
            model, options = arguments["model"], arguments["model_options"]
            outputs = comfy.samplers.calc_cond_batch(model, conds, arguments["input"], arguments["sigma"], options)
        found.update({names[id(one)]: D for one, D in zip(conds, outputs, strict=True) if id(one) in names})
        # What the host left out is 0 to it, also to functions of the user that look at it.
        return [torch.zeros_like(D) if one is None else D for one, D in zip(asked, outputs, strict=True)]

    options = {**extra_args["model_options"], _EVALUATION: evaluate}
    guided = guider(x, sigma, **{**extra_args, "model_options": options})
    if found.keys() != guider.conds.keys():
        found = parts(guider, x, sigma, extra_args["model_options"])
    return {GUIDED: guided, **found}


def condition_names(guider) -> dict[str, str]:
    """Return what a Prior calls the host's prompts of a guider, by their names there."""
    names = list(conditions_of(guider))
    base = (
        "empty_negative_prompt" if "empty_negative_prompt" in names else "negative"
    )  # Perp-Neg guides from the former
    return {name: {base: "unconditional", "positive": "text"}.get(name, name) for name in names}
