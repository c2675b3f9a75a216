"""Nodes of the objective's terms: what pulls the generator, and what holds it back."""

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ...sds import (
    DISTILLATIONS,
    TERMS,
    ClipDirectional,
    DirectionalRegularizer,
    DistributionMatching,
    PerceptualRegularizer,
    ReconstructionRegularizer,
    ScoreDistillation,
    TargetLatents,
    TargetPictures,
    Term,
)
from ...sds.terms.distribution import MATCHING
from ...stylegan.feature_files import WHERE_FROM
from ...training.settings import declared_settings
from .. import clip_space
from ..features import NodeWithFeatures, features_input, load_network
from ..host.clip_vision import HostClipVision
from ..settings import SettingInputs, setting_input, settings_from
from ..types import CATEGORY, TargetsType, TermsType, aliases

_OF_NAME_ALONE = [name for name in DISTILLATIONS if len(declared_settings(TERMS[name])) == 1]
"""Distillations that have no settings but their weight; others have nodes of their own."""


def _weight(term: type[Term]) -> io.Input:
    """Make the input of a term's weight."""
    return setting_input(declared_settings(term)["weight"])


def _previous() -> io.Input:
    return TermsType.Input("previous", optional=True, tooltip="Another regularizer, to use both.")


def _output() -> io.Output:
    return TermsType.Output(
        display_name="regularizer", tooltip="For Train Generator, or for the next regularizer: they add up."
    )


