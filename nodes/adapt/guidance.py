"""Nodes that say what to train towards and where: the critic with its prompts, the layers."""

from comfy_api.v0_0_2 import io

from ...sds import TRAINED_BY_DEFAULT, AllLayers, ManualLayers, TopKLayers, TrainSettings
from ...sds.settings import GUIDANCE
from ..host.guiders import text_guider
from ..settings import SettingInputs, settings_from
from ..types import CATEGORY, ExtraPromptsType, Guidance, GuidanceType, LayersType, aliases
from .prompt_text import negative_of_guider, prompt_behind


class SDSGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        shown = SettingInputs(TrainSettings, GUIDANCE)
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
                *shown.take("t_min", "t_max"),
                io.Int.Input(
                    "image_size",
                    default=0,
                    min=0,
                    max=2048,
                    step=8,
                    tooltip="Side in pixels of the picture that the diffusion model looks at. 0: the size it was trained on.",
                ),
                *shown.take("guidance_end", "timestep_schedule", "weighting"),
                *shown.rest(),
            ],
            outputs=[GuidanceType.Output(display_name="guidance", tooltip="For Train Generator.")],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        vae,
        guidance_scale,
        image_size,
        model=None,
        positive=None,
        negative=None,
        guider=None,
        extra_prompts=(),
        **inputs,
    ) -> io.NodeOutput:
        settings = settings_from(TrainSettings, GUIDANCE, inputs)
        TrainSettings(**settings)  # raises what is wrong with them
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
                settings=settings,
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
