"""Nodes that say what to train towards and where: the critic with its prompts, the layers."""

from collections.abc import Sequence

from comfy_api.v0_0_2 import io

from ...sds import TRAINED_BY_DEFAULT, AllLayers, ManualLayers, TopKLayers, TrainSettings
from ...sds.settings import GUIDANCE, LAYERS
from ...sds.views import VIEWS
from ..host.guiders import Extra, same_prompts, text_guider, unknown_words, with_views
from ..host.server import hint
from ..inputs import UNLINKED, advanced, complaint, first_complaint, known_choice, range_inputs, require_range
from ..settings import SettingInputs, settings_from
from ..types import (
    CATEGORY,
    ExtraPromptsType,
    Guidance,
    GuidanceType,
    LayersType,
    SelectedLayers,
    ViewPromptsType,
    aliases,
)
from .prompt_checks import prompt_warnings
from .prompt_text import is_blank, negative_of_guider, prompt_behind

MODES = ("top k", "list", "all")
"""Ways to choose layers."""


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
                advanced(
                    io.Int.Input(
                        "image_size",
                        default=0,
                        min=0,
                        max=2048,
                        step=8,
                        tooltip="Side in pixels of the picture that the diffusion model looks at. 0: the size it was trained on.",
                    )
                ),
                *shown.take("guidance_end", "timestep_schedule", "weighting"),
                *shown.rest(),
                ViewPromptsType.Input(
                    "view_prompts",
                    optional=True,
                    tooltip="From View Prompts, for generators that draw in 3D: what shall be seen from the front, the side and "
                    "the back.",
                ),
            ],
            outputs=[GuidanceType.Output(display_name="guidance", tooltip="For Train Generator.")],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls, t_min, t_max, model=UNLINKED, positive=UNLINKED, negative=UNLINKED, guider=UNLINKED, extra_prompts=UNLINKED
    ):
        links = {"model": model, "positive": positive, "negative": negative, "extra_prompts": extra_prompts}
        linked = [name for name, value in links.items() if value is not UNLINKED]
        return first_complaint(
            complaint(_require_links, linked, guider is not UNLINKED),
            complaint(lambda low, high: TrainSettings(t_min=low, t_max=high), t_min, t_max),
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
        view_prompts=None,
        **inputs,
    ) -> io.NodeOutput:
        settings = settings_from(TrainSettings, GUIDANCE, inputs)
        TrainSettings(**settings)  # raises what is wrong with them
        links = {"model": model, "positive": positive, "negative": negative, "extra_prompts": extra_prompts}
        _require_links([name for name, value in links.items() if value], guider is not None)
        graph, node = cls.hidden.prompt, cls.hidden.unique_id
        critic = guider or text_guider(model, positive, negative, guidance_scale, extra_prompts)
        if view_prompts:
            critic = with_views(critic, view_prompts)
        blank = guider is None and is_blank(graph, node, "positive")
        warnings = prompt_warnings(blank, same_prompts(critic), unknown_words(critic))
        hint(node, "\n".join(warnings))
        return io.NodeOutput(
            Guidance(
                guider=critic,
                vae=vae,
                guidance_scale=guidance_scale if guider is None else None,
                settings=settings,
                image_size=image_size,
                prompt=prompt_behind(graph, node, "positive" if guider is None else "guider"),
                negative_prompt=prompt_behind(graph, node, "negative")
                if guider is None
                else negative_of_guider(graph, node),
                extra_prompts=prompt_behind(graph, node, "extra_prompts"),
                extra_scales=tuple(extra.scale for extra in reversed(extra_prompts)),
                warnings=warnings,
                view_prompts=prompt_behind(graph, node, "view_prompts"),
            )
        )


def _require_links(linked: Sequence[str], has_guider: bool) -> None:
    """Raise ValueError where what is linked is too much or too little."""
    if has_guider and linked:
        raise ValueError(
            f"SDS Guidance has a guider and {', '.join(linked)}, which the guider brings itself; unlink one of both."
        )
    missing = [name for name in ("model", "positive", "negative") if name not in linked]
    if not has_guider and missing:
        raise ValueError(
            f"SDS Guidance needs model, positive and negative, or a guider; link them. Missing: {', '.join(missing)}."
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
                *range_inputs("it"),
            ],
            outputs=[
                ExtraPromptsType.Output(
                    display_name="extra prompts", tooltip="For SDS Guidance, or for the next Extra Prompt."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, start=0.0, end=1.0):
        return complaint(require_range, start, end)

    @classmethod
    def execute(cls, conditioning, scale, previous=(), start=0.0, end=1.0) -> io.NodeOutput:
        require_range(start, end)
        return io.NodeOutput((*previous, Extra(f"extra {len(previous) + 1}", conditioning, scale, start, end)))


class ViewPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        seen = {
            "front": "What shall be seen from the front, in place of the prompt.",
            "side": "What shall be seen from the side: the prompt with ', side view' at its end, for example. Half way to the "
            "front both count half.",
            "back": "What shall be seen from behind. Leave it out where no camera goes there.",
        }
        return io.Schema(
            node_id="StyleGANFusionViewPrompts",
            display_name="View Prompts",
            category=CATEGORY,
            **aliases("stylegan", "3d", "front view", "side view", "back view", "camera", "janus", "eg3d", "prompt"),
            description="Prompts that depend on where the camera stands, for generators that draw in 3D: each sample of a "
            "training is judged by what shall be seen from its side, so that a face does not come out on the back of the head "
            "(as in DreamFusion). A view without a prompt of its own takes that of SDS Guidance.",
            inputs=[io.Conditioning.Input(view, optional=True, tooltip=seen[view]) for view in VIEWS],
            outputs=[ViewPromptsType.Output(display_name="view prompts", tooltip="For SDS Guidance.")],
        )

    @classmethod
    def execute(cls, **prompts) -> io.NodeOutput:
        linked = {view: prompts[view] for view in VIEWS if prompts.get(view) is not None}
        if not linked:
            raise ValueError("View Prompts has no prompt; link one to front, side or back.")
        return io.NodeOutput(linked)


class LayerSelect(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLayerSelect",
            display_name="Layer Select",
            category=CATEGORY,
            **aliases("stylegan", "layers", "freeze", "unfreeze", "top k", "trainable", "styledomain", "style vector"),
            description="Chooses which layers of the generator may change, and what of them. Fewer layers keep more and need "
            f"more steps. {TRAINED_BY_DEFAULT}",
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
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
                *SettingInputs(TrainSettings, LAYERS).rest(),
            ],
            outputs=[LayersType.Output(display_name="selected layers", tooltip="For layers of Train Generator.")],
        )

    @classmethod
    def validate_inputs(cls, mode, layers):
        return complaint(ManualLayers.parse, layers) if mode == "list" else known_choice("mode", mode, MODES)

    @classmethod
    def execute(cls, mode, k, selection_steps, layers, **inputs) -> io.NodeOutput:
        choices = {
            "all": AllLayers,
            "top k": lambda: TopKLayers(k, selection_steps),
            "list": lambda: ManualLayers.parse(layers),
        }
        return io.NodeOutput(SelectedLayers(choices[mode](), settings_from(TrainSettings, LAYERS, inputs)))