class DistillationTerm(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        choices = "; ".join(f"{name}: {TERMS[name].summary}" for name in _OF_NAME_ALONE)
        return io.Schema(
            node_id="StyleGANFusionDistillationTerm",
            display_name="Distillation Term",
            category=CATEGORY,
            **aliases("stylegan", "score distillation", "sds", "loss", "objective", "guidance"),
            description="Chooses what pulls the generator to the prompt. Without this node that is SDS, the paper's; with it "
            "the term that it names takes its place. Link it between the regularizers and Train Generator.",
            inputs=[
                io.Combo.Input("term", options=list(_OF_NAME_ALONE), default="csd", tooltip=f"{choices}."),
                _weight(ScoreDistillation),
                _previous(),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, term, weight, previous=()) -> io.NodeOutput:
        return io.NodeOutput((*previous, TERMS[term](weight)))


class DistributionMatchingTerm(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        shown = SettingInputs(DistributionMatching, MATCHING)
        return io.Schema(
            node_id="StyleGANFusionDistributionMatching",
            display_name="Distribution Matching",
            category=CATEGORY,
            **aliases("stylegan", "vsd", "dmd", "variational score distillation", "prolificdreamer", "swiftbrush"),
            description="In place of SDS: a second network learns what the generator draws, and the generator moves to where "
            "the diffusion model and that one differ (VSD, DMD). Pictures stay sharper and more varied than with SDS, for "
            "about twice the time. Set the guidance scale of SDS Guidance to 1 to 10. Link it between the regularizers and "
            "Train Generator.",
            inputs=[_weight(DistributionMatching), *shown.rest(), _previous()],
            outputs=[_output()],
            is_experimental=True,
        )

    @classmethod
    def execute(cls, weight, previous=(), **inputs) -> io.NodeOutput:
        return io.NodeOutput(
            (*previous, DistributionMatching(weight, **settings_from(DistributionMatching, MATCHING, inputs)))
        )


class TargetLoss(NodeWithFeatures):
    @classmethod
    def define_schema(cls):
        shown = declared_settings(TargetPictures)
        return io.Schema(
            node_id="StyleGANFusionTargetLoss",
            display_name="Target Loss",
            category=CATEGORY,
            **aliases("stylegan", "loss", "perceptual", "lpips", "edges", "targets"),
            description="Says how pictures are compared with their targets, where pixels and edges alike are not the right "
            "choice: photographs gain from LPIPS with VGG16. In place of the targets input of Train Generator.",
            inputs=[
                TargetsType.Input("targets", tooltip="From Make Targets."),
                *(setting_input(shown[name]) for name in ("weight", "edges", "perceptual")),
                io.Float.Input(
                    "latents",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="How much the latents' differences count, for which Train Generator needs a guidance: the encoder "
                    "of its VAE reads each picture. 0 goes without.",
                ),
                features_input(
                    "The network of LPIPS: that of the miniature, which has seen drawings only, or VGG16 from a file in "
                    f"models/lpips. {WHERE_FROM}. Press R for new files."
                ),
                _previous(),
                setting_input(shown["adversarial"]),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(
        cls, targets, weight, edges, perceptual, latents, features, previous=(), adversarial=TargetPictures.adversarial
    ) -> io.NodeOutput:
        network = load_network(features) if perceptual > 0 else None
        compared = {"edges": edges, "perceptual": perceptual, "features": network, "adversarial": adversarial}
        term = TargetPictures(weight, targets=targets, **compared)
        further = (TargetLatents(latents, targets=targets),) if latents > 0 else ()
        return io.NodeOutput((*previous, term, *further))


class CLIPDirectional(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionCLIPDirectional",
            display_name="CLIP Directional",
            category=CATEGORY,
            **aliases("nada", "clip", "stylegan-nada", "stylegan", "clip guidance", "loss", "distillation"),
            description="Pulls each picture along the way from one text to another, as CLIP sees them (StyleGAN-NADA): without "
            "a guidance in Train Generator, in its place; with a Distillation Term or targets, beside them.",
            inputs=[
                io.ClipVision.Input(
                    "clip_vision", tooltip="A model from Load CLIP Vision, which looks at the pictures."
                ),
                io.Clip.Input(
                    "clip",
                    tooltip=f"The text encoder that belongs to it. {clip_space.PAIRS}. That of a Stable Diffusion 1 "
                    "checkpoint will not do.",
                ),
                io.String.Input(
                    "source_text",
                    default="a portrait of a person",
                    tooltip="What the generator draws as it is, in the form of the other text: photo, say, against sketch.",
                ),
                io.String.Input(
                    "target_text",
                    default="a portrait of a fox",
                    tooltip="What it shall draw. The first 77 tokens count.",
                ),
                _weight(ClipDirectional),
                io.Boolean.Input(
                    "templates",
                    default=True,
                    tooltip="Averages both texts over phrasings, a photo of, a close-up of and others, so that what they mean "
                    "counts more than how they are put. Off for texts that are whole sentences.",
                ),
                _previous(),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, clip_vision, clip, source_text, target_text, weight, templates, previous=()) -> io.NodeOutput:
        clip_space.require_one_space(clip, clip_vision)
        width = clip_space.width_of(clip_vision)
        with torch.inference_mode(False):

            def embed(text: str) -> Tensor:
                with torch.inference_mode():
                    embedded = clip_space.text_embedding(clip, text, width)
                return embedded.clone()  # which a training can use

            given = HostClipVision(clip_vision), embed, source_text, target_text, weight, templates
            return io.NodeOutput((*previous, ClipDirectional.of(*given)))


class Directional(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionDirectionalRegularizer",
            display_name="Directional Regularizer",
            category=CATEGORY,
            **aliases("stylegan", "loss", "keep identity", "preserve", "diversity", "collapse"),
            description="Keeps each image close to what the generator drew before: background, position and variety stay.",
            inputs=[_weight(DirectionalRegularizer), _previous()],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, weight, previous=()) -> io.NodeOutput:
        return io.NodeOutput((*previous, DirectionalRegularizer(weight)))


class Reconstruction(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionReconstructionRegularizer",
            display_name="Reconstruction Regularizer",
            category=CATEGORY,
            **aliases("stylegan", "loss", "keep identity", "preserve", "mse"),
            description="Keeps the denoised image close to the image before training. Used for cats in the paper.",
            inputs=[_weight(ReconstructionRegularizer), _previous()],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, weight, previous=()) -> io.NodeOutput:
        return io.NodeOutput((*previous, ReconstructionRegularizer(weight)))


class LPIPS(NodeWithFeatures):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLPIPSRegularizer",
            display_name="LPIPS Regularizer",
            category=CATEGORY,
            **aliases("stylegan", "loss", "perceptual", "vgg", "keep identity", "preserve"),
            description="Keeps what each image looks like close to what the generator drew before (LPIPS, the perceptual "
            f"distance). The features of the miniature come with this pack; those of VGG16 you put into models/lpips. "
            f"{WHERE_FROM}. Nothing in a file is ever executed.",
            inputs=[
                _weight(PerceptualRegularizer),
                features_input(
                    "The network that compares the images: that of the miniature, which has seen drawings only, or VGG16 "
                    f"from a file in models/lpips. {WHERE_FROM}. Press R for new files."
                ),
                _previous(),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, weight, features, previous=()) -> io.NodeOutput:
        return io.NodeOutput((*previous, PerceptualRegularizer(weight, load_network(features))))
