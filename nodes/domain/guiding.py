"""Nodes that let a domain guide a diffusion model."""

import math

from comfy_api.v0_0_2 import io

from ...domain.files import load_domain
from ..host import folders
from ..host.domain_guider import DomainGuider as Guider
from ..host.text_free import domain_patcher
from ..inputs import complaint, first_complaint, range_inputs, require_range
from ..types import CATEGORY, DomainType, ExtraPromptsType, NamedDomain, aliases


class LoadDomain(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLoadDomain",
            display_name="Load Domain",
            category=CATEGORY,
            **aliases("stylegan", "in-domain", "style", "personalization", "fine-tune", "text-free"),
            description="Loads a domain that Train Domain or the command learn-domain has learned from pictures, for the model "
            "that it was learned with. ComfyUI loads and frees the copy of the model beside the model itself.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model that the domain was learned with; its LoRAs are left out of the copy."
                ),
                io.Combo.Input(
                    "file",
                    options=folders.domain_names(),
                    tooltip=f"A file in models/{folders.DOMAINS}. Press R for new files.",
                ),
                io.Float.Input(
                    "blend",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="From the weights of the model, 0, to those of the domain, 1. Below 1 it is milder; above, stronger than "
                    "it was learned.",
                ),
            ],
            outputs=[DomainType.Output(display_name="domain", tooltip="For Domain Guider.")],
        )

    @classmethod
    def validate_inputs(cls, file):
        return complaint(folders.domain_path, file)

    @classmethod
    def fingerprint_inputs(cls, file, **_):
        return file and folders.state_of_file(folders.domain_path(file))

    @classmethod
    def execute(cls, model, file, blend) -> io.NodeOutput:
        if not math.isfinite(blend):
            raise ValueError(f"The blend is {blend}; give a number from 0 to 2.")
        domain = load_domain(folders.domain_path(file))
        return io.NodeOutput(NamedDomain(domain_patcher(model, domain, blend), domain.pooled, file))


class DomainGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionDomainGuider",
            display_name="Domain Guider",
            category=CATEGORY,
            **aliases("stylegan", "in-domain", "guider", "cfg", "guidance", "style"),
            description="Guides a model by a domain and by prompts, each with a scale of its own (arXiv 2312.08195). The model "
            "itself stays as it is, so it still knows everything else. For SamplerCustomAdvanced, and for the guider of SDS "
            "Guidance, which then moves a generator into the domain.",
            inputs=[
                io.Model.Input("model", tooltip="The model, with its LoRAs and patches."),
                DomainType.Input("domain", tooltip="From Load Domain or Train Domain."),
                io.Conditioning.Input(
                    "positive", tooltip="What shall be drawn. With a ControlNet on it, it follows that, too."
                ),
                io.Conditioning.Input(
                    "negative", tooltip="What all guidance goes away from; an empty prompt is usual."
                ),
                io.Float.Input(
                    "domain_scale",
                    default=2.5,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    tooltip="How strongly the domain pulls; 1.5 to 3 is usual. 0 leaves it out, and the picture is that of CFG Guider.",
                ),
                io.Float.Input(
                    "text_scale",
                    default=2.5,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="How strongly the prompt pulls, as cfg of CFG Guider. 0 draws anything of the domain.",
                ),
                ExtraPromptsType.Input(
                    "extra_prompts",
                    optional=True,
                    tooltip="From Extra Prompt: further conditions, with a ControlNet for example, each with its own scale.",
                ),
                *range_inputs("the domain", "domain_"),
                *range_inputs("the prompt", "text_"),
            ],
            outputs=[io.Guider.Output(tooltip="For SamplerCustomAdvanced, or guider of SDS Guidance.")],
        )

    @classmethod
    def validate_inputs(cls, domain_start=0.0, domain_end=1.0, text_start=0.0, text_end=1.0):
        return first_complaint(
            complaint(require_range, domain_start, domain_end), complaint(require_range, text_start, text_end)
        )

    @classmethod
    def execute(
        cls,
        model,
        domain,
        positive,
        negative,
        domain_scale,
        text_scale,
        extra_prompts=(),
        domain_start=0.0,
        domain_end=1.0,
        text_start=0.0,
        text_end=1.0,
    ) -> io.NodeOutput:
        of_domain, of_text = (domain_start, domain_end), (text_start, text_end)
        require_range(*of_domain)
        require_range(*of_text)
        given = model, domain.copy, domain.pooled, positive, negative, domain_scale, text_scale, extra_prompts
        return io.NodeOutput(Guider(*given, of_domain, of_text))
