"""Nodes that say what to train towards: the critic, the regularizers, the layers."""

from comfy_api.v0_0_2 import io

from ...sds import (
    TIMESTEP_SCHEDULES,
    TRAINED_BY_DEFAULT,
    WEIGHTINGS,
    AllLayers,
    DirectionalRegularizer,
    ManualLayers,
    ReconstructionRegularizer,
    TopKLayers,
)
from ..host.guiders import text_guider
from ..types import CATEGORY, ExtraPromptsType, Guidance, GuidanceType, LayersType, RegularizerType, aliases
from .prompt_text import negative_of_guider, prompt_behind


class SDSGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionSDSGuidance",
            display_name="SDS Guidance",
            category=CATEGORY,
            **aliases(
                "stylegan", "score distillation", "text to gan", "prompt", "critic", "timesteps", "guidance scale"
            ),
            description="The diffusion model and the prompt that tell the generator what to draw (score distillation): "
            "MODEL with two prompts, or a GUIDER in their place.",
            inputs=[
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The diffusion model that judges the images. LoRAs and other patches on it count.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="What the generator shall draw, for example a portrait of a werewolf. Long prompts are welcome.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What it shall stay away from; encode an empty prompt for nothing.",
                ),
                io.Guider.Input(
                    "guider",
                    optional=True,
                    tooltip="In place of model, positive, negative and guidance_scale: any guidance that samplers take.",
                ),
                ExtraPromptsType.Input(
                    "extra_prompts", optional=True, tooltip="From Extra Prompt: more prompts, each with its own scale."
                ),
                io.Float.Input(
                    "guidance_scale",
                    default=100.0,
                    min=0.0,
                    max=1000.0,
                    step=0.05,
                    tooltip="How strongly the prompt pulls. 100 for Stable Diffusion (far above the 7 of sampling), "
                    "1 to 2 for the miniature. Too high saturates the colours, too low changes nothing.",
                ),
                io.Float.Input(
                    "t_min",
                    default=0.01,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Lowest timestep, as a fraction of the schedule: 0 is clean. 0.01 is right for nearly everything.",
                ),
                io.Float.Input(
                    "t_max",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Highest timestep, as a fraction: 1 is pure noise. About 0.3 changes the style, 0.5 and more the shape.",
                ),
                io.Int.Input(
                    "image_size",
                    default=0,
                    min=0,
                    max=2048,
                    step=8,
                    tooltip="Side in pixels of the picture that the diffusion model looks at. 0: the size it was trained on.",
                ),
                # What follows came later: graphs saved before it stay valid.
                io.Float.Input(
                    "guidance_end",
                    optional=True,
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="Share of the guidance scale that is left at the last step; it changes steadily. 1 keeps it.",
                ),
                io.Combo.Input(
                    "timestep_schedule",
                    optional=True,
                    options=list(TIMESTEP_SCHEDULES),
                    default="uniform",
                    tooltip="uniform: at random from t_min to t_max. annealed: at random, the largest falling to t_min. "
                    "linear and sqrt: from t_max down to t_min, first shapes, then details.",
                ),
                io.Combo.Input(
                    "weighting",
                    optional=True,
                    options=list(WEIGHTINGS),
                    default="sds",
                    tooltip="How much a timestep counts: sds is sigma^2 as in the paper, uniform the same for all, "
                    "fantasia3d alpha sigma^2, x0 sigma/alpha.",
                ),
            ],
            outputs=[GuidanceType.Output(display_name="guidance", tooltip="For Train Generator.")],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        vae,
        guidance_scale,
        t_min,
        t_max,
        image_size,
        model=None,
        positive=None,
        negative=None,
        guider=None,
        extra_prompts=(),
        guidance_end=1.0,
        timestep_schedule="uniform",
        weighting="sds",
    ) -> io.NodeOutput:
        if t_min > t_max:
            raise ValueError(f"The timestep range {t_min} to {t_max} is empty; set t_min below t_max.")
        given = [name for name, value in (("model", model), ("positive", positive), ("negative", negative)) if value]
        if guider is not None and (given or extra_prompts):
            extra = ["extra_prompts"] if extra_prompts else []
            raise ValueError(
                f"SDS Guidance has a guider and {', '.join(given + extra)}, which the guider brings itself; unlink one of both."
            )
        if guider is None and len(given) < 3:
            raise ValueError("SDS Guidance needs model, positive and negative, or a guider; link them.")
        graph, node = cls.hidden.prompt, cls.hidden.unique_id
        return io.NodeOutput(
            Guidance(
                guider=guider or text_guider(model, positive, negative, guidance_scale, extra_prompts),
                vae=vae,
                guidance_scale=guidance_scale if guider is None else None,
                t_min=t_min,
                t_max=t_max,
                timestep_schedule=timestep_schedule,
                weighting=weighting,
                guidance_end=guidance_end,
                image_size=image_size,
                prompt=prompt_behind(graph, node, "positive" if guider is None else "guider"),
                negative_prompt=prompt_behind(graph, node, "negative")
                if guider is None
                else negative_of_guider(graph, node),
                extra_prompts=prompt_behind(graph, node, "extra_prompts"),
                extra_scales=tuple(scale for _, _, scale in reversed(extra_prompts)),
            )
        )


class ExtraPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionExtraPrompt",
            display_name="Extra Prompt",
            category=CATEGORY,
            **aliases("stylegan", "prompt", "text", "second prompt", "weight", "negative"),
            description="One more prompt for SDS Guidance with a guidance scale of its own: what it pulls towards is added to "
            "what the prompt does.",
            inputs=[
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="What the generator shall draw, too; with a scale below 0, what it shall avoid.",
                ),
                io.Float.Input(
                    "scale",
                    default=30.0,
                    min=-1000.0,
                    max=1000.0,
                    step=0.05,
                    tooltip="How strongly it pulls; below 0 it pushes away. Compare it with guidance_scale, which is that of the "
                    "prompt: 30 beside 100 is about a third of its pull.",
                ),
                ExtraPromptsType.Input("previous", optional=True, tooltip="Another extra prompt, to use both."),
            ],
            outputs=[
                ExtraPromptsType.Output(
                    display_name="extra prompts", tooltip="For SDS Guidance, or for the next Extra Prompt."
                )
            ],
        )

    @classmethod
    def execute(cls, conditioning, scale, previous=()) -> io.NodeOutput:
        return io.NodeOutput((*previous, (f"extra {len(previous) + 1}", conditioning, scale)))


def _regularizer_inputs(default: float, tooltip: str) -> list:
    return [
        io.Float.Input("weight", default=default, min=0.0, max=100.0, step=0.05, tooltip=tooltip),
        RegularizerType.Input("previous", optional=True, tooltip="Another regularizer, to use both."),
    ]


def regularizer_output() -> RegularizerType.Output:
    """Make the output of every regularizer's node."""
    return RegularizerType.Output(
        display_name="regularizer", tooltip="For Train Generator, or for the next regularizer: they add up."
    )


class Directional(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionDirectionalRegularizer",
            display_name="Directional Regularizer",
            category=CATEGORY,
            **aliases("stylegan", "loss", "keep identity", "preserve", "diversity", "collapse"),
            description="Keeps each image close to what the generator drew before: background, position and variety stay.",
            inputs=_regularizer_inputs(
                1.0,
                "Strength. The paper uses 1 for faces and 0.5 for cats; higher stays closer to the original, 0 is off.",
            ),
            outputs=[regularizer_output()],
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
            inputs=_regularizer_inputs(0.5, "Strength. 0.5 is usual; higher stays closer to the original, 0 is off."),
            outputs=[regularizer_output()],
        )

    @classmethod
    def execute(cls, weight, previous=()) -> io.NodeOutput:
        return io.NodeOutput((*previous, ReconstructionRegularizer(weight)))


class LayerSelect(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLayerSelect",
            display_name="Layer Select",
            category=CATEGORY,
            **aliases("stylegan", "layers", "freeze", "unfreeze", "top k", "trainable"),
            description="Chooses which layers of the generator may change. Fewer layers keep more and need more steps. "
            + TRAINED_BY_DEFAULT,
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=["top k", "list", "all"],
                    default="top k",
                    tooltip="top k: in each step the layers that matter most. list: the same ones always. all: the default, the first layer frozen.",
                ),
                io.Int.Input(
                    "k",
                    default=3,
                    min=1,
                    max=17,
                    tooltip="For top k: how many layers a step changes. A 1024-pixel StyleGAN2 has 17, a 64-pixel one 9, a "
                    "StyleGAN3 15.",
                ),
                io.Int.Input(
                    "selection_steps",
                    default=1,
                    min=1,
                    max=20,
                    tooltip="For top k: steps of the search in each training step. 1 costs nothing; each further one costs one more "
                    "evaluation of the diffusion model.",
                ),
                io.String.Input(
                    "layers",
                    default="1, 2, 3",
                    tooltip="For list: numbers and ranges of layers, as 1-3, 6. StyleGAN2: 0 is the 4-pixel one, then two for each "
                    "size. StyleGAN3: 0 is the Fourier input, then 1 to 14.",
                ),
            ],
            outputs=[LayersType.Output(display_name="selected layers", tooltip="For layers of Train Generator.")],
        )

    @classmethod
    def execute(cls, mode, k, selection_steps, layers) -> io.NodeOutput:
        if mode == "all":
            return io.NodeOutput(AllLayers())
        if mode == "top k":
            return io.NodeOutput(TopKLayers(k, selection_steps))
        return io.NodeOutput(ManualLayers.parse(layers))
