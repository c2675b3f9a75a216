"""The guider of a domain: the untouched model with its prompts, and the text-free copy beside it
(Cao et al., arXiv 2312.08195)."""

import math
from collections.abc import Sequence

from torch import Tensor

from .compatibility import incompatible
from .guiders import Extra, ExtraGuider, require_scales
from .text_free import blank_conditioning

try:
    import comfy.samplers
    from comfy.sampler_helpers import convert_cond

    _NEEDED = (comfy.samplers.calc_cond_batch, comfy.samplers.process_conds)
except (ImportError, AttributeError) as error:
    raise incompatible(error) from error

DOMAIN, TEXT = "domain", "text"
"""What the scales are called that have ranges of their own."""

_KEY = "stylegan_fusion_domain"
_FOR_THE_COPY = ("sample_sigmas", "optimized_attention_override")
"""Of what users hang on a MODEL, what its copy follows, too; patches and caches are the MODEL's own."""


class DomainGuider(ExtraGuider):
    """A DomainGuider predicts D_u + s_d (D_d - D_u) + s_t (D_t - D_u) + sum_i s_i (D_i - D_u): D_d from the text-free copy,
    all others from the MODEL. It is the host's own CFG guider where the domain does not count, bit for bit.

    copy: model patcher of the copy, which the host loads and frees with the MODEL; pooled: what its empty prompt is as a
    whole. Ranges are shares of the sampling, 0 its begin and 1 its end."""

    def __init__(
        self,
        model,
        copy,
        pooled: Tensor | None,
        positive,
        negative,
        domain_scale: float,
        text_scale: float,
        extras: Sequence[Extra] = (),
        domain_range: tuple[float, float] = (0.0, 1.0),
        text_range: tuple[float, float] = (0.0, 1.0),
    ):
        extras = [Extra(*extra) for extra in extras]
        require_scales(text_scale, extras)
        if not math.isfinite(domain_scale):
            raise ValueError(f"The domain scale is {domain_scale}; give a number, 0 to leave the domain out.")
        with_copy = model.clone()
        with_copy.set_additional_models(_KEY, [copy])
        super().__init__(with_copy)
        self.set_conds(positive, negative)
        self.set_cfg(text_scale)
        self.set_extras(extras)
        self.cfg_domain = domain_scale
        self.ranges |= {DOMAIN: domain_range, TEXT: text_range}
        self._copy, self._pooled = copy, pooled
        self._conds = None  # of the copy, while it runs

    def outer_sample(self, *arguments, **named):
        self._copy.pre_run()
        try:
            return super().outer_sample(*arguments, **named)
        finally:
            self._conds = None
            self._copy.cleanup()

    def inner_sample(
        self, noise, latent_image, device, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **more
    ):
        blank = convert_cond(blank_conditioning(self.conds["negative"], self._pooled))
        found = comfy.samplers.process_conds(self._copy.model, noise, {DOMAIN: blank}, device, None, denoise_mask, seed)
        self._conds = found[DOMAIN]
        arguments = noise, latent_image, device, sampler, sigmas, denoise_mask, callback, disable_pbar, seed
        return super().inner_sample(*arguments, **more)

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        text = self.cfg != 0 and self.is_on(TEXT, timestep)
        domain = self.cfg_domain != 0 and self.is_on(DOMAIN, timestep)
        if text and not domain and not self.extras:
            return comfy.samplers.CFGGuider.predict_noise(self, x, timestep, model_options or {}, seed)
        denoised, unconditional = self.predicted(x, timestep, model_options, seed, prompt=text)
        if not domain:
            return denoised
        given = (model_options or {}).get("transformer_options", {})
        options = {"transformer_options": {name: given[name] for name in _FOR_THE_COPY if name in given}}
        (of_domain,) = comfy.samplers.calc_cond_batch(self._copy.model, [self._conds], x, timestep, options)
        return denoised + self.cfg_domain * (of_domain - unconditional)
